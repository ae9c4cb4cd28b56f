"""The user's choice: a frozen value, which the worker can make, too, as it imports the same modules."""

from __future__ import annotations

from dataclasses import dataclass, field

import rivers as rs
from rivers.exceptions import ConfigurationError
from rivers.spi import usable_cpus

__all__ = ["SubprocessExecutor"]


@dataclass(frozen=True)
class SubprocessExecutor(rs.Executor):
    """Run every attempt of a step in a process of its own, started for it and gone after it.

    `max_workers` is how many run at once, sync and async steps together; left out, as many as this process may use
    CPUs. `allow_pickle` sends functions without module scope as cloudpickles; RIVERS_ALLOW_PICKLE=1 in the environment
    must allow it, too, as the worker decides for itself what it loads.

    Raises:
        ConfigurationError: an argument is invalid; names it, its value and what is expected.
    """

    kind = "subprocess"

    max_workers: int = field(default_factory=usable_cpus)
    allow_pickle: bool = False

    def __post_init__(self) -> None:
        if type(self.max_workers) is not int or self.max_workers < 1:
            raise ConfigurationError(f"invalid max_workers={self.max_workers!r}: expected a whole number of at least 1")
        if type(self.allow_pickle) is not bool:
            raise ConfigurationError(f"invalid allow_pickle={self.allow_pickle!r}: expected True or False")
