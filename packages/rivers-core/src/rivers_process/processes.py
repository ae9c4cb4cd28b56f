"""Find processes by their parents, or by a mark in the environment that they have inherited."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

__all__ = [
    "KILL_MARKED_IN_SHELL",
    "Process",
    "child_processes",
    "command_line",
    "descendants",
    "find_marked_processes",
    "kill_processes",
    "read_process",
]

KILL_MARKED_IN_SHELL = """
kill_marked() {
    for file in $(grep -alsF -e "$1" /proc/[0-9]*/environ); do
        pid=${file#/proc/}
        kill -KILL "${pid%/environ}" 2>/dev/null
    done
}
"""
"""A function of a POSIX shell that kills the processes with a mark: for a guard that outlives Python."""


class Process(NamedTuple):
    """A process as it was a moment ago; `state` is the letter in /proc/PID/stat, Z for a zombie."""

    pid: int
    parent: int
    state: str


def find_marked_processes(*marks: str) -> list[int]:
    """Return the other processes of this user that have an environment entry which begins with one of these marks.

    A mark is `NAME=value`, or the beginning of one; a NUL at its end asks for the whole entry. Processes that were
    started with another environment than their parent's have no mark.
    """
    # Entries of environ end with NUL: the one in front keeps a mark from matching inside a value.
    wanted = [b"\0" + mark.encode() for mark in marks]
    found = []
    for pid in _pids():
        # It has ended, or belongs to another user.
        with contextlib.suppress(OSError):
            environ = b"\0" + Path(f"/proc/{pid}/environ").read_bytes()
            if pid != os.getpid() and any(mark in environ for mark in wanted):
                found.append(pid)
    return found


def descendants(pid: int) -> list[int]:
    """Return all processes below one, parents first; a subreaper has those that lost their parents, too."""
    children: dict[int, list[int]] = {}
    for process in _processes():
        children.setdefault(process.parent, []).append(process.pid)
    found: list[int] = []
    waiting = [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def child_processes(pid: int) -> list[Process]:
    """Return the children of a process, zombies among them."""
    return [process for process in _processes() if process.parent == pid]


def kill_processes(pids: Iterable[int]) -> None:
    """Send SIGKILL to those of these processes that still exist."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def read_process(pid: int) -> Process | None:
    """Return the process of this id, or None where it has ended."""
    try:
        # pid (name) state parent …: the name may hold spaces and brackets, so read on from its last bracket.
        state, parent = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[:2]
    except (OSError, ValueError):
        return None
    return Process(pid, int(parent), state)


def command_line(pid: int) -> str:
    """Return the command of a process with spaces between its words; empty where it has ended."""
    try:
        data = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""
    return data.replace(b"\0", b" ").decode(errors="replace").strip()


def _processes() -> Iterator[Process]:
    for pid in _pids():
        process = read_process(pid)
        if process is not None:
            yield process


def _pids() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdecimal())
