"""One event loop for a worker's async bodies: with a timeout, a repeated cancellation, and nothing left over."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import AsyncIterator, Coroutine
from typing import Any, TypeVar

__all__ = ["BodyLoop", "OverdueError", "StoppedError", "collected"]

T = TypeVar("T")


class OverdueError(Exception):
    """The body ran longer than its timeout."""


class StoppedError(Exception):
    """The body was cancelled from outside."""


class BodyLoop:
    """Runs one body at a time to its end; made when the first async body comes.

    `grace` is how many seconds a cancelled body gets; then it is cancelled again and, after as long again, abandoned.
    """

    def __init__(self, grace: float) -> None:
        self._grace = grace
        self._loop = asyncio.new_event_loop()
        self._abandoned: set[asyncio.Task[Any]] = set()
        self._stop: asyncio.Event | None = None
        self._lock = threading.Lock()
        self.warnings: list[str] = []

    def run(self, body: Coroutine[Any, Any, T], context: contextvars.Context, timeout: float | None) -> T:
        """Run a coroutine in a context and return what it returns.

        Works also where a loop runs in this thread already (a notebook): then in a thread of its own.

        Raises:
            OverdueError: it took longer than `timeout` seconds and was cancelled.
            StoppedError: `stop` was called.
        """
        if asyncio._get_running_loop() is None:
            return self._run(body, context, timeout)
        result: list[T] = []
        failure: list[BaseException] = []

        def run_elsewhere() -> None:
            other = BodyLoop(self._grace)
            try:
                result.append(other._run(body, context, timeout))
            except BaseException as error:  # noqa: BLE001 - carried over to the waiting thread
                failure.append(error)
            finally:
                other.close()
                self.warnings.extend(other.warnings)

        thread = threading.Thread(target=run_elsewhere, name="rivers-async-body")
        thread.start()
        thread.join()
        if failure:
            raise failure[0]
        return result[0]

    def stop(self) -> None:
        """Cancel the running body; safe from any thread, nothing when none runs."""
        with self._lock:
            stop = self._stop
            if stop is not None:
                self._loop.call_soon_threadsafe(stop.set)

    def close(self) -> None:
        """Cancel what is left on the loop, wait for it within the grace, and close the loop."""
        left = [task for task in asyncio.all_tasks(self._loop) if task not in self._abandoned]
        for task in left:
            task.cancel()
        if left:
            self._loop.run_until_complete(asyncio.wait(left, timeout=self._grace))
        for task in asyncio.all_tasks(self._loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # it was told of in `warnings` already
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    def _run(self, body: Coroutine[Any, Any, T], context: contextvars.Context, timeout: float | None) -> T:
        supervisor = self._loop.create_task(self._supervise(body, context, timeout))
        try:
            return self._loop.run_until_complete(supervisor)
        except KeyboardInterrupt:
            supervisor.cancel()
            self._loop.run_until_complete(asyncio.wait([supervisor], timeout=self._grace))
            raise

    async def _supervise(self, body: Coroutine[Any, Any, T], context: contextvars.Context, seconds: float | None) -> T:
        before = asyncio.all_tasks()
        with self._lock:
            self._stop = asyncio.Event()
        task = self._loop.create_task(body, context=context)
        stopped = self._loop.create_task(self._stop.wait())
        try:
            await asyncio.wait([task, stopped], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if task.done():
                return self._outcome(task)
            reason: Exception = StoppedError() if stopped.done() else OverdueError()
            await self._cancel(task)
            raise reason
        except asyncio.CancelledError:
            await self._cancel(task)
            raise
        finally:
            with self._lock:
                self._stop = None
            stopped.cancel()
            await self._sweep(before | {task, stopped})

    def _outcome(self, task: asyncio.Task[T]) -> T:
        if task.cancelled():
            raise asyncio.CancelledError("the body raised CancelledError, though nobody had cancelled it")
        return task.result()

    async def _cancel(self, task: asyncio.Task[Any]) -> None:
        for _ in range(2):
            task.cancel()
            done, _ = await asyncio.wait([task], timeout=self._grace)
            if done:
                if not task.cancelled():
                    task.exception()  # looked at, so that asyncio does not report it as never retrieved
                return
        self._abandoned.add(task)
        self.warnings.append(
            "an async body swallowed its cancellation twice and was abandoned; it may still hold resources"
        )

    async def _sweep(self, known: set[asyncio.Task[Any]]) -> None:
        """Background tasks that the body left are cancelled and awaited."""
        left = [task for task in asyncio.all_tasks() if task not in known and task is not asyncio.current_task()]
        for task in left:
            task.cancel()
        if left:
            names = ", ".join(sorted(task.get_name() for task in left))
            self.warnings.append(f"an async body left background tasks, which were cancelled: {names}")
            await asyncio.wait(left, timeout=self._grace)


async def collected(generator: AsyncIterator[T]) -> list[T]:
    """The items of an async generator body."""
    return [item async for item in generator]
