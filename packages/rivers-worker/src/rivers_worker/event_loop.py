"""Run one event loop for all clients of workers in this process, in a thread of its own.

All backends share it, as grpc.aio supports one loop per process well and several badly. It starts with the first
backend that acquires it and stops when the last one releases it.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from rivers.exceptions import ExecutionError

__all__ = ["SharedLoop", "acquire_loop"]

T = TypeVar("T")
_lock = threading.Lock()
_shared: list[SharedLoop] = []
_used = _forked = False

# Seconds that an interrupted coroutine gets for its `finally` blocks
UNWIND = 5.0


class SharedLoop:
    """An event loop in a thread; other threads call `run` and `post`, and each user calls `release` once."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.users = 0
        self._thread = threading.Thread(target=self._serve, name="rivers-remote", daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float) -> T:
        """Run a coroutine to its end and return its value.

        On an interrupt, or after `timeout` seconds, it is cancelled and its `finally` blocks run.

        Raises:
            TimeoutError: it took longer.
        """
        future = asyncio.run_coroutine_threadsafe(coroutine, self.loop)
        try:
            return future.result(timeout)
        except BaseException:
            if future.cancel():
                self._unwind()
            raise

    def post(self, call: Callable[..., object], *arguments: object) -> None:
        """Schedule a call in the loop."""
        self.loop.call_soon_threadsafe(call, *arguments)

    def release(self) -> None:
        """Give the loop up; when its last user does, the loop and its thread end."""
        with _lock:
            self.users -= 1
            if self.users:
                return
            _shared.remove(self)
        self.loop.call_soon_threadsafe(self.loop.stop)
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _unwind(self) -> None:
        """Wait for cancelled tasks: their `finally` blocks may have workers to end."""

        async def others() -> None:
            cancelled = [task for task in asyncio.all_tasks() if task.cancelling()]
            if cancelled:
                await asyncio.wait(cancelled, timeout=UNWIND)

        waiting = asyncio.run_coroutine_threadsafe(others(), self.loop)
        concurrent.futures.wait([waiting], timeout=UNWIND + 1)

    def _serve(self) -> None:
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_forever()
        finally:
            left = asyncio.all_tasks(self.loop)
            for task in left:
                task.cancel()
            if left:
                self.loop.run_until_complete(asyncio.wait(left, timeout=UNWIND))
            self.loop.run_until_complete(self.loop.shutdown_asyncgens())
            self.loop.close()


def acquire_loop() -> SharedLoop:
    """Return the loop of this process; `release` it.

    Raises:
        ExecutionError: this is a forked child of a process that has used one.
    """
    global _used  # noqa: PLW0603 - one per process, as gRPC is
    with _lock:
        if _forked:
            raise ExecutionError(
                "an executor with remote workers was used before this process was forked, and its connections and "
                "threads are the parent's",
                hint="start processes by spawn or forkserver (multiprocessing.get_context), or before the first run",
            )
        _used = True
        if not _shared:
            _shared.append(SharedLoop())
        _shared[0].users += 1
        return _shared[0]


def _in_child() -> None:
    global _lock, _forked  # noqa: PLW0603 - of the process, like the loop
    _lock = threading.Lock()  # another thread may have held it
    _shared.clear()
    # grpc.aio polls in a thread that it starts once per process; in the child calls would wait for it without end.
    _forked = _used


os.register_at_fork(after_in_child=_in_child)
