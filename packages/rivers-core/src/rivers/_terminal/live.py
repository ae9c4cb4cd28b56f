"""Live progress in a terminal: a log of failures and of what bodies print, and the present state in rows below it."""

from __future__ import annotations

import atexit
import os
import threading
from typing import ClassVar

from rivers._events.event import Event
from rivers._terminal.news import NewsFeed
from rivers._terminal.progress import RunProgress
from rivers._terminal.screen import draw
from rivers._terminal.spans import Line, to_text
from rivers._terminal.summary import summary_lines
from rivers._terminal.terminal_area import GIVE_BACK, TerminalArea
from rivers._terminal.terminal_guard import TerminalGuard
from rivers._terminal.terminal_modes import TerminalModes

__all__ = ["LEAST_ROWS", "LivePainter"]

LEAST_ROWS = 6
"""Rows of a terminal below which there is no room for a display."""
MOST_ROWS = 24
LOCK_DEADLINE = 1.0


class LivePainter:
    """A painter on the terminal behind a descriptor; one at a time in a process.

    The terminal is restored at the end of the run and at the exit of the interpreter. After a kill a guard does it.
    """

    is_taken: ClassVar[bool] = False

    def __init__(self, descriptor: int, *, unicode: bool = True, color: bool = True, has_summary: bool = True) -> None:
        self._descriptor = descriptor
        self._area = TerminalArea(descriptor)
        self._modes = TerminalModes(descriptor)
        self._unicode = unicode
        self._color = color
        self._has_summary = has_summary
        self._news = NewsFeed(has_retries=False)
        self._pid = os.getpid()
        self._guard: TerminalGuard | None = None
        self._over = threading.Event()
        self._is_released = False
        self._lock = threading.Lock()
        LivePainter.is_taken = True
        atexit.register(self.abandon)

    def paint(self, progress: RunProgress, events: list[Event], now: float) -> None:
        """Print the news above the rows, and draw the rows."""
        if self._over.is_set():
            return
        size = self._area.size()
        news = self._news.lines(progress, events, size.columns)
        height = min(size.lines // 2, MOST_ROWS) if size.lines >= LEAST_ROWS else 0
        # Erasing the rest of a row that is full would take its last character.
        rows = draw(progress, now, size.columns - 1, height) if height and not progress.view.is_over else []
        if rows and self._guard is None:
            self._guard = TerminalGuard(self._descriptor, GIVE_BACK)
        with self._lock:
            # Abandoned meanwhile, the terminal must not get rows again.
            if not self._over.is_set():
                self._area.show(self._text(rows), self._text(news), now)
            if self._over.is_set():
                self._give_back([])

    def finish(self, progress: RunProgress) -> None:
        """Give the rows back and print the summary, unless the run was refused before it began."""
        lines: list[Line] = []
        if self._has_summary and progress.view.is_over:
            lines = summary_lines(progress.view, self._area.size().columns, has_failures=False)
        with self._lock:
            self._give_back([] if self._over.is_set() else self._text(lines))

    def abandon(self) -> None:
        """Give the rows back, unless that was done; a forked child has none."""
        if os.getpid() != self._pid:
            return
        self._over.set()
        # While a terminal is paused by Ctrl-S, a frame waits in its write, and gives the rows back afterwards.
        if self._lock.acquire(timeout=LOCK_DEADLINE):
            try:
                self._give_back([])
            # The terminal is gone.
            except OSError:
                self._release()
            finally:
                self._lock.release()

    def _give_back(self, log: list[str]) -> None:
        if not self._is_released:
            self._over.set()
            self._modes.restore()
            self._area.log(log)
            self._release()

    def _release(self) -> None:
        self._is_released = True
        LivePainter.is_taken = False
        atexit.unregister(self.abandon)
        if self._guard is not None:
            self._guard.dismiss()

    def _text(self, lines: list[Line]) -> list[str]:
        return [to_text([line], color=self._color, unicode=self._unicode) for line in lines]
