"""The mark of a pool's workers in their environment, by which what they started is found when they are gone."""

from __future__ import annotations

import os
from collections.abc import Mapping

from rivers_process.processes import find_marked_processes

__all__ = ["VARIABLE", "find_processes_of", "new_pool_id"]

VARIABLE = "RIVERS_PARALLEL_WORKER"
"""Names a worker, in its environment and in that of all it starts; a worker of a worker is named below that one."""


def new_pool_id(env: Mapping[str, str]) -> str:
    """Return a name for the workers of one backend; theirs are this, a dot and a number. `env` is the controller's."""
    return f"{env.get(VARIABLE, '')}/{os.getpid()}-{os.urandom(8).hex()}"


def find_processes_of(name: str) -> list[int]:
    """Return what the worker or the pool of this name has started, the workers of a pool among them."""
    # While a worker lives, parents lead to all of it. When somebody else has killed it, its children have other
    # parents, and those in sessions of their own are in no group of ours: only what they have inherited leads there.
    return find_marked_processes(*(f"{VARIABLE}={name}{after}" for after in ("\0", "/", ".")))
