"""Readers of the limits and counters of this process's cgroups, v1 and v2."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = ["MemoryCgroup", "MemoryUse", "cgroup_folders", "read_kernel_file", "read_table"]

# cgroup v1 reports a limit near 2**63, rounded down to pages, where none is set.
_UNLIMITED = 1 << 60
_LIMIT = ("memory.max", "memory.limit_in_bytes")
_USED = ("memory.current", "memory.usage_in_bytes")
_PEAK = ("memory.peak", "memory.max_usage_in_bytes")
_EVENTS = ("memory.events", "memory.oom_control")


class MemoryUse(NamedTuple):
    """The memory of one cgroup in bytes; the kernel can drop `reclaimable` of what is `used` at once."""

    limit: int
    used: int
    reclaimable: int


class MemoryCgroup:
    """The memory cgroup of this process and those above it; `root` holds `/proc` and `/sys`.

    An answer is None where the kernel gives none.
    """

    def __init__(self, root: Path = Path("/")) -> None:
        self._folders = list(cgroup_folders("memory", root))

    def oom_kills(self) -> int | None:
        """Return the number of processes that the OOM killer has killed in the nearest cgroup that counts them."""
        for folder in self._folders:
            for name in _EVENTS:
                count = read_table(folder / name).get("oom_kill")
                if count is not None:
                    return count
        return None

    def peak(self) -> int | None:
        """Return the most bytes that the nearest cgroup has used."""
        return next((number for folder in self._folders if (number := _first_number(folder, _PEAK)) is not None), None)

    def limit(self) -> int | None:
        """Return the lowest limit in bytes of this cgroup and those above it."""
        return min((limit for folder in self._folders if (limit := _limit(folder)) is not None), default=None)

    def limited(self) -> Iterator[MemoryUse]:
        """Yield the use of every cgroup that has a limit, the nearest first."""
        for folder in self._folders:
            limit, used = _limit(folder), _first_number(folder, _USED)
            if limit is not None and used is not None:
                # v1 counts a cgroup's own pages and, as total_…, those of the cgroups below it, too; v2 always does.
                counters = read_table(folder / "memory.stat")
                cache = counters.get("total_inactive_file", counters.get("inactive_file", 0))
                yield MemoryUse(limit, used, cache)


def cgroup_folders(controller: str, root: Path = Path("/")) -> Iterator[Path]:
    """Yield the folders of this process's cgroup for a controller (`cpu`, `memory`), then those of its ancestors.

    A folder need not exist: `root` holds `/proc` and `/sys`, and a container may see the host's path there.
    """
    for line in read_kernel_file(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            # v2.
            mounts = ["", "unified"]
        elif controller in controllers.split(","):
            # v1: cpu, a link to cpu,cpuacct.
            mounts = list(dict.fromkeys((controller, controllers)))
        else:
            continue
        for mount in mounts:
            # The host's path does not exist below a container's mount; the mount itself is the container's cgroup then.
            top = root / "sys/fs/cgroup" / mount
            group = top / path.lstrip("/")
            for folder in (group, *group.parents):
                yield folder
                if folder == top:
                    break


def read_kernel_file(file: Path) -> str:
    """Return the text of a file of the kernel, or an empty text where it cannot be read."""
    try:
        return file.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def read_table(file: Path) -> dict[str, int]:
    """Return the lines `name number` of a file of the kernel; a colon after the name is dropped."""
    table = {}
    for line in read_kernel_file(file).splitlines():
        words = line.split()
        if len(words) >= 2 and words[1].isdecimal():
            table[words[0].removesuffix(":")] = int(words[1])
    return table


def _limit(folder: Path) -> int | None:
    limit = _first_number(folder, _LIMIT)
    return None if limit is None or limit >= _UNLIMITED else limit


def _first_number(folder: Path, names: tuple[str, ...]) -> int | None:
    for name in names:
        text = read_kernel_file(folder / name).strip()
        if text.isdecimal():
            return int(text)
    return None
