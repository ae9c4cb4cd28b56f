"""Run an event loop in a thread of its own, with a thread pool for blocking calls."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
from collections.abc import Awaitable, Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

from rivers._runner.event_loop.loop import retrieve_exception
from rivers._runner.event_loop.loop_watch import LoopWatch, describe_position

__all__ = ["LoopThread"]

T = TypeVar("T")

THREADS = 32
"""Loads, stores and setups at once that may block."""


class LoopThread:
    """A thread that runs one event loop until `close`, which other threads call.

    `factory` makes the loop's tasks. For `busy` and `blocked` see `LoopWatch`.
    """

    def __init__(
        self,
        factory: Callable[..., asyncio.Task[Any]],
        busy: Callable[[], bool],
        blocked: Callable[[asyncio.Task[Any], float], None],
    ) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_task_factory(factory)
        self.watch = LoopWatch(self.loop, busy, blocked)
        self._ended = False
        self._pool = ThreadPoolExecutor(THREADS, "rivers-async-io")
        # For asyncio.to_thread.
        self._bodies_pool = ThreadPoolExecutor(thread_name_prefix="asyncio")
        self.loop.set_default_executor(self._bodies_pool)
        # A daemon: a body that never yields to the loop must not keep the interpreter from ending.
        self._thread = threading.Thread(target=self._work, name="rivers-async", daemon=True)
        self._thread.start()
        self.watch.start()

    def in_pool(self, function: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        """Call a function in the pool, in a copy of this context; called from the loop's thread."""
        return self.loop.run_in_executor(self._pool, contextvars.copy_context().run, function, *arguments)

    def position(self) -> str:
        """Return the code position of the loop's thread."""
        return describe_position(self._thread.ident or 0)

    def close(
        self, finish: Callable[[], Awaitable[set[asyncio.Task[Any]]]], grace: float, deadline: float
    ) -> list[str]:
        """Await `finish()` on the loop, cancel all tasks but those it returns, and end the loop and its threads.

        Cancelled tasks get `grace` seconds, and so do unfinished generators afterwards. Takes at most `deadline`
        seconds. Returns what did not end within them, one line each.
        """
        ends = time.monotonic() + deadline
        ending = asyncio.run_coroutine_threadsafe(self._finish(finish, grace), self.loop)
        self._thread.join(deadline)
        problems: list[str] = []
        if ending.done() and ending.exception() is not None:
            problems.append(f"ending the async steps raised {ending.exception()!r}")
        if self._thread.is_alive():
            problems.append(f"the event loop of async steps does not end: a body holds it, {self.position()}")
        self.watch.stop()
        for pool in (self._pool, self._bodies_pool):
            pool.shutdown(wait=False, cancel_futures=True)
        problems += _join_threads({*self._pool._threads, *self._bodies_pool._threads}, ends)
        return problems

    def _work(self) -> None:
        while not self._ended:
            # Raised in a task, these leave the loop as well as the task.
            with contextlib.suppress(KeyboardInterrupt, SystemExit):
                self.loop.run_forever()
        self.loop.close()

    async def _finish(self, finish: Callable[[], Awaitable[set[asyncio.Task[Any]]]], grace: float) -> None:
        try:
            abandoned = await finish()
            left = asyncio.all_tasks() - {asyncio.current_task()} - abandoned
            for task in left:
                task.cancel()
            if left:
                done, _ = await asyncio.wait(left, timeout=grace)
                for task in done:
                    retrieve_exception(task)
            for task in asyncio.all_tasks():
                task._log_destroy_pending = False  # type: ignore[attr-defined]  # a warning named it already
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self.loop.shutdown_asyncgens(), grace)
        finally:
            self._ended = True
            self.loop.stop()


def _join_threads(threads: Iterable[threading.Thread], ends: float) -> list[str]:
    for thread in threads:
        thread.join(max(0.0, ends - time.monotonic()))
    stuck = sorted(thread.name for thread in threads if thread.is_alive())
    return [f"threads of async steps did not end: {', '.join(stuck)}"] if stuck else []
