"""What can be seen of other processes, through /proc."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Process", "children", "end", "kill_child", "marked"]


@dataclass(frozen=True)
class Process:
    """A process that was there a moment ago; `state` is the letter of /proc/PID/stat, Z for a zombie."""

    pid: int
    parent: int
    state: str
    command: str


def children(parent: int) -> list[Process]:
    """The children of a process, zombies among them."""
    return [process for process in _all() if process.parent == parent]


def marked(mark: str) -> list[Process]:
    """The processes whose environment holds a text such as `NAME=value`; this one is not among them."""
    found = []
    for process in _all():
        with contextlib.suppress(OSError):
            if process.pid != os.getpid() and mark.encode() in Path(f"/proc/{process.pid}/environ").read_bytes():
                found.append(process)
    return found


def kill_child(pid: int) -> bool:
    """SIGKILL a child of this process; False when it is none, or none any more. A pid that is reused is not hit."""
    try:
        held = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        process = _process(pid)
        if process is None or process.parent != os.getpid() or process.state == "Z":
            return False
        signal.pidfd_send_signal(held, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(held)
    return True


def end(processes: list[Process]) -> None:
    """Leave nothing behind where the executor has."""
    for process in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)


def _all() -> Iterator[Process]:
    for name in os.listdir("/proc"):
        if name.isdecimal():
            process = _process(int(name))
            if process is not None:
                yield process


def _process(pid: int) -> Process | None:
    try:
        state, parent, *_ = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (OSError, ValueError):  # it has just ended
        return None
    return Process(pid, int(parent), state, command.strip())
