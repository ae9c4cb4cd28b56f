"""Keep the remote workers of a run: start them on a platform, dial them, give them to attempts, end them.

    lease ──▶ idle worker of the shape, or a new one ──▶ attempt ──▶ idle ──▶ stopped: idle_ttl, used up, not clean
                                                                       └── ends by itself: discarded

`rivers_worker.pool` decides which worker is given, started and stopped.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass

from rivers.protocol import StepSpec
from rivers_worker.client import Deadlines, Identity, WorkerClient, WorkerError
from rivers_worker.pool import StartedWorker, WarmPool, WorkerLease, WorkerRequest
from rivers_worker.pool.reuse import imported_modules
from rivers_worker.remote.platform import RemoteWorker, StartRefusedError, WorkerOrder, WorkerPlatform

__all__ = ["DialledWorker", "RemoteSettings", "RemoteWorkers"]

ALIVE_WITHIN = 2.0
"""Seconds for the answer of an idle worker whose connection has broken."""
STOP_WITHIN = 30.0
IDLE_SLACK = 10.0
"""Seconds for which an unused worker outlives `idle_ttl`, in case nobody stops it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RemoteSettings:
    """The settings of an executor's workers; times are in seconds.

    With `is_warm` a worker serves up to `max_steps_per_worker` attempts of its run, and ends when it was idle for
    `idle_ttl`; otherwise one. At most `max_workers` exist at once (None: any number), and at most `max_starting` start.
    `orphan_ttl` is the time without a controller after which a worker ends by itself, `grace` that of a body to end
    after a cancel, `startup_timeout` that from the order of a worker to its answer. `lost_after` is the time without
    contact after which a worker whose platform reports no end is given up.
    """

    is_warm: bool = False
    max_workers: int | None = None
    max_starting: int = 100
    max_steps_per_worker: int = 100
    idle_ttl: float = 60.0
    startup_timeout: float = 300.0
    orphan_ttl: float = 120.0
    grace: float = 10.0
    lost_after: float = 60.0
    allow_pickle: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class DialledWorker:
    """A worker with an open connection."""

    remote: RemoteWorker
    client: WorkerClient

    async def is_alive(self) -> bool:
        """Return True if it can get an attempt: it runs, and it answers."""
        if self.remote.is_over:
            return False
        if self.client.is_connected:
            return True
        with contextlib.suppress(WorkerError):
            await self.client.connect(ALIVE_WITHIN)
            return True
        return False


@dataclass(frozen=True, slots=True, eq=False)
class _Asker:
    """An attempt that asks for a worker, and the callback for what it waits for."""

    spec: StepSpec
    report: Callable[[str], None]


class RemoteWorkers:
    """The workers of one run, used in the event loop only."""

    def __init__(self, run_id: str, settings: RemoteSettings, platform: WorkerPlatform) -> None:
        self._run_id = run_id
        self._settings = settings
        self._platform = platform
        self._identity = Identity.of_controller(run_id)
        self._watches: dict[DialledWorker, asyncio.Task[None]] = {}
        self._pool: WarmPool[DialledWorker] = WarmPool(
            self._start,
            self._stop,
            limit=settings.max_workers,
            max_starting=settings.max_starting,
            idle_ttl=settings.idle_ttl,
            max_attempts=settings.max_steps_per_worker if settings.is_warm else 1,
        )
        platform.limit_changed = self._pool.set_limit

    @contextlib.asynccontextmanager
    async def lease(self, spec: StepSpec, report: Callable[[str], None]) -> AsyncIterator[WorkerLease[DialledWorker]]:
        """Yield the lease of a worker for an attempt; `report` takes what its start waits for.

        Raises:
            StartRefusedError: a worker was started for this attempt, and has failed.
        """
        request = WorkerRequest(
            shape=self._platform.shape(spec), modules=imported_modules(spec), spec=_Asker(spec, report)
        )
        async with self._pool.lease(request) as lease:
            yield lease

    def discard(self, worker: DialledWorker) -> None:
        """Take notice that a worker does not answer."""
        self._pool.discard(worker)

    async def close(self, within: float) -> None:
        """Stop all workers."""
        await self._pool.close(max(0.1, within))

    # ── callbacks of the pool ──

    async def _start(self, request: WorkerRequest) -> StartedWorker[DialledWorker]:
        asker: _Asker = request.spec
        seconds = self._settings.startup_timeout
        deadline = time.monotonic() + seconds
        order = WorkerOrder(
            spec=asker.spec, environment=self._environment(asker.spec), report=asker.report, deadline=deadline
        )
        try:
            async with asyncio.timeout(seconds):
                remote = await self._platform.start(order)
        except TimeoutError:
            raise StartRefusedError(f"no worker has started within startup_timeout={seconds:g} s") from None
        return await self._dial(remote, asker.spec, deadline)

    async def _dial(self, remote: RemoteWorker, spec: StepSpec, deadline: float) -> StartedWorker[DialledWorker]:
        client: WorkerClient | None = None
        try:
            client = self._client(remote, spec)
            hello = await client.connect(min(Deadlines().connect, max(0.1, deadline - time.monotonic())))
        except BaseException as error:
            if client is not None:
                await client.close()
            await _stop_within(remote)
            if isinstance(error, WorkerError):
                raise StartRefusedError(f"{remote.name} has announced itself and cannot be called: {error}") from error
            raise
        worker = DialledWorker(remote, client)
        self._watches[worker] = asyncio.ensure_future(self._discard_when_over(worker))
        left = hello.attempts_left
        return StartedWorker(worker, attempts=max(1, left), bound=left <= 1)

    async def _stop(self, worker: DialledWorker, reason: str) -> None:
        self._watches.pop(worker).cancel()
        try:
            await worker.client.close()
        finally:
            await _stop_within(worker.remote)

    async def _discard_when_over(self, worker: DialledWorker) -> None:
        await worker.remote.wait_until_over()
        self._pool.discard(worker)

    # ── inside ──

    def _environment(self, spec: StepSpec) -> dict[str, str]:
        settings = self._settings
        variables = {
            "RIVERS_RUN_ID": spec.run_id,
            "RIVERS_ATTEMPT_ID": spec.attempt_id,
            "RIVERS_CONTROLLER_CERTIFICATE": self._identity.text,
            "RIVERS_ORPHAN_TTL": f"{settings.orphan_ttl:g}",
            "RIVERS_GRACE": f"{settings.grace:g}",
            "RIVERS_MODULES": ",".join(sorted(imported_modules(spec))),
        }
        if settings.allow_pickle:
            variables["RIVERS_ALLOW_PICKLE"] = "1"
        if settings.is_warm:
            variables["RIVERS_MAX_ATTEMPTS"] = str(settings.max_steps_per_worker)
            variables["RIVERS_IDLE_TTL"] = f"{settings.idle_ttl + IDLE_SLACK:g}"
        return variables

    def _client(self, remote: RemoteWorker, spec: StepSpec) -> WorkerClient:
        return WorkerClient(
            remote.target,
            remote.announcement,
            self._identity,
            run_id=self._run_id,
            attempt_id=spec.attempt_id,
            deadlines=Deadlines(lost=self._settings.lost_after),
            broken=remote.suspect,
        )


async def _stop_within(remote: RemoteWorker) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_WITHIN):
            await remote.stop()
