"""An event sink that displays a run from a thread of its own."""

from __future__ import annotations

import contextvars
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from rivers._events.event import Event
from rivers._record.header import RunHeader
from rivers._record.redact import Redactor
from rivers._terminal.progress import RunProgress

__all__ = ["Painter", "ProgressSink"]

INTERVAL = 0.1
"""Seconds between two frames."""
SHARE = 0.01
"""The share of a core that a display may take: where a frame is slow, the next one waits longer."""
LONGEST_INTERVAL = 1.0
CLOSE_DEADLINE = 5.0
"""Seconds. A terminal that is paused by Ctrl-S takes no text, and the end of a run does not wait for it."""

_LOGGER = logging.getLogger("rivers.run")


class Painter(Protocol):
    """A way to show a run; all methods are called in one thread."""

    def paint(self, progress: RunProgress, events: list[Event], now: float) -> None:
        """Show the events that came since the last call, and the present state."""

    def finish(self, progress: RunProgress) -> None:
        """Show the end, and restore the terminal."""

    def abandon(self) -> None:
        """Restore the terminal at once, in any thread, and paint no more."""


class ProgressSink:
    """An event sink that hands the events of a run to a painter, about ten times a second, in a thread of its own.

    A call only appends to a queue: it comes in the threads of the run, with their locks held. In a forked child it does
    nothing. The painter is made, and the thread starts, with the first event: a run that is refused shows nothing.
    """

    def __init__(
        self,
        header: RunHeader | None,
        redactor: Redactor | None,
        make_painter: Callable[[], Painter],
        log_level: int | None = None,
    ) -> None:
        self._progress = RunProgress(header, redactor, log_level)
        self._make_painter = make_painter
        self._painter: Painter | None = None
        self._events: deque[Event] = deque()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()

    def __call__(self, event: Event) -> None:
        self._events.append(event)
        if self._thread is None:
            self._start()

    def _start(self) -> None:
        self._painter = painter = self._make_painter()
        # IPython finds the cell that a display belongs to in the context.
        work = contextvars.copy_context().run
        self._thread = threading.Thread(target=work, args=(self._work, painter), name="rivers-progress", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Show what is left and the end, and restore the terminal."""
        thread, painter = self._thread, self._painter
        if thread is None or painter is None or os.getpid() != self._pid:
            return
        self._stop.set()
        try:
            thread.join(CLOSE_DEADLINE)
        finally:
            # Also after a second Ctrl-C in the line above.
            if thread.is_alive():
                painter.abandon()

    def _work(self, painter: Painter) -> None:
        before = cost = begin = 0.0
        try:
            # The cheaper of the last two frames counts: the first one imports, and some frames hold a failure.
            while not self._stop.wait(min(max(INTERVAL, min(before, cost) / SHARE), LONGEST_INTERVAL)):
                self._frame(painter)
                # With what the wait took, as a busy program makes it cost something.
                used = time.thread_time()
                before, cost, begin = cost, used - begin, used
            self._frame(painter)
            painter.finish(self._progress)
        except (OSError, ValueError):
            # The terminal is gone or the stream was closed: the run goes on without a display.
            painter.abandon()
        except Exception:
            # A display must not end a run, and its bug must not pass in silence.
            painter.abandon()
            _LOGGER.exception("the progress display failed")

    def _frame(self, painter: Painter) -> None:
        events: list[Event] = []
        while self._events:
            events.append(self._events.popleft())
        painter.paint(self._progress, self._progress.take(events), time.time())

    def __repr__(self) -> str:
        return "<progress display>"
