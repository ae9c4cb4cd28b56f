"""Carry out the decisions about a pool in an asyncio loop.

    async with pool.lease(WorkerRequest(shape=…, modules=…, spec=…)) as lease:
        …  lease.worker runs the attempt
        lease.keep()                       # its clean-up was complete: others may have it

Without `keep` a worker is stopped after its lease: after an exception, a cancellation, an attempt that was killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from rivers_worker.errors import WorkerError
from rivers_worker.pool.decide import decide
from rivers_worker.pool.facts import (
    Asked,
    Closed,
    Died,
    Fact,
    Fail,
    Give,
    Gone,
    Limited,
    Ready,
    Returned,
    Returning,
    Start,
    StartFailed,
    Stop,
    Ticked,
    Unused,
    Withdrawn,
)
from rivers_worker.pool.state import PoolLimits, PoolState, WorkerRequest

__all__ = ["PoolClosedError", "StartedWorker", "WarmPool", "WorkerLease"]

W = TypeVar("W")

STOP_DEADLINE = 60.0
"""Seconds that a stop may take; then its place is free, since a worker out of reach ends by itself."""
LAST = 1.0
"""Seconds for what `close` has cancelled."""

_log = logging.getLogger("rivers.worker.pool")


class PoolClosedError(WorkerError):
    """The pool is closed, and starts no worker."""


@dataclass(frozen=True, slots=True)
class StartedWorker(Generic[W]):
    """A worker that has started, and how many attempts it takes.

    One that is `bound` takes only the attempt that it was started with, as workers from before sessions do.
    """

    worker: W
    attempts: int
    bound: bool = False


class WorkerLease(Generic[W]):
    """The exclusive use of one worker."""

    def __init__(self, worker: W, attempts: int, announce: Callable[[], None]) -> None:
        self.worker = worker
        self._attempts = attempts
        self._announce = announce
        self._clean = False

    def announce_return(self) -> None:
        """Announce that the attempt is over and its worker cleans up: a request may wait for that."""
        self._announce()

    def keep(self, attempts: int | None = None) -> None:
        """Return the worker to the pool at the end of the lease: its attempt is over, and nothing of that is left.

        `attempts` is the number that it still takes, by its own account.
        """
        self._clean = True
        if attempts is not None:
            self._attempts = attempts


class WarmPool(Generic[W]):
    """A pool of workers that outlive their attempts; use it within one event loop.

    `start(request)` starts a worker and returns it once it can be given an attempt. When it is cancelled, it removes
    what it has begun. Its exception goes to the lease that asked, if that still waits. `stop(worker, reason)` ends a
    worker; while that lasts, the worker counts. For the other arguments see `PoolLimits`.
    """

    def __init__(
        self,
        start: Callable[[WorkerRequest], Awaitable[StartedWorker[W]]],
        stop: Callable[[W, str], Awaitable[None]],
        *,
        limit: int | None = None,
        max_starting: int = 100,
        idle_ttl: float = 30.0,
        max_attempts: int = 100,
        patience: float = 30.0,
    ) -> None:
        self._start = start
        self._stop = stop
        self._state = PoolState(
            limits=PoolLimits(
                limit=limit,
                max_starting=max_starting,
                idle_ttl=idle_ttl,
                max_attempts=max_attempts,
                patience=patience,
            )
        )
        self._requests: dict[int, WorkerRequest] = {}
        self._answers: dict[int, asyncio.Future[int]] = {}
        self._starts: dict[int, asyncio.Task[None]] = {}
        self._stops: dict[int, asyncio.Task[None]] = {}
        self._workers: dict[int, StartedWorker[W]] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def state(self) -> PoolState:
        """The state of the pool, a value."""
        return self._state

    @contextlib.asynccontextmanager
    async def lease(self, request: WorkerRequest) -> AsyncIterator[WorkerLease[W]]:
        """Wait for a worker of the request's shape, and yield the lease of it.

        Raises:
            PoolClosedError: the pool was closed before there was one.
            Exception: whatever the start of a worker for this request has raised.
        """
        number = await self._acquire(request)
        known = self._workers[number]
        lease = WorkerLease(known.worker, known.attempts, lambda: self._handle(Returning(number)))
        try:
            yield lease
        finally:
            self._handle(Returned(number, lease._clean, lease._attempts, request.modules))

    def discard(self, worker: W) -> None:
        """Take notice that a worker has ended by itself: it is leased to nobody any more."""
        for number, known in self._workers.items():
            if known.worker is worker:
                self._handle(Died(number))
                return

    def set_limit(self, limit: int | None) -> None:
        """Change the number of workers that may exist; idle ones beyond it are stopped."""
        self._handle(Limited(limit))

    async def close(self, deadline: float) -> list[W]:
        """Stop all workers, leased ones too, within `deadline` seconds; return those whose stop has not ended."""
        self._handle(Closed())
        if self._stops:
            await asyncio.wait(self._stops.values(), timeout=deadline)
        late = dict(self._stops)
        left = [self._workers[number].worker for number in late if number in self._workers]
        for task in late.values():
            task.cancel()
        if late:
            await asyncio.wait(late.values(), timeout=LAST)
        return left

    async def _acquire(self, request: WorkerRequest) -> int:
        """Return the number of a worker that was leased to a request."""
        number = self._state.last_number + 1
        self._requests[number] = request
        answer: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._answers[number] = answer
        self._handle(Asked(request))
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.cancelled() or not answer.done():
                self._handle(Withdrawn(number))
            elif answer.exception() is None:
                # It was cancelled in the moment in which it got its worker, which others may have.
                self._handle(Unused(answer.result()))
            raise
        finally:
            del self._answers[number], self._requests[number]

    # ── facts and effects ──

    def _handle(self, fact: Fact) -> None:
        loop = asyncio.get_running_loop()
        self._state, effects = decide(self._state, fact, loop.time())
        unused: list[int] = []
        for effect in effects:
            match effect:
                case Start(number, request):
                    self._starts[number] = loop.create_task(self._run_start(number, self._requests[request]))
                case Give(number, request):
                    # An answer that is cancelled before its task has run again: the request is withdrawn then.
                    if self._answers[request].done():
                        unused.append(number)
                    else:
                        self._answers[request].set_result(number)
                case Fail(request, error):
                    if not self._answers[request].done():
                        closed = PoolClosedError("the pool of workers is closed")
                        self._answers[request].set_exception(error or closed)
                case Stop(number, reason):
                    self._stops[number] = loop.create_task(self._run_stop(number, reason))
        self._set_timer(loop)
        for number in unused:
            self._handle(Unused(number))

    def _set_timer(self, loop: asyncio.AbstractEventLoop) -> None:
        at = self._state.next_expiry
        if self._timer is not None:
            if self._timer.when() == at:
                return
            self._timer.cancel()
        self._timer = loop.call_at(at, self._tick) if at is not None else None

    def _tick(self) -> None:
        self._timer = None
        self._handle(Ticked())

    # ── tasks ──

    async def _run_start(self, number: int, request: WorkerRequest) -> None:
        try:
            started = await self._start(request)
        except asyncio.CancelledError:
            self._handle(StartFailed(number, WorkerError("the start of a worker was cancelled")))
            raise
        except Exception as error:  # noqa: BLE001 - it is raised where the worker is waited for
            self._handle(StartFailed(number, error))
        else:
            self._workers[number] = started
            self._handle(Ready(number, started.attempts, started.bound))
        finally:
            self._starts.pop(number, None)

    async def _run_stop(self, number: int, reason: str) -> None:
        try:
            async with asyncio.timeout(STOP_DEADLINE):
                if (start := self._starts.get(number)) is not None:
                    start.cancel()
                    await asyncio.wait((start,))
                if (known := self._workers.get(number)) is not None:
                    await self._stop(known.worker, reason)
        except Exception as error:  # noqa: BLE001 - whatever it is, the place must not be lost
            _log.warning("a worker was not stopped (%s): %r", reason, error)
        finally:
            self._workers.pop(number, None)
            self._starts.pop(number, None)  # a task that is cancelled before its first step does not do that
            del self._stops[number]
            self._handle(Gone(number))
