"""Run the async bodies of one worker on an event loop, with timeouts and cancellation."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from rivers._runner.own_frames import is_own_frame
from rivers_process.exit import end_forked_child

__all__ = [
    "ABANDON",
    "CANCEL_AGAIN",
    "BodyLoop",
    "OverdueError",
    "StoppedError",
    "collect_items",
    "describe_abandoned",
    "retrieve_exception",
    "unexpected_cancellation",
]

T = TypeVar("T")


CANCEL_AGAIN, ABANDON = 0.5, 0.8
"""Shares of the grace after which a body is cancelled a second time, and abandoned.

A body is abandoned before the grace ends: at its end a worker process is killed, and the run waits only a little longer
for a result.
"""


class OverdueError(Exception):
    """The body ran longer than its timeout; `detail` says where it was unless a traceback does."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail


class StoppedError(Exception):
    """The body was cancelled from outside; `detail` says where it was unless a traceback does."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail


class BodyLoop:
    """An event loop that runs one body at a time, for a thread that waits for it.

    A cancelled body has `grace` seconds at most: it is cancelled again after the share `CANCEL_AGAIN` of them and
    abandoned after `ABANDON`.
    """

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._loop = asyncio.new_event_loop()
        self._abandoned: set[asyncio.Task[Any]] = set()
        self._stop: asyncio.Event | None = None
        self._thread = 0
        self._own: tuple[asyncio.Task[Any], ...] = ()
        self._elsewhere: BodyLoop | None = None
        # `stop` may come from a signal handler in this very thread.
        self._lock = threading.RLock()
        self._warnings: list[str] = []

    def run(
        self,
        body: Coroutine[Any, Any, T],
        context: contextvars.Context,
        timeout: float | None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> T:
        """Run a coroutine in a context and return what it returns.

        If a loop runs in this thread already, as in a notebook, the body runs in a thread of its own. `stopped` returns
        whether `stop` was called before the body arrived here.

        Raises:
            OverdueError: it took longer than `timeout` seconds and was cancelled.
            StoppedError: `stop` was called.
        """
        if asyncio._get_running_loop() is None:
            return self._run(body, context, timeout, stopped)
        if self._elsewhere is None:
            self._elsewhere = BodyLoop(self._grace)
        return _in_thread(self._elsewhere, body, context, timeout, stopped)

    def stop(self) -> None:
        """Cancel the running bodies, from any thread; does nothing if none runs."""
        with self._lock:
            if self._stop is not None:
                self._loop.call_soon_threadsafe(self._stop.set)
        if self._elsewhere is not None:
            self._elsewhere.stop()

    def is_in_body(self) -> bool:
        """Return whether this thread runs a body's code and not the loop's own, for signal handlers."""
        if self._stop is None or self._thread != threading.get_ident():
            return False
        task = asyncio.current_task(self._loop)
        return task is not None and task not in self._own

    def drain_warnings(self) -> list[str]:
        """Return what bodies have left behind since the last call, one line each."""
        found, self._warnings = self._warnings, []
        return found + self._elsewhere.drain_warnings() if self._elsewhere is not None else found

    def close(self) -> list[str]:
        """Cancel the tasks that are left, wait for them within the grace, close the loop; return `drain_warnings()`."""
        if asyncio._get_running_loop() is not None:
            thread = threading.Thread(target=self._close, name="rivers-async-close")
            thread.start()
            thread.join()
        else:
            self._close()
        return self.drain_warnings()

    def _close(self) -> None:
        if self._elsewhere is not None:
            self._elsewhere._close()
        left = [task for task in asyncio.all_tasks(self._loop) if task not in self._abandoned]
        for task in left:
            task.cancel()
        if left:
            self._loop.run_until_complete(asyncio.wait(left, timeout=self._grace))
        for task in asyncio.all_tasks(self._loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # a warning named it already
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _run(
        self,
        body: Coroutine[Any, Any, T],
        context: contextvars.Context,
        timeout: float | None,
        stopped: Callable[[], bool],
    ) -> T:
        self._thread = threading.get_ident()
        supervisor = self._loop.create_task(self._supervise(body, context, timeout, stopped))
        try:
            return self._loop.run_until_complete(supervisor)
        finally:
            # KeyboardInterrupt and SystemExit leave the loop before it is done, once for each task that they reach.
            if not supervisor.done():
                supervisor.cancel()
            while not supervisor.done():
                with contextlib.suppress(
                    asyncio.CancelledError, OverdueError, StoppedError, KeyboardInterrupt, SystemExit
                ):
                    self._loop.run_until_complete(supervisor)

    async def _supervise(
        self,
        body: Coroutine[Any, Any, T],
        context: contextvars.Context,
        seconds: float | None,
        unwanted: Callable[[], bool],
    ) -> T:
        before = asyncio.all_tasks()
        stop = asyncio.Event()
        task = self._loop.create_task(_in_this_process(body), context=context)
        stopped = self._loop.create_task(stop.wait())
        self._own = (*before, stopped)
        with self._lock:
            self._stop = stop
        if unwanted():
            stop.set()
        try:
            await asyncio.wait([task, stopped], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return self._outcome(task)
            reason = StoppedError() if stopped.done() else OverdueError()
            raise reason from await self._cancel(task, reason)
        except asyncio.CancelledError:
            await self._cancel(task, StoppedError())
            raise
        finally:
            with self._lock:
                self._stop = None
            stopped.cancel()
            await self._sweep(before | {task, stopped})

    def _outcome(self, task: asyncio.Task[T]) -> T:
        if task.cancelled():
            raise unexpected_cancellation()
        return task.result()

    async def _cancel(self, task: asyncio.Task[Any], reason: StoppedError | OverdueError) -> BaseException | None:
        """End a body and return the exception it raised; if it does not end, set `reason.detail` to where it is."""
        for share in (CANCEL_AGAIN, ABANDON - CANCEL_AGAIN):
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=self._grace * share)
            if done:
                return retrieve_exception(task)
        reason.detail = describe_abandoned(task)
        self._abandoned.add(task)
        self._warnings.append(f"the async body {reason.detail}")
        return None

    async def _sweep(self, known: set[asyncio.Task[Any]]) -> None:
        """Cancel and await the background tasks that the body left."""
        left = [task for task in asyncio.all_tasks() if task not in known and task is not asyncio.current_task()]
        if not left:
            return
        for task in left:
            task.cancel()
        done, stuck = await asyncio.wait(left, timeout=self._grace)
        for task in done:
            retrieve_exception(task)
        self._abandoned |= stuck
        names = ", ".join(sorted(task.get_name() for task in left))
        self._warnings.append(f"the async body left background tasks, which were cancelled: {names}")


async def _in_this_process(body: Coroutine[Any, Any, T]) -> T:
    """Await a body; end a forked child here, before it uses the event loop that it shares with its parent."""
    pid = os.getpid()
    try:
        value = await body
    except BaseException as error:
        if os.getpid() != pid:
            end_forked_child(error)
        raise
    if os.getpid() != pid:
        end_forked_child(None)
    return value


def unexpected_cancellation() -> asyncio.CancelledError:
    """Return the error of a body that raised CancelledError without having been cancelled."""
    return asyncio.CancelledError("the body raised CancelledError, though nobody had cancelled it")


def retrieve_exception(future: asyncio.Future[Any]) -> BaseException | None:
    """Return the exception of a future that is done, also a CancelledError; asyncio then does not log it."""
    try:
        future.result()
    except BaseException as error:  # noqa: BLE001 - it is returned
        return error
    return None


def describe_abandoned(task: asyncio.Task[Any]) -> str:
    """Describe a body that goes on after two cancellations, with the line of the user's code where it waits."""
    place = ""
    waits: Any = task.get_coro()
    while waits is not None:
        frame = getattr(waits, "cr_frame", None) or getattr(waits, "gi_frame", None)
        if frame is not None and not is_own_frame(frame.f_code.co_filename):
            place = f" at {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
        waits = getattr(waits, "cr_await", None) or getattr(waits, "gi_yieldfrom", None)
    return f"swallowed its cancellation twice and was abandoned{place}"


def _in_thread(
    loop: BodyLoop,
    body: Coroutine[Any, Any, T],
    context: contextvars.Context,
    timeout: float | None,
    stopped: Callable[[], bool],
) -> T:
    result: list[T] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            result.append(loop._run(body, context, timeout, stopped))
        except BaseException as error:  # noqa: BLE001 - raised again in the waiting thread
            failure.append(error)

    thread = threading.Thread(target=run, name="rivers-async-body")
    thread.start()
    try:
        thread.join()
    except KeyboardInterrupt:
        loop.stop()
        thread.join()
        raise
    if failure:
        raise failure[0]
    return result[0]


async def collect_items(generator: AsyncIterator[T]) -> list[T]:
    """Return the items of an async generator."""
    return [item async for item in generator]
