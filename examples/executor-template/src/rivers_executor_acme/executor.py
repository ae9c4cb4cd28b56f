"""The user's choice: a frozen value, which workers import along with the user's modules."""

from __future__ import annotations

from dataclasses import dataclass, field

import rivers as rs
from rivers.exceptions import ConfigurationError
from rivers.spi import usable_cpus

__all__ = ["AcmeExecutor"]


@dataclass(frozen=True)
class AcmeExecutor(rs.Executor):
    """Run every attempt of a step in a process of its own; `max_workers` of them at once.

    Raises:
        ConfigurationError: an argument is invalid; names it, its value and what is expected.
    """

    kind = "acme"

    max_workers: int = field(default_factory=usable_cpus)

    def __post_init__(self) -> None:
        if type(self.max_workers) is not int or self.max_workers < 1:
            raise ConfigurationError(f"invalid max_workers={self.max_workers!r}: expected a whole number of at least 1")
