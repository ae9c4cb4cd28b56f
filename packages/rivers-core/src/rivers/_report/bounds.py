"""Bounds of a page's data: what is left out of a large run, and a note of it."""

from __future__ import annotations

from collections.abc import Iterable

from rivers._events.event import StepLog
from rivers._record.view import StepView, ViewState

__all__ = ["Texts", "cut_text", "kept_logs", "log_allowances"]

MOST_LOGS = 40_000
"""Log records of a page: 5,000 steps with eight lines each."""
MOST_LOGS_PER_STEP = 500
FIRST_LOGS = 50
"""Records from the beginning of a step's log that stay when its middle is cut."""
MOST_MESSAGE = 2_000
"""Characters of a log record."""


def cut_text(text: str, most: int) -> str:
    """Return at most about `most` characters of a text, with a note of what is missing."""
    if len(text) <= most:
        return text
    return f"{text[:most]}… [{len(text) - most:,} more characters]"


class Texts:
    """A table of strings: each is stored once, and other data refer to it by its index."""

    def __init__(self, most: int) -> None:
        self.table: list[str] = []
        self.cut = 0
        self._left = most
        self._index: dict[str, int] = {}

    def add(self, text: str) -> int:
        """Return the index of a text; -1, counted in `cut`, once the table holds `most` characters."""
        index = self._index.get(text)
        if index is None:
            if len(text) > self._left:
                self.cut += 1
                return -1
            self._left -= len(text)
            index = self._index[text] = len(self.table)
            self.table.append(text)
        return index


def log_allowances(steps: Iterable[StepView]) -> dict[str, int]:
    """Return the number of log records to keep of each step that has some: failed steps first, then evenly."""
    with_logs = [step for step in steps if step.logs]
    with_logs.sort(key=lambda step: step.state is not ViewState.FAILED)
    left = MOST_LOGS
    allowances: dict[str, int] = {}
    for number, step in enumerate(with_logs):
        fair = max(1, left // (len(with_logs) - number)) if left else 0
        # A reader opens the steps that failed, and their end is what matters there.
        most = MOST_LOGS_PER_STEP if step.state is ViewState.FAILED else min(MOST_LOGS_PER_STEP, fair)
        allowances[step.key] = min(len(step.logs), most, left)
        left -= allowances[step.key]
    return allowances


def kept_logs(logs: list[StepLog], most: int) -> tuple[list[StepLog], list[StepLog]]:
    """Return the first and the last records of a log, `most` in all; the first list is empty where none is cut."""
    if len(logs) <= most:
        return [], logs
    first = min(FIRST_LOGS, most // 2)
    return logs[:first], logs[len(logs) - (most - first) :]
