"""The pump: one thread that takes in what backends report from any thread, and looks at the clock in between."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

from rivers.protocol.result import StepEvent

__all__ = ["Pump"]

STOP_DEADLINE = 20.0
"""Seconds that the pump gets for what is still in its inbox."""


class Pump:
    """Calls `handle` in a thread of its own: with each event, and with None when time has passed or `wake` was called.

    `patience` says for how many seconds to wait at most. What `handle` raises ends the pump: it is kept as `bug`, and
    `crashed` is called.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[StepEvent | None], None],
        patience: Callable[[], float | None],
        crashed: Callable[[], None],
    ) -> None:
        self.bug: BaseException | None = None
        self._handle = handle
        self._patience = patience
        self._crashed = crashed
        self._inbox: SimpleQueue[StepEvent | threading.Event | None] = SimpleQueue()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self.put: Final = self._inbox.put

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Let it take in what has come so far, and end the thread."""
        self._stopping = True
        self.wake()
        if self._thread.ident is not None:
            self._thread.join(STOP_DEADLINE)

    def flush(self) -> None:
        """Wait until it has handled what has come so far, for 20 s at most: a sink may hang."""
        handled = threading.Event()
        self._inbox.put(handled)
        until = time.monotonic() + STOP_DEADLINE
        while not handled.wait(0.1) and self._thread.is_alive() and time.monotonic() < until:
            continue

    def wake(self) -> None:
        """Let it look again; callable from a signal handler, as SimpleQueue.put is reentrant."""
        self._inbox.put(None)

    def _work(self) -> None:
        try:
            while True:
                try:
                    event = self._inbox.get(timeout=self._patience())
                except Empty:
                    event = None
                if isinstance(event, threading.Event):
                    event.set()
                    continue
                self._handle(event)
                if self._stopping and self._inbox.empty():
                    return
        except BaseException as error:  # noqa: BLE001 - raised in the calling thread, which would wait forever otherwise
            self.bug = error
            self._crashed()
