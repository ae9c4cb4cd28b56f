"""How much memory of its own a worker has taken."""

from __future__ import annotations

import os
import time
from pathlib import Path

from rivers_process.cgroup import read_kernel_file

__all__ = ["MemoryGrowth"]


class MemoryGrowth:
    """How much memory of its own this process has taken since it was first asked; asked often, it looks each second.

    What is mapped from files, as stored values are, does not count.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._first: int | None = None
        self._next_look = 0.0

    def is_too_much(self) -> bool:
        """Whether it is more than `most` bytes."""
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
