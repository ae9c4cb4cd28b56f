"""Reap or kill the children that this process inherits from descendants that end before them."""

from __future__ import annotations

import contextlib
import os
import time

from rivers_process.processes import child_processes, kill_processes

__all__ = ["kill_children", "reap_until"]

PAUSE = 0.01


def reap_until(pid: int) -> None:
    """Wait until a child has ended, and reap all others that end before it; it is left for `waitpid`."""
    while True:
        # WNOWAIT leaves a child that has ended a zombie, so that its id is not used again.
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        if ended is None or ended.si_pid == pid:
            return
        os.waitpid(ended.si_pid, 0)


def kill_children(within: float) -> None:
    """Kill all children, and their children, which this process inherits, for at most `within` seconds."""
    until = time.monotonic() + within
    while (children := child_processes(os.getpid())) and time.monotonic() < until:
        kill_processes(child.pid for child in children)
        time.sleep(PAUSE)
        for child in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid, os.WNOHANG)
