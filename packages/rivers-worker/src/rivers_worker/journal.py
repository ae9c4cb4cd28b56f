"""What the attempt has told, numbered, until somebody has fetched and acknowledged it.

Events are never dropped. Log records wait in a bounded ring: a body that floods while nobody listens loses the oldest
of them, and is never held up; the gap in the numbers says how many.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

__all__ = ["MOST_LOGS", "Entry", "Journal"]

MOST_LOGS = 4 << 20
"""Bytes of log records that are kept for who has not fetched them."""
PER_ENTRY = 200
"""Bytes that an entry takes beside its data."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One event: its number, the field of `Event` that its bytes belong to, whether it is a log, whether the last."""

    seq: int
    field: str
    data: bytes
    log: bool
    last: bool


class Journal:
    """Written by the thread that reads from the body, read by those that serve streams.

    Nothing follows a last entry.
    """

    def __init__(self, most_logs: int = MOST_LOGS) -> None:
        self._most_logs = most_logs
        self._seq = 0
        self._entries: deque[Entry] = deque()
        self._bytes = 0
        self._ended = threading.Event()
        self._changed = threading.Condition()

    @property
    def ended(self) -> bool:
        """Whether the last entry is there."""
        return self._ended.is_set()

    def wait_for_end(self, seconds: float) -> bool:
        """Wait for the last entry; whether it has come."""
        return self._ended.wait(seconds)

    def add(self, field: str, data: bytes, *, log: bool = False, last: bool = False) -> None:
        """Number an event and keep it."""
        with self._changed:
            if self.ended:
                return
            self._seq += 1
            self._entries.append(Entry(self._seq, field, data, log, last))
            if log:
                self._bytes += len(data) + PER_ENTRY
                if self._bytes > self._most_logs:
                    self._drop()
            if last:
                self._ended.set()
            self._changed.notify_all()

    def after(self, seq: int, seconds: float) -> list[Entry]:
        """The entries after this number; waits for one at most so many seconds, or until `wake`."""
        with self._changed:
            if self._seq <= seq:
                self._changed.wait(seconds)
            found: list[Entry] = []
            for entry in reversed(self._entries):
                if entry.seq <= seq:
                    break
                found.append(entry)
        return found[::-1]

    def wake(self) -> None:
        """Let everybody who waits look around."""
        with self._changed:
            self._changed.notify_all()

    def _drop(self) -> None:
        """Down to half, so that a flood does not do this for each record."""
        kept: deque[Entry] = deque()
        for entry in self._entries:
            if entry.log and self._bytes > self._most_logs // 2:
                self._bytes -= len(entry.data) + PER_ENTRY
            else:
                kept.append(entry)
        self._entries = kept
