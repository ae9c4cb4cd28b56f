"""Plain lines of progress, for output that is no terminal: CI, log files, pipes."""

from __future__ import annotations

import time
from typing import TextIO

from rivers._events.event import Event, RunStarted, StepLog
from rivers._record.view import ViewState
from rivers._terminal.news import NewsFeed
from rivers._terminal.progress import RunProgress
from rivers._terminal.screen import rough_duration
from rivers._terminal.spans import Line, Span, line_of, to_text
from rivers._terminal.summary import counts_text, summary_lines
from rivers._terminal.text import clean, count_of, duration

__all__ = ["LinePainter"]

WIDTH = 120
FIRST_TOTALS = 5.0
TOTALS = 30.0
"""Seconds from the start to the first line of totals, and then between two of them."""
MOST_STARTING = 20


class LinePainter:
    """A painter that writes the start, failures, retries, totals from time to time, and the summary as plain lines."""

    def __init__(
        self, stream: TextIO, *, unicode: bool = True, color: bool = False, width: int = WIDTH, has_summary: bool = True
    ) -> None:
        self._stream = stream
        self._unicode = unicode
        self._color = color
        self._width = width
        self._has_summary = has_summary
        self._news = NewsFeed(has_retries=True)
        self._due = 0.0
        self._shown_totals = ""
        self._starting: set[str] = set()
        self._is_abandoned = False

    def paint(self, progress: RunProgress, events: list[Event], now: float) -> None:
        """Write the lines for these events, and the totals when they are due."""
        lines: list[Line] = []
        for event in events:
            if isinstance(event, RunStarted):
                self._due = now + FIRST_TOTALS
                lines.append(_start_line(progress, event))
            elif isinstance(event, StepLog):
                lines += self._starting_line(progress, event)
        lines += self._news.lines(progress, events, self._width - 10)
        if now >= self._due and not progress.view.is_over:
            self._due = now + TOTALS
            lines += self._totals(progress, now)
        self._write(lines, now)

    def _starting_line(self, progress: RunProgress, event: StepLog) -> list[Line]:
        """Report a step whose worker does not start, once."""
        is_starting = progress.view.steps[event.step].state is ViewState.STARTING
        if not is_starting or event.step in self._starting or len(self._starting) >= MOST_STARTING:
            return []
        self._starting.add(event.step)
        return [
            line_of(Span("○ ", "warn"), f"{clean(event.step)} is starting", Span(f"  {clean(event.message)}", "dim"))
        ]

    def _totals(self, progress: RunProgress, now: float) -> list[Line]:
        view = progress.view
        counts = "".join(span.text for span in counts_text(view))
        if counts == self._shown_totals:
            return []
        self._shown_totals = counts
        left = progress.estimate.seconds_left(view, now)
        times = f"  {duration(now - (view.started or now))}"
        times += f", about {rough_duration(left)} left" if left is not None else ""
        share = f"{view.done / view.total * 100:.0f} %" if view.total else ""
        return [line_of(Span(f"{share}  {view.done:,} of {view.total:,}", "bold"), f"  {counts}", Span(times, "dim"))]

    def _write(self, lines: list[Line], now: float) -> None:
        if not lines or self._is_abandoned:
            return
        clock = time.strftime("%H:%M:%S", time.localtime(now))
        # The lines of a failure stand below its first one.
        timed = [(Span(f"{clock}  " if _is_first(line) else " " * 10, "dim"), *line) for line in lines]
        self._stream.write(to_text(timed, color=self._color, unicode=self._unicode) + "\n")
        self._stream.flush()

    def finish(self, progress: RunProgress) -> None:
        """Write the summary, unless the run was refused before it began."""
        if self._has_summary and progress.view.is_over and not self._is_abandoned:
            lines = summary_lines(progress.view, self._width, has_failures=False)
            self._stream.write(to_text(lines, color=self._color, unicode=self._unicode) + "\n")
            self._stream.flush()

    def abandon(self) -> None:
        """Write no more."""
        self._is_abandoned = True


def _start_line(progress: RunProgress, event: RunStarted) -> Line:
    header = progress.view.header
    executors = ", ".join(executor.kind for executor in header.executors) if header is not None else ""
    job = f" of job {clean(event.job)}" if event.job else ""
    partition = f" of partition {clean(event.partition)}" if event.partition else ""
    verb = "started" if event.epoch == 0 else "resumed"
    return line_of(
        Span("● ", "accent"),
        f"Run {event.run_id[:8]}{job}{partition} {verb}: {count_of(event.steps, 'step')}",
        Span(f"  {executors}", "dim"),
    )


def _is_first(line: Line) -> bool:
    return bool(line) and not line[0].text.startswith("  ")
