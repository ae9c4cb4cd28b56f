"""How much room there is: on a file system, and in the memory that this process may use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from rivers_process.cgroup import MemoryCgroup, read_table

__all__ = ["Memory", "has_room", "is_roomy", "read_free_space", "read_memory"]

_MIB = 1 << 20

LEAST = 1024 * _MIB
"""Free bytes from which on a place in memory is roomy: 100 values of 10 MB."""
SHARE = 2
"""A store in memory may begin with one part in so many of what is available: the steps need memory, too."""
KEPT_FREE = 32 * _MIB
"""What large values leave free on a file system in memory, at most a sixteenth of it: for small ones and pointers."""


class Memory(NamedTuple):
    """Bytes of memory: how many this process may use at all, and how many are available now."""

    total: int
    available: int


def is_roomy(free: int, found: Memory | None) -> bool:
    """Whether a file system in memory with so many free bytes is a good place for a store."""
    return found is not None and min(free, found.available // SHARE) >= LEAST


def has_room(size: int, total: int, free: int, found: Memory | None) -> bool:
    """Whether a value of that size can go to a file system in memory and leave enough for everybody.

    An eighth of the memory, at least 256 MiB of it or a half of what is little, stays for the steps themselves.
    """
    if found is None or free - size < min(KEPT_FREE, total // 16):
        return False
    return found.available - size >= max(found.total // 8, min(256 * _MIB, found.total // 2))


def read_free_space(folder: str) -> tuple[int, int]:
    """Size and free bytes of a folder's file system.

    Raises:
        OSError: there is no such folder.
    """
    found = os.statvfs(folder)
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


def read_memory(root: Path = Path("/")) -> Memory | None:
    """The least of what the machine and the cgroups (v1 and v2) of this process and above it say; None without /proc.

    What the kernel can drop at once, as the cache of files on disks, counts as available.
    """
    numbers = read_table(root / "proc/meminfo")
    total, available = numbers.get("MemTotal", 0) * 1024, numbers.get("MemAvailable", 0) * 1024
    if not available:
        return None
    for group in MemoryCgroup(root).limited():
        total = min(total, group.limit)
        available = min(available, max(0, group.limit - group.used + group.reclaimable))
    return Memory(total, available)
