"""Keep the warm workers of a run: start them in pods, give them to attempts, delete the pods when they are done.

    lease ──▶ idle worker of the shape, or a new pod ──▶ attempt ──▶ idle ──▶ deleted: idle_ttl, used up, not clean
                                                                      └── pod ends by itself: discarded

`rivers_worker.pool` decides which worker is given, started and stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from typing import Protocol

from rivers.protocol import Compute, StepResult, StepSpec
from rivers_executor_k8s.api.client import ApiError, ApiUnreachableError
from rivers_executor_k8s.pod.manifest import build_shape
from rivers_executor_k8s.pod.names import describe_attempt
from rivers_executor_k8s.run.launch import WorkerLaunch
from rivers_executor_k8s.run.session import MAX_PENDING, Session
from rivers_worker.client import WorkerClient, WorkerError
from rivers_worker.pool import StartedWorker, WarmPool, WorkerLease, WorkerRequest
from rivers_worker.pool.reuse import imported_modules

__all__ = ["WarmWorker", "WarmWorkers", "WorkerStartError"]

LABEL_AFTER = 0.5
"""Seconds before a pod's labels follow its attempt: one that is over by then needs no request for that."""
LABEL_WITHIN = 5.0
DISCONNECT_WITHIN = 5.0
ALIVE_WITHIN = 2.0
"""Seconds for the answer of an idle worker whose connection has broken."""

_log = logging.getLogger("rivers.kubernetes")


class WorkerStartError(Exception):
    """A worker that has not started; `result` is that of the attempt it was started for."""

    def __init__(self, result: StepResult) -> None:
        super().__init__(str(result.failure.message if result.failure is not None else result.ending))
        self.result = result


class LeaseHolder(Protocol):
    """An attempt that waits for a worker or has one."""

    spec: StepSpec

    @property
    def is_waiting(self) -> bool:
        """True while it has no worker."""

    def report(self, why: str) -> None:
        """Report what its pod waits for."""

    def take_launch(self) -> WorkerLaunch:
        """Return the launch of a worker for it."""

    async def explain_start(self, launch: WorkerLaunch, error: Exception | None) -> StepResult:
        """Return the result of this attempt if its worker has not started."""


class WarmWorker:
    """A worker for many attempts: its pod, an open connection to it, and the result of the last attempt."""

    def __init__(self, launch: WorkerLaunch, client: WorkerClient, spec: StepSpec) -> None:
        self.launch = launch
        self.client = client
        self.result: StepResult | None = None
        self.has_served = False
        self._wanted = self._labelled = spec
        self._labelling: asyncio.Task[None] | None = None

    async def is_alive(self) -> bool:
        """Return True if it can get an attempt: its pod runs, and it answers."""
        if self.launch.view.is_over:
            return False
        if self.client.is_connected:
            return True
        with contextlib.suppress(WorkerError):
            await self.client.connect(ALIVE_WITHIN)
            return True
        return False

    def begin(self, spec: StepSpec, session: Session) -> None:
        """Take notice of its next attempt, which the labels of its pod name soon."""
        self._wanted = spec
        if self._labelling is None or self._labelling.done():
            self._labelling = asyncio.ensure_future(self._label_later(session))

    async def label(self, session: Session) -> None:
        """Have the labels and annotations of the pod name its last attempt."""
        pod = self.launch.view.pod
        wanted = self._wanted
        if pod is None or wanted is self._labelled:
            return
        try:
            async with asyncio.timeout(LABEL_WITHIN):
                await session.cluster.patch_pod(pod.metadata.name, pod.metadata.uid, describe_attempt(wanted))
            self._labelled = wanted
        except (ApiError, ApiUnreachableError, TimeoutError) as error:
            _log.warning("the labels of pod %s do not name its attempt: %s", pod.metadata.name, error)

    def stop_labelling(self) -> None:
        """Label the pod no more."""
        if self._labelling is not None:
            self._labelling.cancel()

    async def _label_later(self, session: Session) -> None:
        wanted: StepSpec | None = None
        # Another attempt may begin while the request is under way.
        while wanted is not self._wanted:
            await asyncio.sleep(LABEL_AFTER)
            wanted = self._wanted
            await self.label(session)


class WarmWorkers:
    """The warm workers of one run, used in the event loop only."""

    def __init__(self, session: Session) -> None:
        executor = session.executor
        self._session = session
        self._limit = executor.max_concurrent_steps
        self._shapes: dict[Compute | None, str] = {}
        self._holders: dict[LeaseHolder, str] = {}
        self._watches: dict[WarmWorker, asyncio.Task[None]] = {}
        self._pool: WarmPool[WarmWorker] = WarmPool(
            self._start,
            self._stop,
            limit=self._limit,
            max_starting=MAX_PENDING,
            idle_ttl=executor.idle_ttl,
            max_attempts=executor.max_steps_per_worker,
        )

    @property
    def is_limited(self) -> bool:
        """True if only so many pods may exist at once."""
        return self._limit is not None

    @contextlib.asynccontextmanager
    async def lease(self, holder: LeaseHolder) -> AsyncIterator[WorkerLease[WarmWorker]]:
        """Yield the lease of a worker for an attempt.

        Raises:
            WorkerStartError: a worker was started for this attempt, and has failed.
        """
        shape = self._shape_of(holder.spec)
        request = WorkerRequest(shape=shape, modules=imported_modules(holder.spec), spec=holder)
        self._holders[holder] = shape
        try:
            async with self._pool.lease(request) as lease:
                yield lease
        finally:
            self._holders.pop(holder, None)

    def count_others(self, count: int) -> None:
        """Leave room for `count` pods of attempts that share none."""
        if self._limit is not None:
            self._pool.set_limit(max(0, self._limit - count))

    async def close(self, within: float) -> None:
        """Request the deletion of all pods."""
        await self._pool.close(max(0.1, within))

    def report(self, asker: LeaseHolder, text: str) -> None:
        """Report what a pod waits for to whoever waits for it: its asker may have another worker by now."""
        shape = self._holders.get(asker) or self._shape_of(asker.spec)
        waiting = (holder for holder, other in self._holders.items() if other == shape and holder.is_waiting)
        holder = asker if asker in self._holders and asker.is_waiting else next(waiting, None)
        if holder is not None:
            holder.report(text)

    def discard(self, worker: WarmWorker) -> None:
        """Take notice that a worker does not answer."""
        self._pool.discard(worker)

    # ── callbacks of the pool ──

    async def _start(self, request: WorkerRequest) -> StartedWorker[WarmWorker]:
        holder: LeaseHolder = request.spec
        launch = holder.take_launch()
        error: Exception | None = None
        try:
            client = await self._connect(launch)
        except asyncio.CancelledError:
            await launch.release()
            raise
        except Exception as raised:  # noqa: BLE001 - it becomes the attempt's result
            client, error = None, raised
        if client is None or launch.hello is None:
            result: StepResult | None = None
            try:
                result = await holder.explain_start(launch, error)
            finally:
                await launch.release(result)
            raise WorkerStartError(result) from error
        worker = WarmWorker(launch, client, holder.spec)
        self._watches[worker] = asyncio.ensure_future(self._discard_when_over(worker))
        # One that takes a single attempt knows no sessions, and takes only the attempt that it was started with.
        left = launch.hello.attempts_left
        return StartedWorker(worker, attempts=max(1, left), bound=left <= 1)

    async def _stop(self, worker: WarmWorker, reason: str) -> None:
        self._watches.pop(worker).cancel()
        worker.stop_labelling()
        await worker.launch.release(worker.result)

    async def _connect(self, launch: WorkerLaunch) -> WorkerClient | None:
        """Return the client of a worker in a new pod; None if the pod has ended."""
        await launch.start()
        connecting = asyncio.ensure_future(launch.connect())
        over = asyncio.ensure_future(launch.view.wait_until_over())
        try:
            await asyncio.wait((connecting, over), return_when=asyncio.FIRST_COMPLETED)
            return connecting.result() if connecting.done() else None
        finally:
            over.cancel()
            connecting.cancel()
            await asyncio.wait((connecting, over), timeout=DISCONNECT_WITHIN)

    async def _discard_when_over(self, worker: WarmWorker) -> None:
        await worker.launch.view.wait_until_over()
        self._pool.discard(worker)

    def _shape_of(self, spec: StepSpec) -> str:
        # Of all that is in a spec, only the resources go into what pods have in common (test_shape).
        if spec.compute not in self._shapes:
            self._shapes[spec.compute] = build_shape(self._session.build_manifest(spec))
        return self._shapes[spec.compute]
