"""The state of a pool as frozen values: requests that wait, workers that start, are idle, leased or being stopped.

Every mapping is keyed by a number that is never used twice, in the order in which its entries came.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["PoolLimits", "PoolState", "PooledWorker", "ShapeState", "WaitingRequest", "WorkerRequest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRequest:
    """A request for a worker.

    Workers of one `shape` are interchangeable: the same image, resources, environment and whatever else the platform
    sets when it starts one. `modules` are those that the step imports. `spec` is for the platform's `start` alone.
    """

    shape: Hashable
    modules: frozenset[str] = frozenset()
    spec: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """Limits of a pool.

    At most `limit` workers exist at once (None: any number), those that start or stop included, and at most
    `max_starting` start at once: what is ready meanwhile serves those who wait, and they need no start then. An idle
    worker is stopped after `idle_ttl` seconds, and any after `max_attempts`. A request that has waited for `patience`
    seconds gets the place of the next worker that becomes free, though that has another shape and is wanted.
    """

    limit: int | None = None
    max_starting: int = 100
    idle_ttl: float = 30.0
    max_attempts: int = 100
    patience: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WaitingRequest:
    """A request that has no worker yet; `start` is the number of the worker whose start it has asked for."""

    request: WorkerRequest
    since: float
    start: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PooledWorker:
    """A worker from its start on.

    `modules` are those that it has imported, `left` is the number of attempts that it still takes. `asker` is the
    request that asked for its start, `since` the time at which it became idle. One that is not `usable` is stopped at
    the end of its lease: it has died, or serves no second request.
    """

    shape: Hashable
    modules: frozenset[str]
    left: int
    asker: int
    since: float = 0.0
    usable: bool = True


@dataclass(frozen=True, slots=True)
class ShapeState:
    """The requests that wait for workers of one shape, and its workers that start, are idle or will be soon."""

    waiting: Mapping[int, WaitingRequest] = field(default_factory=dict)
    starting: Mapping[int, PooledWorker] = field(default_factory=dict)
    returning: Mapping[int, PooledWorker] = field(default_factory=dict)
    idle: Mapping[int, PooledWorker] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """The number of these workers."""
        return len(self.starting) + len(self.returning) + len(self.idle)

    @property
    def missing(self) -> int:
        """The number of requests for which no worker comes; negative if more come than are waited for."""
        return len(self.waiting) - len(self.starting) - len(self.returning)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolState:
    """The state of a pool; `leased` and `stopping` hold workers of all shapes."""

    limits: PoolLimits
    shapes: Mapping[Hashable, ShapeState] = field(default_factory=dict)
    leased: Mapping[int, PooledWorker] = field(default_factory=dict)
    stopping: Mapping[int, PooledWorker] = field(default_factory=dict)
    last_number: int = 0
    is_closed: bool = False

    @property
    def size(self) -> int:
        """The number of workers that exist, or may."""
        return sum(shape.size for shape in self.shapes.values()) + len(self.leased) + len(self.stopping)

    @property
    def next_expiry(self) -> float | None:
        """The time at which an idle worker has been idle for too long."""
        # The first of each mapping has been idle for the longest.
        since = [next(iter(shape.idle.values())).since for shape in self.shapes.values() if shape.idle]
        return min(since) + self.limits.idle_ttl if since else None
