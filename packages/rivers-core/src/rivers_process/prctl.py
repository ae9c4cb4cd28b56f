"""Attributes of this process that Linux sets by prctl(2)."""

from __future__ import annotations

import ctypes
import os
import signal

__all__ = ["adopt_orphans", "allow_inspection", "die_with_parent", "forbid_inspection"]

# <linux/prctl.h>
_PR_SET_PDEATHSIG = 1
_PR_SET_DUMPABLE = 4
_PR_SET_CHILD_SUBREAPER = 36


def die_with_parent(parent: int) -> bool:
    """Have the kernel kill this process when the thread that started it ends.

    Return False where the process `parent` has ended already.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    # The signal is for ends from here on; an orphan of an earlier end has another parent by now.
    return os.getppid() == parent


def adopt_orphans() -> None:
    """Make this process the parent of all descendants that lose theirs, in place of init."""
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1)


def allow_inspection() -> None:
    """Undo `forbid_inspection`, which forked children inherit."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 1)


def forbid_inspection() -> None:
    """Close this process's memory to others of its user: no ptrace, no /proc/PID/mem or environ, no core file."""
    ctypes.CDLL(None).prctl(_PR_SET_DUMPABLE, 0)
