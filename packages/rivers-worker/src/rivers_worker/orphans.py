"""The children that a process gets from its descendants when those end before them: buried, or ended."""

from __future__ import annotations

import contextlib
import os
import time

from rivers_process.processes import child_processes, kill_processes

__all__ = ["bury_until", "kill_children"]

PAUSE = 0.01


def bury_until(pid: int) -> None:
    """Wait until this child has ended, and bury all others that end before it; itself it is left for `waitpid`."""
    while True:
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        if ended is None or ended.si_pid == pid:
            return
        os.waitpid(ended.si_pid, 0)


def kill_children(within: float) -> None:
    """Kill all children, and theirs, which are children then, until there are none or so many seconds are over."""
    until = time.monotonic() + within
    while (children := child_processes(os.getpid())) and time.monotonic() < until:
        kill_processes(child.pid for child in children)
        time.sleep(PAUSE)
        for child in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid, os.WNOHANG)
