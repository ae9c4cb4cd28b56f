"""Before the first pod: what the cluster would refuse, found at once and all together.

    permissions ──▶ image ──▶ pod template ──▶ dry run of each distinct pod ──▶ one pod that looks up every ref
    (reviews)                                  (admission, quota)               (the handshake)

Nothing of it is left. The last one is given up when its pod cannot start soon (a full cluster, a slow registry): the
attempts themselves then tell what they wait for.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterable, Sequence

import msgspec
from msgspec.structs import replace

from rivers.exceptions import ConfigurationError, Problem
from rivers.protocol import Ending, StepResult, StepSpec
from rivers_executor_k8s.api.client import ApiError, ApiUnreachableError
from rivers_executor_k8s.api.namespace import Cluster, PodRefusedError
from rivers_executor_k8s.pod.pending import Cause
from rivers_executor_k8s.pod.roles import Permission, required, role_yaml
from rivers_executor_k8s.run.attempt import Attempt
from rivers_executor_k8s.run.context import Connection
from rivers_executor_k8s.run.session import Session
from rivers_worker.client import WorkerClient

__all__ = ["dry_runs", "is_allowed", "missing_permissions", "preflight", "probe", "refs_of"]

PROBE_STEP = "preflight"
PROBE_CLOSE = 20.0
PROBE_PATIENCE = 20.0
"""Seconds that the pod which looks up refs gets, all in all; images that are here already take two of them."""


async def preflight(context: Connection, specs: Sequence[StepSpec]) -> list[Problem]:
    """What the cluster would refuse. What was found good once is not asked again."""
    try:
        return await _preflight(context, specs)
    except (ApiError, ApiUnreachableError) as error:
        return [Problem(f"the cluster at {context.cluster.server} cannot be asked: {error}")]
    except ConfigurationError as error:
        hint = f" ({error.hint})" if error.hint else ""
        return [Problem(error.message + hint)]


async def _preflight(context: Connection, specs: Sequence[StepSpec]) -> list[Problem]:
    if problems := await missing_permissions(context.cluster):
        return problems
    setting = await context.setting(f"{specs[0].run_id}-preflight")
    session = Session(context.cluster, setting, lambda event: None)
    if problems := await dry_runs(session, specs):
        return problems
    distinct = refs_of(specs)
    unseen = {key: spec for key, spec in distinct.items() if (setting.image, key) not in context.checked}
    if not unseen:
        return []
    await session.start()
    try:
        problems = await probe(session, list(unseen.values()))
    finally:
        await asyncio.shield(session.close(time.monotonic() + PROBE_CLOSE))
    if not problems:
        context.checked.update((setting.image, key) for key in unseen)
    return problems


async def missing_permissions(cluster: Cluster) -> list[Problem]:
    """What this user may not do and a run needs, as one problem with the Role to apply; optional verbs are left out."""
    needed = required(cluster.outside)
    answers = await asyncio.gather(*(is_allowed(cluster, permission) for permission in needed))
    missing = [str(permission) for permission, allowed in zip(needed, answers, strict=True) if not allowed]
    if not missing:
        return []
    role = role_yaml(cluster.namespace, outside=cluster.outside)
    text = (
        f"in namespace {cluster.namespace!r} this user may not {'; '.join(missing)}; the Role that is needed:\n{role}"
    )
    return [Problem(text)]


async def is_allowed(cluster: Cluster, permission: Permission) -> bool:
    """Whether this user has that right."""
    return await cluster.allowed(
        permission.verb, permission.resource, subresource=permission.subresource, group=permission.group
    )


async def dry_runs(session: Session, specs: Sequence[StepSpec]) -> list[Problem]:
    """What the API server says of each distinct pod without making it: one problem for each that it refuses."""
    shapes: dict[object, list[StepSpec]] = {}
    for spec in specs:
        shapes.setdefault((spec.compute, spec.timeout), []).append(spec)
    problems: list[Problem] = []
    for alike in shapes.values():
        try:
            await session.cluster.dry_run(session.manifest(_named(alike[0], session.setting.run_id, PROBE_STEP)))
        except PodRefusedError as error:
            if not error.transient:
                names = ", ".join(spec.step for spec in alike[:5]) + (" and more" if len(alike) > 5 else "")
                problems.append(Problem(f"the cluster refuses the pod of {names}: {error}"))
    return problems


class Probed(Attempt):
    """A pod that runs no body: its worker looks up the refs of all specs. `found` says which lead nowhere."""

    hurry = True

    def __init__(self, session: Session, specs: Sequence[StepSpec]) -> None:
        first = _named(specs[0], session.setting.run_id, PROBE_STEP)
        super().__init__(replace(first, compute=None, timeout=None), session)
        self.found: list[tuple[StepSpec, str]] = []
        self._specs = specs

    def pends(self, cause: Cause) -> None:
        """What may pass is waited for by the attempts, who can say so."""
        if not cause.fatal:
            self.cancel(0.0)

    async def deal(self, client: WorkerClient) -> StepResult:
        """Ask instead of executing."""
        self.found = [(self._specs[index], text) for index, text in await client.check(self._specs)]
        return StepResult(attempt_id=self.spec.attempt_id, ending=Ending.SUCCEEDED)


async def probe(session: Session, specs: Sequence[StepSpec]) -> list[Problem]:
    """What the workers' image lacks: a problem for each ref that leads nowhere there, or for an image that cannot run.

    Nothing is found where the pod does not start in time.
    """
    probed = Probed(session, specs)
    running = asyncio.ensure_future(probed.run())
    try:
        await asyncio.wait((running,), timeout=PROBE_PATIENCE)
    finally:
        if not running.done():
            probed.cancel(0.0)
            await asyncio.wait((running,), timeout=PROBE_PATIENCE)
    result = running.result() if running.done() and not running.cancelled() else None
    if result is None or result.ending is Ending.CANCELLED:
        return []
    if result.ending is not Ending.SUCCEEDED:
        failure = result.failure
        hopeless = failure is not None and not failure.transient
        return [Problem(failure.message)] if hopeless and failure is not None else []
    return [
        Problem(f"the image {session.setting.image!r} cannot run it: {text}", spec.step) for spec, text in probed.found
    ]


def refs_of(specs: Iterable[StepSpec]) -> dict[bytes, StepSpec]:
    """One spec for each distinct set of refs, which is its key: the steps of a big graph share most of them."""
    distinct: dict[bytes, StepSpec] = {}
    for spec in specs:
        handlers = [value.io_handler for value in spec.inputs if hasattr(value, "io_handler")]
        objects = [value.ref for value in spec.inputs if hasattr(value, "ref")]
        inner = [step.function for step in spec.inner]
        key = msgspec.msgpack.encode([spec.function, handlers, objects, [o.io_handler for o in spec.outputs], inner])
        distinct.setdefault(key, spec)
    return distinct


def _named(spec: StepSpec, run_id: str, step: str) -> StepSpec:
    return replace(spec, run_id=run_id, step=step, attempt_id=f"{run_id}-{step}")
