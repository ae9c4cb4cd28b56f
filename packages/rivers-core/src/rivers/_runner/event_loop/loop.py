"""One event loop for a worker's async bodies: with a timeout, a repeated cancellation, and nothing left over."""

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
    "collected",
    "describe_abandoned",
    "seen",
    "uncalled_for",
]

T = TypeVar("T")


CANCEL_AGAIN, ABANDON = 0.5, 0.8
"""Shares of the grace after which a body that goes on is cancelled again, and abandoned. It is abandoned before the
grace is over: then its process is killed, where it has one, and the run waits for its result only a little longer."""


class OverdueError(Exception):
    """The body ran longer than its timeout; `detail` says where it was, if no traceback does."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail


class StoppedError(Exception):
    """The body was cancelled from outside; `detail` says where it was, if no traceback does."""

    def __init__(self, detail: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail


class BodyLoop:
    """Runs one body at a time to its end; made when the first async body comes.

    `grace` is how many seconds a cancelled body gets at most: it is cancelled again after `CANCEL_AGAIN` of them, and
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
        self._lock = threading.RLock()  # `stop` may come from a signal handler in this very thread
        self._warnings: list[str] = []

    def run(
        self,
        body: Coroutine[Any, Any, T],
        context: contextvars.Context,
        timeout: float | None,
        stopped: Callable[[], bool] = lambda: False,
    ) -> T:
        """Run a coroutine in a context and return what it returns.

        Works also where a loop runs in this thread already (a notebook): then in a thread of its own. `stopped` says
        whether `stop` was called before the body was here.

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
        """Cancel the running bodies; safe from any thread, nothing when none runs."""
        with self._lock:
            if self._stop is not None:
                self._loop.call_soon_threadsafe(self._stop.set)
        if self._elsewhere is not None:
            self._elsewhere.stop()

    def holds(self) -> bool:
        """Whether it is a body's code that runs in this very thread, and not the loop's own; for signal handlers."""
        if self._stop is None or self._thread != threading.get_ident():
            return False
        task = asyncio.current_task(self._loop)
        return task is not None and task not in self._own

    def told(self) -> list[str]:
        """What bodies left behind since this was last asked, one line each."""
        found, self._warnings = self._warnings, []
        return found + self._elsewhere.told() if self._elsewhere is not None else found

    def close(self) -> list[str]:
        """Cancel what is left on the loop, wait for it within the grace, close the loop; returns `told()`."""
        if asyncio._get_running_loop() is not None:
            thread = threading.Thread(target=self._close, name="rivers-async-close")
            thread.start()
            thread.join()
        else:
            self._close()
        return self.told()

    def _close(self) -> None:
        if self._elsewhere is not None:
            self._elsewhere._close()
        left = [task for task in asyncio.all_tasks(self._loop) if task not in self._abandoned]
        for task in left:
            task.cancel()
        if left:
            self._loop.run_until_complete(asyncio.wait(left, timeout=self._grace))
        for task in asyncio.all_tasks(self._loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # it was told of already
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
            # KeyboardInterrupt and SystemExit go through the loop and leave it half way, once for each task they reach.
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
            raise uncalled_for()
        return task.result()

    async def _cancel(self, task: asyncio.Task[Any], reason: StoppedError | OverdueError) -> BaseException | None:
        """End a body and return what it raised then, whose traceback says where it was; else `reason.detail` does."""
        for share in (CANCEL_AGAIN, ABANDON - CANCEL_AGAIN):
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=self._grace * share)
            if done:
                return raised_by(task)
        reason.detail = describe_abandoned(task)
        self._abandoned.add(task)
        self._warnings.append(f"the async body {reason.detail}")
        return None

    async def _sweep(self, known: set[asyncio.Task[Any]]) -> None:
        """Background tasks that the body left are cancelled and awaited."""
        left = [task for task in asyncio.all_tasks() if task not in known and task is not asyncio.current_task()]
        if not left:
            return
        for task in left:
            task.cancel()
        done, stuck = await asyncio.wait(left, timeout=self._grace)
        for task in done:
            seen(task)
        self._abandoned |= stuck
        names = ", ".join(sorted(task.get_name() for task in left))
        self._warnings.append(f"the async body left background tasks, which were cancelled: {names}")


async def _in_this_process(body: Coroutine[Any, Any, T]) -> T:
    """Await a body; a child that it has forked ends here, before it touches the loop that it shares with its parent."""
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


def uncalled_for() -> asyncio.CancelledError:
    """What a body is charged with that raises CancelledError by itself."""
    return asyncio.CancelledError("the body raised CancelledError, though nobody had cancelled it")


def raised_by(task: asyncio.Task[Any]) -> BaseException | None:
    """Return what a task that is done has raised, a CancelledError included."""
    try:
        task.result()
    except BaseException as error:  # noqa: BLE001 - it is returned
        return error
    return None


def describe_abandoned(task: asyncio.Task[Any]) -> str:
    """Say that a body goes on in spite of two cancellations, and in which line of the user's it waits."""
    place = ""
    waits: Any = task.get_coro()
    while waits is not None:
        frame = getattr(waits, "cr_frame", None) or getattr(waits, "gi_frame", None)
        if frame is not None and not is_own_frame(frame.f_code.co_filename):
            place = f" at {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
        waits = getattr(waits, "cr_await", None) or getattr(waits, "gi_yieldfrom", None)
    return f"swallowed its cancellation twice and was abandoned{place}"


def seen(task: asyncio.Future[Any]) -> None:
    """Look at a task's exception, so that asyncio does not print that nobody did."""
    if not task.cancelled():
        task.exception()


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
        except BaseException as error:  # noqa: BLE001 - carried over to the waiting thread
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


async def collected(generator: AsyncIterator[T]) -> list[T]:
    """The items of an async generator body."""
    return [item async for item in generator]
