"""Kill every descendant of this process, a subreaper, but for those that stay."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Collection
from pathlib import Path

from rivers_process.processes import child_processes, command_line, read_process

__all__ = ["kill_descendants"]

FIRST_PAUSE, LONGEST_PAUSE = 0.0005, 0.02
MAX_LISTED = 3


def kill_descendants(keep: Collection[int], deadline: float) -> str | None:
    """Kill and reap until no child but `keep` is left; return a reason if there are some at the deadline.

    Without another child there is no other descendant either: orphans become children of this process.
    """
    # killpg would take 0 for this process's own group, and 1 for all processes.
    spared = {0, 1} | {_group(pid) for pid in (os.getpid(), *keep)}
    pause = FIRST_PAUSE
    while left := [pid for pid in _children(os.getpid()) if pid not in keep and not _reap(pid)]:
        if time.monotonic() > deadline:
            return _describe(left)
        _kill(left, spared)
        # A process takes some time to die; the more memory it has, the longer.
        time.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
    return None


def _kill(pids: list[int], spared: set[int]) -> None:
    """Kill these processes and all below them, by groups where that is possible."""
    killed: set[int] = set()
    waiting = [*pids]
    while waiting:
        pid = waiting.pop()
        group = _group(pid)
        if group in killed:
            # Its children of another group are this process's in the next round.
            continue
        # Read before the kill: as soon as their parent dies, they have another one.
        waiting += _children(pid)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if group in spared:
                os.kill(pid, signal.SIGKILL)
            else:
                # The kernel signals all members at once, and with them what they fork, so no fork bomb outruns it. An
                # attempt's process cannot join a spared group, which is of another session.
                killed.add(group)
                os.killpg(group, signal.SIGKILL)


def _children(pid: int) -> list[int]:
    """Return the ids of a process's children, zombies among them, without reading all of /proc.

    A list that is read while some of them are reaped may lack others, but is never empty for that reason.
    """
    try:
        lists = [f"/proc/{pid}/task/{thread}/children" for thread in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []
    found: list[int] = []
    for file in lists:
        # The thread may have ended; its children are another thread's then.
        with contextlib.suppress(OSError):
            found += map(int, Path(file).read_bytes().split())
    # Nearly all kernels have these files (CONFIG_PROC_CHILDREN).
    return found if found or os.path.exists("/proc/thread-self/children") else _children_in_proc(pid)


def _children_in_proc(pid: int) -> list[int]:
    return [child.pid for child in child_processes(pid)]


def _group(pid: int) -> int:
    """Return the id of a process's group, or 0 where it has ended."""
    try:
        return os.getpgid(pid)
    except ProcessLookupError:
        return 0


def _reap(pid: int) -> bool:
    """Return whether a child has ended, and is a zombie no more."""
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        # Another thread of this process has waited for it.
        return True


def _describe(pids: list[int]) -> str:
    found = [process for pid in pids if (process := read_process(pid)) is not None]
    shown = ", ".join(
        f"{process.pid} ({command_line(process.pid)[:60]!r}, state {process.state})" for process in found[:MAX_LISTED]
    )
    more = f" and {len(found) - MAX_LISTED} more" if len(found) > MAX_LISTED else ""
    return f"processes that cannot be killed: {shown}{more}"
