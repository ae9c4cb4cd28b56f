"""Handle the events of backends, and what is due by the clock, in one thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

from rivers.protocol.result import StepEvent

__all__ = ["Pump"]

STOP_DEADLINE = 20.0
"""Seconds that the pump gets to handle what is still in its inbox."""


class Pump:
    """A thread that calls `handle` with each event, and with None when time has passed or `wake` was called.

    `seconds_to_wait` returns for how long it may wait for an event; None is for ever. What `handle` raises ends the
    pump: it is kept as `bug`, and `on_crash` is called.
    """

    def __init__(
        self,
        name: str,
        handle: Callable[[StepEvent | None], None],
        seconds_to_wait: Callable[[], float | None],
        on_crash: Callable[[], None],
    ) -> None:
        self.bug: BaseException | None = None
        self._handle = handle
        self._seconds_to_wait = seconds_to_wait
        self._on_crash = on_crash
        self._inbox: SimpleQueue[StepEvent | threading.Event | None] = SimpleQueue()
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self.put: Final = self._inbox.put

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Handle what has come so far, and end the thread."""
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
        """Call `handle` with None soon; callable from a signal handler, as SimpleQueue.put is reentrant."""
        self._inbox.put(None)

    def _work(self) -> None:
        try:
            while True:
                try:
                    event = self._inbox.get(timeout=self._seconds_to_wait())
                except Empty:
                    event = None
                if isinstance(event, threading.Event):
                    event.set()
                    continue
                self._handle(event)
                if self._stopping and self._inbox.empty():
                    return
        # A bug in core: without `bug` the calling thread would wait for ever.
        except BaseException as error:  # noqa: BLE001 - raised in the calling thread, which would wait forever otherwise
            self.bug = error
            self._on_crash()
