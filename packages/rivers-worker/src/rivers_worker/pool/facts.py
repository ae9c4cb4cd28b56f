"""Facts that change the state of a pool, and the effects that a decision asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from rivers_worker.pool.state import WorkerRequest

__all__ = [
    "Asked",
    "Closed",
    "Died",
    "Effect",
    "Fact",
    "Fail",
    "Give",
    "Gone",
    "Limited",
    "Ready",
    "Returned",
    "Returning",
    "Start",
    "StartFailed",
    "Stop",
    "Ticked",
    "Unused",
    "Withdrawn",
]

# ── facts ──


@dataclass(frozen=True, slots=True)
class Asked:
    """Somebody asks for a worker; its number is `PoolState.last_number` afterwards."""

    request: WorkerRequest


@dataclass(frozen=True, slots=True)
class Withdrawn:
    """A request that waits is not needed any more."""

    request: int


@dataclass(frozen=True, slots=True)
class Ready:
    """A worker has started and takes `attempts` attempts; one that is `bound` only that of the request that asked."""

    worker: int
    attempts: int
    bound: bool = False


@dataclass(frozen=True, slots=True)
class StartFailed:
    """A worker has not started, and nothing of it is left."""

    worker: int
    error: Exception


@dataclass(frozen=True, slots=True)
class Returned:
    """A lease is over. A worker that is not `clean` is stopped, any other takes `attempts` more at most."""

    worker: int
    clean: bool
    attempts: int
    modules: frozenset[str]


@dataclass(frozen=True, slots=True)
class Returning:
    """The attempt of a lease is over, and its worker cleans up: who waits may wait for that."""

    worker: int


@dataclass(frozen=True, slots=True)
class Unused:
    """A lease is over before it was used."""

    worker: int


@dataclass(frozen=True, slots=True)
class Died:
    """A worker has ended by itself."""

    worker: int


@dataclass(frozen=True, slots=True)
class Gone:
    """The stop of a worker is over."""

    worker: int


@dataclass(frozen=True, slots=True)
class Limited:
    """The number of workers that may exist has changed."""

    limit: int | None


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time has passed."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The pool is to end."""


Fact: TypeAlias = (
    Asked | Withdrawn | Ready | StartFailed | Returning | Returned | Unused | Died | Gone | Limited | Ticked | Closed
)

# ── effects ──


@dataclass(frozen=True, slots=True)
class Start:
    """Start a worker for a request."""

    worker: int
    request: int


@dataclass(frozen=True, slots=True)
class Give:
    """Lease a worker to a request."""

    worker: int
    request: int


@dataclass(frozen=True, slots=True)
class Fail:
    """End a request without a worker; without an `error` because the pool is closed."""

    request: int
    error: Exception | None


@dataclass(frozen=True, slots=True)
class Stop:
    """Stop a worker, or its start."""

    worker: int
    reason: str


Effect: TypeAlias = Start | Give | Fail | Stop
