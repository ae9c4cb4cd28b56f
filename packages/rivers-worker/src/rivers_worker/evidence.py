"""What can be seen of memory in a container's cgroup, v2 or v1; None where there is nothing to see."""

from __future__ import annotations

from pathlib import Path

__all__ = ["memory_limit", "memory_peak", "oom_kills"]

CGROUP = Path("/sys/fs/cgroup")
UNLIMITED = 1 << 60
"""cgroup v1 says so many bytes, or more, where there is no limit."""


def oom_kills(root: Path = CGROUP) -> int | None:
    """How many processes of this container the kernel has killed for memory so far."""
    for name in ("memory.events", "memory/memory.oom_control"):
        for line in _text(root / name).splitlines():
            word, _, count = line.partition(" ")
            if word == "oom_kill" and count.isdecimal():
                return int(count)
    return None


def memory_peak(root: Path = CGROUP) -> int | None:
    """The most bytes that this container has held."""
    return _number(root, "memory.peak", "memory/memory.max_usage_in_bytes")


def memory_limit(root: Path = CGROUP) -> int | None:
    """The bytes that it may hold."""
    limit = _number(root, "memory.max", "memory/memory.limit_in_bytes")
    return None if limit is None or limit >= UNLIMITED else limit


def _number(root: Path, *names: str) -> int | None:
    texts = (_text(root / name).strip() for name in names)
    return next((int(text) for text in texts if text.isdecimal()), None)


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
