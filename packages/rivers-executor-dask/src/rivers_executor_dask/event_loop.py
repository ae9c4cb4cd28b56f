"""An event loop in a thread of its own, on which a backend's client lives."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["ClientLoop"]

T = TypeVar("T")


class ClientLoop:
    """An event loop that runs in a thread until `stop`."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rivers-dask", daemon=True)
        self._thread.start()

    def start(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Start a coroutine on the loop."""
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def call(self, work: Coroutine[Any, Any, T], seconds: float) -> T:
        """Run a coroutine on the loop; raise TimeoutError after `seconds`."""
        return self.start(work).result(seconds)

    def soon(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function on the loop, after those that were passed before."""
        self._loop.call_soon_threadsafe(function, *arguments)

    def stop(self, seconds: float) -> None:
        """End the loop and its threads."""
        with contextlib.suppress(TimeoutError):
            self.call(self._loop.shutdown_default_executor(), seconds)
        self.soon(self._loop.stop)
        self._thread.join(seconds)
        if not self._thread.is_alive():
            self._loop.close()
