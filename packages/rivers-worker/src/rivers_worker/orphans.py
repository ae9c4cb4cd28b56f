"""Reap or kill the children that this process inherits from descendants that end before them."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Collection

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


def kill_children(within: float, keep: Collection[int] = ()) -> bool:
    """Kill all children, and their children, which this process inherits, for at most `within` seconds.

    Those of `keep` live on. Return whether no other is left.
    """
    until = time.monotonic() + within
    while children := [child for child in child_processes(os.getpid()) if child.pid not in keep]:
        if time.monotonic() >= until:
            return False
        kill_processes(child.pid for child in children)
        time.sleep(PAUSE)
        for child in children:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child.pid, os.WNOHANG)
    return True
