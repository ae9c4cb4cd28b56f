"""Measure the growth of this process's own memory."""

from __future__ import annotations

import os
import time
from pathlib import Path

from rivers_process.cgroup import read_kernel_file

__all__ = ["MemoryGrowth"]


class MemoryGrowth:
    """The growth of this process's memory since the first check; it is measured once a second at most.

    What is mapped from files, as stored values are, does not count.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._first: int | None = None
        self._next_look = 0.0

    def exceeds_limit(self) -> bool:
        """Return whether the memory has grown by more than `most` bytes."""
        now = time.monotonic()
        if now < self._next_look:
            return False
        self._next_look = now + 1.0
        words = read_kernel_file(Path("/proc/self/statm")).split()
        if len(words) < 3:
            return False
        own = (int(words[1]) - int(words[2])) * os.sysconf("SC_PAGE_SIZE")
        self._first = own if self._first is None else self._first
        return own - self._first > self._most
