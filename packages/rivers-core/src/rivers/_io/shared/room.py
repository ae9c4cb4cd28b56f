"""Free space: on a file system, and in the memory that this process may use."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

from rivers_process.cgroup import MemoryCgroup, read_table

__all__ = ["Memory", "has_room", "is_roomy", "read_free_space", "read_memory"]

_MIB = 1 << 20

LEAST = 1024 * _MIB
"""Free bytes that make a file system in memory roomy: 100 values of 10 MB."""
SHARE = 2
"""A store in memory may start with one part in so many of the available memory, as the steps need memory, too."""
KEPT_FREE = 32 * _MIB
"""Bytes that large values leave free on a file system in memory, for small values and pointers; at most a sixteenth."""


class Memory(NamedTuple):
    """Bytes of memory: those that this process may use at all, and those that are available now."""

    total: int
    available: int


def is_roomy(free: int, found: Memory | None) -> bool:
    """Return whether a file system in memory with `free` bytes suits a store."""
    return found is not None and min(free, found.available // SHARE) >= LEAST


def has_room(size: int, total: int, free: int, found: Memory | None) -> bool:
    """Return whether a value of `size` bytes fits on a file system in memory and leaves enough memory for the steps.

    They keep an eighth of the memory, at least 256 MiB, but no more than half of it.
    """
    if found is None or free - size < min(KEPT_FREE, total // 16):
        return False
    return found.available - size >= max(found.total // 8, min(256 * _MIB, found.total // 2))


def read_free_space(folder: str) -> tuple[int, int]:
    """Return the size and the free bytes of a folder's file system.

    Raises:
        OSError: there is no such folder.
    """
    found = os.statvfs(folder)
    return found.f_blocks * found.f_frsize, found.f_bavail * found.f_frsize


def read_memory(root: Path = Path("/")) -> Memory | None:
    """Return the least memory of the machine, this process's cgroup (v1 or v2) and those above; None without /proc.

    Memory that the kernel can reclaim at once, such as the cache of files on disk, counts as available.
    """
    numbers = read_table(root / "proc/meminfo")
    total, available = numbers.get("MemTotal", 0) * 1024, numbers.get("MemAvailable", 0) * 1024
    if not available:
        return None
    for group in MemoryCgroup(root).limited():
        total = min(total, group.limit)
        available = min(available, max(0, group.limit - group.used + group.reclaimable))
    return Memory(total, available)
