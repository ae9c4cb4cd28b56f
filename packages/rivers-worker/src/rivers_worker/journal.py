"""Keep the numbered events of an attempt until the controller has fetched and acknowledged them.

Events are never dropped. Log records are bounded: a body that floods while no controller is connected loses the oldest
ones and never waits; the gap in the numbers shows how many.
"""

from __future__ import annotations

import threading
from collections import deque
from dataclasses import dataclass

__all__ = ["MAX_LOG_BYTES", "Journal", "JournalEntry"]

MAX_LOG_BYTES = 4 << 20
"""Bytes of log records that are kept while no controller fetches them."""
PER_ENTRY = 200
"""Bytes that an entry takes in addition to its data."""


@dataclass(frozen=True, slots=True)
class JournalEntry:
    """One event; `field` is the field of `Event` that its bytes belong to."""

    seq: int
    field: str
    data: bytes
    log: bool
    last: bool


class Journal:
    """The events of one attempt: one thread adds them, the threads of streams read them.

    Nothing follows a last entry.
    """

    def __init__(self, max_log_bytes: int = MAX_LOG_BYTES) -> None:
        self._max_log_bytes = max_log_bytes
        self._seq = 0
        self._entries: deque[JournalEntry] = deque()
        self._bytes = 0
        self._ended = threading.Event()
        self._changed = threading.Condition()

    @property
    def is_ended(self) -> bool:
        """True once the last entry is there."""
        return self._ended.is_set()

    def wait_for_end(self, seconds: float) -> bool:
        """Wait for the last entry, and return whether it has come."""
        return self._ended.wait(seconds)

    def add(self, field: str, data: bytes, *, log: bool = False, last: bool = False) -> None:
        """Number an event and keep it."""
        with self._changed:
            if self.is_ended:
                return
            self._seq += 1
            self._entries.append(JournalEntry(self._seq, field, data, log, last))
            if log:
                self._bytes += len(data) + PER_ENTRY
                if self._bytes > self._max_log_bytes:
                    self._drop()
            if last:
                self._ended.set()
            self._changed.notify_all()

    def after(self, seq: int, seconds: float) -> list[JournalEntry]:
        """Return the entries after a number; wait for one at most `seconds`, or until `wake`."""
        with self._changed:
            if self._seq <= seq:
                self._changed.wait(seconds)
            found: list[JournalEntry] = []
            # From the end: streams that keep up ask for the last few of many.
            for entry in reversed(self._entries):
                if entry.seq <= seq:
                    break
                found.append(entry)
        return found[::-1]

    def wake(self) -> None:
        """Let all waiting threads look again."""
        with self._changed:
            self._changed.notify_all()

    def _drop(self) -> None:
        """Drop the oldest log records down to half of the limit, so that a flood does not do this for each record."""
        kept: deque[JournalEntry] = deque()
        for entry in self._entries:
            if entry.log and self._bytes > self._max_log_bytes // 2:
                self._bytes -= len(entry.data) + PER_ENTRY
            else:
                kept.append(entry)
        self._entries = kept
