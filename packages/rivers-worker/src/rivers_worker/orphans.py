"""Reap the children that this process inherits from descendants that end before them."""

from __future__ import annotations

import contextlib
import os

__all__ = ["reap_until"]


def reap_until(pid: int) -> None:
    """Wait until a child has ended, and reap all others that end before it; it is left for `waitpid`."""
    while True:
        # WNOWAIT leaves a child that has ended a zombie, so that its id is not used again.
        ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOWAIT)
        if ended is None or ended.si_pid == pid:
            return
        # Another thread may wait for it, too: the one that ends the fork server.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(ended.si_pid, 0)
