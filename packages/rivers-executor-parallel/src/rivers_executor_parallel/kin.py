"""What a process has started, and what that has started: also what has left its process group.

While a worker lives, parents tell: it adopts what lost its own below it. When it was killed by somebody else, its
children have other parents, and those in sessions of their own are in no group of ours; then the environment tells,
which they have inherited.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Mapping
from pathlib import Path

__all__ = ["VARIABLE", "bearers", "descendants", "kill", "new_family"]

VARIABLE = "RIVERS_PARALLEL_WORKER"
"""Names a worker, in its environment and in that of all it starts; a worker of a worker is named below that one."""


def new_family(env: Mapping[str, str]) -> str:
    """A name for the workers of one backend; theirs are this, a dot and a number. `env` is the controller's."""
    return f"{env.get(VARIABLE, '')}/{os.getpid()}-{os.urandom(8).hex()}"


def bearers(name: str) -> list[int]:
    """All processes that bear a worker's name in their environment, or that of one below it or of one of its family.

    Not those that were started with another environment than their parent's, nor those of other users.
    """
    wanted = re.compile(rf"\0{VARIABLE}={re.escape(name)}[\0/.]".encode())
    found: list[int] = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if wanted.search(b"\0" + (folder / "environ").read_bytes()):
                found.append(int(folder.name))
    return found


def descendants(pid: int) -> list[int]:
    """All processes below one, by their parents; a worker is also the parent of what lost its own below it."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError, ValueError):
            # pid (name) state parent …; the name may hold anything, so what counts is behind the last bracket
            parent = int((folder / "stat").read_text(errors="replace").rpartition(")")[2].split()[1])
            parents.setdefault(parent, []).append(int(folder.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def kill(pids: list[int]) -> None:
    """Kill these, as far as they are there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
