"""The lines that events add to the log of a display: failures, warnings, retries; bounded for runs of any size."""

from __future__ import annotations

import logging
from collections import Counter

from rivers._events.event import Event, RunWarning, StepFailed, StepLog, StepRetrying
from rivers._record.view import StepView
from rivers._terminal.failure import failure_lines
from rivers._terminal.progress import RunProgress
from rivers._terminal.spans import Line, Span, fit, line_of
from rivers._terminal.text import clean, warning_text, wrap

__all__ = ["NewsFeed"]

MOST_FULL = 20
MOST_LINES = 100
MOST_INSTANCES = 3
_NEWS = frozenset({RunWarning, StepFailed, StepLog, StepRetrying})


class NewsFeed:
    """The lines for failures, warnings and, if wanted, retries.

    The first 20 failures are shown in full, of a mapped step the first three, further ones on one line, and after 100
    lines the summary has the rest.
    """

    def __init__(self, *, has_retries: bool) -> None:
        self._has_retries = has_retries
        self._instances: Counter[str] = Counter()
        self._full = 0
        self._lines = 0

    def lines(self, progress: RunProgress, events: list[Event], width: int) -> list[Line]:
        """Return the lines for these events, which `progress` has taken in."""
        lines: list[Line] = []
        for event in events:
            # Most events are starts and ends of thousands of quick steps.
            if type(event) not in _NEWS:
                continue
            if isinstance(event, StepFailed):
                lines += self._failure(progress, progress.view.steps[event.step], width)
            elif isinstance(event, RunWarning):
                first, *rest = wrap(warning_text(event.message, event.step), width - 2)
                lines += self._bounded([line_of(Span("! ", "warn"), first), *(line_of("  ", line) for line in rest)])
            elif isinstance(event, StepLog) and progress.is_shown(event):
                level = logging.getLevelName(event.level).lower()
                style = "warn" if event.level >= logging.WARNING else "dim"
                first, *rest = wrap(clean(event.message), width - 2)
                lines.append(line_of(Span(f"{level} ", style), Span(clean(event.step), "bold"), f"  {first}"))
                lines += [line_of("  ", line) for line in rest]
            elif isinstance(event, StepRetrying) and self._has_retries:
                why = clean(event.failure.summary).partition("\n")[0] if event.failure is not None else "not started"
                text = f"{clean(event.step)} retries in {event.delay:.1f} s after attempt {event.attempt}"
                lines += self._bounded([line_of(Span("↻ ", "warn"), text, Span(f"  {why}", "dim"))])
        return [fit(line, width) for line in lines]

    def _failure(self, progress: RunProgress, step: StepView, width: int) -> list[Line]:
        header = progress.view.header
        lines = failure_lines(step, width, folder=header.folder if header is not None else "")
        self._instances[step.base_key] += 1
        is_one_of_many = step.map_key is not None and self._instances[step.base_key] > MOST_INSTANCES
        if self._full < MOST_FULL and not is_one_of_many:
            self._full += 1
            return lines
        return self._bounded(lines[:1])

    def _bounded(self, lines: list[Line]) -> list[Line]:
        before, self._lines = self._lines, self._lines + len(lines)
        if before >= MOST_LINES:
            return []
        if self._lines >= MOST_LINES:
            lines.append(line_of(Span("… further failures and warnings are in the summary at the end", "dim")))
        return lines
