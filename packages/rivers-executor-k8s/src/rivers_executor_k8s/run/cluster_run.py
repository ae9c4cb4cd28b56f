"""Carry out one run in the cluster: its lease, its session and its attempts, all in the event loop."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
import traceback
from dataclasses import replace
from pathlib import Path

from rivers.protocol import Evidence, StepResult, StepSpec, describe_exception, lost
from rivers.spi import Run, Sink, warning_record
from rivers_executor_k8s.api.client import ApiError, ApiUnreachableError
from rivers_executor_k8s.pod.reuse import is_warm
from rivers_executor_k8s.pod.roles import OPTIONAL
from rivers_executor_k8s.run.adoption import AdoptedAttempt, LeftPods
from rivers_executor_k8s.run.attempt import PodAttempt
from rivers_executor_k8s.run.context import ClusterContext
from rivers_executor_k8s.run.launch import WorkerLaunch
from rivers_executor_k8s.run.lease import LEASE_SECONDS, RunLease
from rivers_executor_k8s.run.orphans import delete_orphans
from rivers_executor_k8s.run.preflight import FirstWorker, is_allowed
from rivers_executor_k8s.run.session import ClusterRunSettings, Session
from rivers_executor_k8s.run.waiting import ANSWER, wait_for
from rivers_executor_k8s.run.warm_attempt import WarmAttempt
from rivers_executor_k8s.run.warm_workers import WarmWorkers
from rivers_worker.identity_file import find_identity, make_identity

__all__ = ["ClusterRun"]

HOLD = 30.0
"""Seconds for which a worker that preflight has left waits for the run's first step."""
DROP = 20.0
"""Seconds for the deletion of a worker that preflight has left for nothing."""
LAST = 2.0
"""Seconds of the deadline of `end` that are kept for the release of the lease."""


class ClusterRun:
    """One run in the cluster, from `begin` to `end`; `end` is also called after a `begin` that raised."""

    def __init__(self, context: ClusterContext, run: Run, emit: Sink, prepared: FirstWorker | None = None) -> None:
        self._prepared = prepared
        self._context = context
        self._run = run
        self._emit = emit
        self._attempts: dict[str, PodAttempt] = {}
        self._lease: RunLease | None = None
        self._session: Session | None = prepared.session if prepared is not None else None
        self._left: LeftPods | None = None
        self._workers: WarmWorkers | None = None
        self._running: set[asyncio.Task[None]] = set()
        self._cleaning: asyncio.Task[None] | None = None
        self._hurry = False

    async def begin(self) -> None:
        """Take the run's lease, and start to watch its pods.

        Raises:
            RunLeaseHeldError: another controller carries out this run.
            ApiError, ApiUnreachableError: the API server refuses, or does not answer.
        """
        run, cluster = self._run, self._context.cluster
        settings = await self._context.settings_for(run.run_id, key=run.key)
        self._lease = self._make_lease(settings)
        text = f"the cluster at {cluster.server} has not answered yet"
        now = await wait_for(self._lease.take(self._warn), lambda: text, self._warn, calm=ANSWER)
        settings = await self._context.settings_for(run.run_id, epoch=self._lease.epoch, key=run.key)
        if run.folder is not None:
            await self._begin_durable(settings, run.folder)
        else:
            await self._begin_session(settings)
        self._cleaning = asyncio.ensure_future(self._clean_up(now))

    def _make_lease(self, settings: ClusterRunSettings) -> RunLease:
        run = self._run
        if run.folder is None:
            return RunLease(self._context.cluster, run.run_id, settings.owner)
        # It outlives its controller, and so do the pods that it owns, for as long as their workers wait for another.
        lasts = LEASE_SECONDS + settings.executor.orphan_ttl
        return RunLease(self._context.cluster, run.run_id, None, epoch=run.epoch, lasts=lasts)

    async def _begin_durable(self, settings: ClusterRunSettings, folder: Path) -> None:
        """Begin with the identity that workers of earlier controllers know, and look for their pods."""
        assert self._lease is not None
        if self._prepared is not None:
            # It trusts another certificate, and belongs to this controller's pod.
            await self._prepared.close(time.monotonic() + DROP)
            self._prepared = self._session = None
        # Kubernetes would delete pods that are to be kept with their owner.
        owner = None if settings.executor.keep_failed_pods else self._lease.as_owner
        settings = replace(settings, owner=owner, durable=True)
        identity = find_identity(folder, self._run.run_id)
        # Workers know no other identity: without it their attempts are lost, and their pods are deleted.
        attempts = self._run.open_attempts if identity is not None else {}
        identity = identity or make_identity(folder, self._run.run_id)
        self._session = Session(self._context.cluster, settings, self._emit, identity, folder)
        await self._session.start()
        self._session.hold_lease(settings, self._emit)
        self._left = LeftPods(self._session, attempts)
        await self._left.find()

    async def _begin_session(self, settings: ClusterRunSettings) -> None:
        assert self._lease is not None
        if self._session is None:
            self._session = Session(self._context.cluster, settings, self._emit)
            await self._session.start()
        self._session.hold_lease(settings, self._emit)
        if self._lease.epoch:
            self._drop_prepared()  # its worker would obey the controller before
        elif self._prepared is not None:
            asyncio.get_running_loop().call_later(HOLD, self._drop_prepared)

    def submit(self, spec: StepSpec) -> None:
        """Start an attempt."""
        assert self._session is not None
        launch = None
        if self._prepared is not None and self._prepared.attempt_id == spec.attempt_id:
            launch, self._prepared = self._prepared.launch, None
        self._start(self._new_attempt(spec, self._session, launch), self._session)

    def adopt(self, spec: StepSpec) -> None:
        """Go on with an attempt that an earlier controller has submitted."""
        assert self._session is not None
        assert self._left is not None
        known = self._run.open_attempts[spec.attempt_id]
        pods = self._left.find_candidates(known)
        self._start(AdoptedAttempt(spec, self._session, known, pods), self._session)

    def _start(self, attempt: PodAttempt, session: Session) -> None:
        self._attempts[attempt.spec.attempt_id] = attempt
        self._count_cold_attempts()
        running = session.spawn(self._run_attempt(attempt))
        self._running.add(running)
        running.add_done_callback(self._running.discard)

    def _new_attempt(self, spec: StepSpec, session: Session, launch: WorkerLaunch | None) -> PodAttempt:
        if not is_warm(spec, session.executor):
            return PodAttempt(spec, session, launch)
        if self._workers is None:
            self._workers = WarmWorkers(session)
        return WarmAttempt(spec, session, self._workers, launch)

    def _count_cold_attempts(self) -> None:
        """Let idle workers make room for pods that serve one attempt: together they are at most as many as asked."""
        # Without a limit there may be thousands of attempts, and nothing to make room for.
        if self._workers is not None and self._workers.is_limited:
            self._workers.count_others(sum(not isinstance(one, WarmAttempt) for one in self._attempts.values()))

    def cancel(self, attempt_id: str, grace: float) -> None:
        """Cancel an attempt; one that is over is left alone."""
        self._hurry = True
        attempt = self._attempts.get(attempt_id)
        if attempt is not None:
            attempt.cancel(grace)

    async def end(self, deadline: float) -> None:
        """Cancel all attempts, delete all pods and release the lease, in about `deadline` seconds at most."""
        until = time.monotonic() + deadline
        self._drop_prepared()
        for attempt in list(self._attempts.values()):
            attempt.cancel(0.0)
        problems: list[str] = []
        if self._running:
            await asyncio.wait(self._running, timeout=max(0.0, until - LAST - time.monotonic()))
        if self._workers is not None:
            await self._workers.close(until - LAST - time.monotonic())
        if self._session is not None:
            try:
                problems = await self._session.close(until - LAST)
            except (ApiError, ApiUnreachableError) as error:
                problems = [f"the pods of the run could not be listed: {error}"]
        if self._cleaning is not None:
            if not self._hurry:  # a cancelled run does not wait for the pods of others
                await asyncio.wait((self._cleaning,), timeout=max(0.0, until - LAST - time.monotonic()))
            self._cleaning.cancel()
            await asyncio.wait((self._cleaning,), timeout=1.0)
        if self._lease is not None:
            await self._lease.release()
        for problem in problems:
            self._warn(problem)

    def _drop_prepared(self) -> None:
        """Delete the pod that was prepared, where no step has come for it."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            prepared.session.spawn(prepared.launch.release())

    async def _run_attempt(self, attempt: PodAttempt) -> None:
        try:
            result = await attempt.run()
        except Exception as error:  # noqa: BLE001 - a bug of ours ends only the attempt that meets it
            result = _bug(attempt, error)
        self._attempts.pop(attempt.spec.attempt_id, None)
        self._count_cold_attempts()
        if not attempt.is_reported:
            self._emit(result)

    async def _clean_up(self, now: dt.datetime) -> None:
        """Report optional rights that are missing, and delete pods of dead controllers, while the first steps run."""
        cluster = self._context.cluster
        try:
            for permission in OPTIONAL:
                if not await is_allowed(cluster, permission):
                    self._warn(f"this user may not {permission}, so it cannot report {permission.why}")
            count = await delete_orphans(cluster, self._run.run_id, now)
        except (ApiError, ApiUnreachableError) as error:
            self._warn(f"pods of dead controllers could not be listed: {error}")
            return
        if count:
            self._warn(f"deleted {count} pods of controllers that are gone")

    def _warn(self, text: str) -> None:
        self._emit(warning_record(text, logger="rivers.kubernetes"))


def _bug(attempt: PodAttempt, error: BaseException) -> StepResult:
    trace = "".join(traceback.format_exception(error))[-4000:]
    detail = f"a bug in rivers-executor-k8s: {describe_exception(error)}\n{trace}"
    return lost(attempt.spec.attempt_id, Evidence(worker=attempt.name, detail=detail))
