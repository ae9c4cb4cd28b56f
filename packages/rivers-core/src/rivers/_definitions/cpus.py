"""The number of CPUs that this process may use."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from rivers_process.cgroup import cgroup_folders, read_kernel_file

__all__ = ["usable_cpus"]


def usable_cpus(root: Path = Path("/")) -> int:
    """Return how many CPUs this process may use, at least 1.

    It is the least of the machine's CPUs, the process's affinity and its cgroup's quota.
    `root` is where `/proc` and `/sys` are.
    """
    counts = [os.cpu_count() or 1]
    # macOS has no affinity.
    if hasattr(os, "sched_getaffinity"):
        counts.append(len(os.sched_getaffinity(0)))
    counts += _cgroup_cpus(root)
    return max(1, min(counts))


def _cgroup_cpus(root: Path) -> Iterable[int]:
    """Yield the CPU quotas of this process's cgroup (v1 and v2) and of those above it, rounded up."""
    for folder in cgroup_folders("cpu", root):
        v1 = f"{read_kernel_file(folder / 'cpu.cfs_quota_us')} {read_kernel_file(folder / 'cpu.cfs_period_us')}"
        for quota_us, period_us in map(_numbers, (read_kernel_file(folder / "cpu.max"), v1)):
            if quota_us > 0 and period_us > 0:
                yield -(-quota_us // period_us)


def _numbers(text: str) -> tuple[int, int]:
    """Return quota and period in microseconds; (0, 0) where there is no limit (`max`, -1, no file)."""
    words = text.split()
    return (int(words[0]), int(words[1])) if len(words) == 2 and all(map(str.isdecimal, words)) else (0, 0)
