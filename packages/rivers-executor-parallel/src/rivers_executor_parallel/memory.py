"""Memory: what the cgroup says of the OOM killer and the limit, and how much a worker has grown."""

from __future__ import annotations

import os
import time
from pathlib import Path

from rivers.spi import cgroup_folders, text_of_file

__all__ = ["MemoryCgroup", "MemoryGrowth"]

_NO_LIMIT = 1 << 60


class MemoryCgroup:
    """The memory cgroup (v1 or v2) of this process, which its workers share; `root` is where /proc and /sys are.

    Both answers are None where no cgroup is or it cannot be read.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._folders = list(cgroup_folders("memory", root))

    def oom_kills(self) -> int | None:
        """How many processes of the cgroup the OOM killer has killed so far."""
        for folder in self._folders:
            for name in ("memory.events", "memory.oom_control"):
                for line in text_of_file(folder / name).splitlines():
                    words = line.split()
                    if len(words) == 2 and words[0] == "oom_kill" and words[1].isdecimal():
                        return int(words[1])
        return None

    def limit(self) -> int | None:
        """The limit in bytes."""
        for folder in self._folders:
            for name in ("memory.max", "memory.limit_in_bytes"):
                text = text_of_file(folder / name).strip()
                if text.isdecimal() and int(text) < _NO_LIMIT:
                    return int(text)
        return None


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
        words = text_of_file(Path("/proc/self/statm")).split()
        if len(words) < 3:
            return False
        own = (int(words[1]) - int(words[2])) * os.sysconf("SC_PAGE_SIZE")
        self._first = own if self._first is None else self._first
        return own - self._first > self._most
