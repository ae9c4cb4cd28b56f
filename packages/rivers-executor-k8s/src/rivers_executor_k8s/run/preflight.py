"""Find all that the cluster would refuse before the first pod of a run.

    permissions ──▶ image ──▶ pod template ──▶ dry run of each distinct pod ──▶ one pod that looks up every ref
    (reviews)                                  (admission, quota)               (the handshake)

The pod is the one of the first step's first attempt: where all refs were found, that attempt runs in it. Otherwise no
object is left behind. The last stage is given up if its pod cannot start soon (a full cluster, a slow registry): the
attempts wait for that, and report it as preflight does.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import msgspec
from msgspec.structs import replace

from rivers.exceptions import ConfigurationError, Problem, SpecDecodeError
from rivers.protocol import LiteralInput, StepSpec
from rivers.spi import Sink, warning_record
from rivers_executor_k8s.api.client import ApiError, ApiUnreachableError
from rivers_executor_k8s.api.namespace import Cluster, PodRefusedError
from rivers_executor_k8s.pod.classify import classify_pod_end
from rivers_executor_k8s.pod.reuse import is_warm
from rivers_executor_k8s.pod.roles import Permission, required_permissions, role_yaml
from rivers_executor_k8s.run.context import ClusterContext
from rivers_executor_k8s.run.launch import WorkerLaunch
from rivers_executor_k8s.run.session import Session
from rivers_executor_k8s.run.startup import StartError
from rivers_executor_k8s.run.waiting import ANSWER, wait_for
from rivers_worker.client import WorkerError

__all__ = ["FirstWorker", "dry_runs", "is_allowed", "missing_permissions", "preflight", "probe", "refs_of"]

T = TypeVar("T")

DRY_RUN_STEP = "preflight"
PROBE_CLOSE = 20.0
PROBE_PATIENCE = 20.0
"""Seconds for the pod that looks up refs, all in all; with an image that the node has it takes two."""


@dataclass(frozen=True)
class FirstWorker:
    """The connected worker of a run's first attempt, after a preflight without problems, and the run's session."""

    session: Session
    attempt_id: str
    launch: WorkerLaunch

    async def close(self, until: float) -> None:
        """Delete the pod; `until` is a moment of the monotonic clock."""
        await self.launch.release()
        await self.session.close(until)


async def preflight(
    context: ClusterContext, specs: Sequence[StepSpec], emit: Sink
) -> tuple[list[Problem], FirstWorker | None]:
    """Return the problems that the cluster would find, or the first step's worker; `emit` takes reports of waits.

    What was good in an earlier run is not asked again, and then nothing is prepared.
    """

    def report(text: str) -> None:
        emit(warning_record(f"preflight waits: {text}", logger="rivers.kubernetes"))

    try:
        return await _preflight(context, specs, report)
    except (ApiError, ApiUnreachableError) as error:
        return [Problem(f"the cluster at {context.cluster.server} cannot be asked: {error}")], None
    except ConfigurationError as error:
        hint = f" ({error.hint})" if error.hint else ""
        return [Problem(error.message + hint)], None


async def _preflight(
    context: ClusterContext, specs: Sequence[StepSpec], report: Callable[[str], None]
) -> tuple[list[Problem], FirstWorker | None]:
    async def answer(question: Coroutine[Any, Any, T]) -> T:
        text = f"the cluster at {context.cluster.server} has not answered yet"
        return await wait_for(question, lambda: text, report, calm=ANSWER)

    are_warm = any(is_warm(spec, context.executor) for spec in specs)
    if problems := await answer(missing_permissions(context.cluster, are_warm)):
        return problems, None
    settings = await answer(context.settings_for(specs[0].run_id))
    session = Session(context.cluster, settings, lambda event: None)
    if problems := await answer(dry_runs(session, specs)):
        return problems, None
    distinct = refs_of(specs)
    unseen = {key: spec for key, spec in distinct.items() if (settings.image, key) not in context.checked}
    if not unseen:
        return [], None
    await session.start()
    prepared: FirstWorker | None = None
    try:
        pod = f"pod in namespace {session.cluster.namespace!r}"
        problems, prepared = await probe(
            session, specs[0], list(unseen.values()), lambda text: report(f"for its {pod}: {text}")
        )
    finally:
        if prepared is None:
            await _finish(session.close(time.monotonic() + PROBE_CLOSE))
    if not problems:
        context.checked.update((settings.image, key) for key in unseen)
    return problems, prepared


async def _finish(closing: Coroutine[Any, Any, object]) -> None:
    """Await it to its end, also where this task is cancelled meanwhile: it deletes the pod."""
    task = asyncio.ensure_future(closing)
    try:
        await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,), timeout=PROBE_CLOSE)
        raise


async def missing_permissions(cluster: Cluster, are_warm: bool = False) -> list[Problem]:
    """Return one problem with all rights that a run needs and this user lacks, and the Role to apply.

    `are_warm` is True if pods serve several steps.
    """
    needed = required_permissions(cluster.outside, are_warm)
    answers = await asyncio.gather(*(is_allowed(cluster, permission) for permission in needed))
    missing = [str(permission) for permission, allowed in zip(needed, answers, strict=True) if not allowed]
    if not missing:
        return []
    role = role_yaml(cluster.namespace, cluster.outside, are_warm)
    text = (
        f"in namespace {cluster.namespace!r} this user may not {'; '.join(missing)}; the Role that is needed:\n{role}"
    )
    return [Problem(text)]


async def is_allowed(cluster: Cluster, permission: Permission) -> bool:
    """Return whether this user has a right."""
    return await cluster.is_allowed(
        permission.verb, permission.resource, subresource=permission.subresource, group=permission.group
    )


async def dry_runs(session: Session, specs: Sequence[StepSpec]) -> list[Problem]:
    """Return a problem for each distinct pod that the API server refuses in a dry run."""
    shapes: dict[object, list[StepSpec]] = {}
    for spec in specs:
        shapes.setdefault((spec.compute, spec.timeout), []).append(spec)
    problems: list[Problem] = []
    for alike in shapes.values():
        try:
            await session.cluster.dry_run(session.build_manifest(_named(alike[0], session.settings.run_id)))
        except PodRefusedError as error:
            if not error.transient:
                names = ", ".join(spec.step for spec in alike[:5]) + (" and more" if len(alike) > 5 else "")
                problems.append(Problem(f"the cluster refuses the pod of {names}: {error}"))
    return problems


async def probe(
    session: Session, first: StepSpec, specs: Sequence[StepSpec], report: Callable[[str], None]
) -> tuple[list[Problem], FirstWorker | None]:
    """Return a problem for each ref that the workers' image cannot resolve, or one for the image itself.

    The pod of the first step's first attempt resolves them; without problems it is prepared to run that. If it does not
    start in time, there is neither.
    """
    launch = WorkerLaunch(first, session, report, patient=False)
    checking = asyncio.ensure_future(_look_up_refs(launch, specs))
    found: list[tuple[int, str]] | None = None
    try:
        await asyncio.wait((checking,), timeout=PROBE_PATIENCE)
        found = checking.result() if checking.done() else None
    except SpecDecodeError as error:  # one is too large, or holds an object of this process
        return [Problem(error.message)], None
    except (PodRefusedError, StartError) as error:
        # The attempts wait for what may pass.
        where = f"pod {launch.name} in namespace {session.cluster.namespace!r}"
        return ([] if error.transient else [Problem(f"{where}: {error}")]), None
    except (WorkerError, ApiError, ApiUnreachableError):
        return [], None  # the attempts meet it again, and have retries
    finally:
        if found is None or found:
            await _give_up(checking, launch)
    if found == []:
        return [], FirstWorker(session, first.attempt_id, launch)
    image = session.settings.image
    return [
        Problem(f"the image {image!r} cannot run it: {text}", specs[index].step) for index, text in found or ()
    ], None


async def _give_up(checking: asyncio.Task[list[tuple[int, str]] | None], launch: WorkerLaunch) -> None:
    """End the look-up, and delete its pod."""
    checking.cancel()
    await asyncio.wait((checking,), timeout=PROBE_CLOSE)
    await launch.release()


async def _look_up_refs(launch: WorkerLaunch, specs: Sequence[StepSpec]) -> list[tuple[int, str]] | None:
    """Return the positions of specs that the launched worker cannot run, and why; None if it ended before."""
    await launch.start()
    asking = asyncio.ensure_future(_check_specs(launch, specs))
    over = asyncio.ensure_future(launch.view.wait_until_over())
    try:
        await asyncio.wait((asking, over), return_when=asyncio.FIRST_COMPLETED)
        if asking.done():
            return asking.result()
    finally:
        asking.cancel()
        over.cancel()
        await asyncio.wait((asking, over), timeout=PROBE_CLOSE)
    result = classify_pod_end("", launch.view.pod, gone=launch.view.gone, cancelled=False, started=False)
    if result.failure is not None and not result.failure.transient:
        raise StartError(result.failure.message, transient=False)
    return None


async def _check_specs(launch: WorkerLaunch, specs: Sequence[StepSpec]) -> list[tuple[int, str]]:
    client = await launch.connect()
    return await client.check(specs)


def refs_of(specs: Iterable[StepSpec]) -> dict[bytes, StepSpec]:
    """Return one spec for each distinct set of refs, which is its key: the steps of a big graph share most of them."""
    distinct: dict[bytes, StepSpec] = {}
    for spec in specs:
        handlers = [value.io_handler for value in spec.inputs if hasattr(value, "io_handler")]
        objects = [value.ref for value in spec.inputs if hasattr(value, "ref")]
        # A worker with a list of modules also checks commands and constants.
        literals = [value for value in spec.inputs if isinstance(value, LiteralInput)]
        own = [spec.function, spec.graph, handlers, objects, literals, [output.io_handler for output in spec.outputs]]
        key = msgspec.msgpack.encode([own, spec.inner])
        distinct.setdefault(key, spec)
    return distinct


def _named(spec: StepSpec, run_id: str) -> StepSpec:
    """Return the spec under a name that no attempt has: a dry run fails where the name is taken."""
    return replace(spec, step=DRY_RUN_STEP, attempt_id=f"{run_id}-{DRY_RUN_STEP}")
