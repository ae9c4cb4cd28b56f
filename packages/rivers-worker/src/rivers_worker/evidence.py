"""What can be seen of memory in this process's cgroup, v2 or v1; None where there is nothing to see.

`rivers.spi` has the like of it; the server's process imports no rivers.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["memory_limit", "memory_peak", "oom_kills"]

UNLIMITED = 1 << 60
"""cgroup v1 says so many bytes, or more, where there is no limit."""


def oom_kills(root: Path = Path("/")) -> int | None:
    """How many processes of this container the kernel has killed for memory so far; `root` is where /proc and /sys are.

    The same holds for the others.
    """
    for text in _texts(root, "memory.events", "memory.oom_control"):
        for line in text.splitlines():
            word, _, count = line.partition(" ")
            if word == "oom_kill" and count.isdecimal():
                return int(count)
    return None


def memory_peak(root: Path = Path("/")) -> int | None:
    """The most bytes that this container has held."""
    return _number(root, "memory.peak", "memory.max_usage_in_bytes")


def memory_limit(root: Path = Path("/")) -> int | None:
    """The bytes that it may hold."""
    limit = _number(root, "memory.max", "memory.limit_in_bytes")
    return None if limit is None or limit >= UNLIMITED else limit


def _number(root: Path, *names: str) -> int | None:
    texts = (text.strip() for text in _texts(root, *names))
    return next((int(text) for text in texts if text.isdecimal()), None)


def _texts(root: Path, *names: str) -> Iterator[str]:
    for folder in _folders(root):
        for name in names:
            if text := _text(folder / name):
                yield text


def _folders(root: Path) -> Iterator[Path]:
    """In a container the path may be the host's, which is not below its mount: the mount itself is then ours."""
    for line in _text(root / "proc/self/cgroup").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers and "memory" not in controllers.split(","):
            continue
        for mount in ("memory",) if controllers else ("", "unified"):
            top = root / "sys/fs/cgroup" / mount
            own = top / path.lstrip("/")
            yield own if own.is_dir() else top


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
