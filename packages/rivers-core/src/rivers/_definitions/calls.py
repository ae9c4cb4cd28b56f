"""The calls of a composition, and the sources of their arguments."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

from rivers._definitions.task import BashTask, Task

__all__ = ["Argument", "Call", "Collected", "Constant", "Element", "FromCall", "Upstream"]


@dataclass(frozen=True, slots=True)
class Upstream:
    """The value of an upstream asset, or of a resource, by the name of the graph function's parameter."""

    name: str


@dataclass(frozen=True, slots=True)
class FromCall:
    """The value of another call."""

    call: int


@dataclass(frozen=True, slots=True)
class Element:
    """One element of the value of a call that is mapped over, or this instance's result of a mapped call."""

    call: int


@dataclass(frozen=True, slots=True)
class Collected:
    """All results of a mapped call: a list, or an iterator when `stream`."""

    call: int
    stream: bool = False
    ordered: bool = False


@dataclass(frozen=True, slots=True)
class Constant:
    """A value that the composition holds."""

    value: Any


Argument: TypeAlias = Upstream | FromCall | Element | Collected | Constant


@dataclass(slots=True)
class Call:
    """One call of a task: a step of the graph, or one step per element where it is `mapped_over` another call."""

    index: int
    name: str
    task: Task | BashTask
    arguments: dict[str, Argument]
    after: tuple[Argument, ...] = ()
    mapped_over: int | None = None
    max_concurrency: int | None = None
