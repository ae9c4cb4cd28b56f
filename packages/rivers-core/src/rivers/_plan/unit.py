"""The parts of a run's frontier: units of work, the lanes they queue in, groups of mapped instances, what is owed."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from rivers._definitions.compute import Compute
from rivers._events.event import Event
from rivers._plan.plan import Step
from rivers.protocol.failure import Evidence, Failure, FailureReason

__all__ = ["Group", "Lane", "Owed", "Place", "StreamState", "Unit", "timed_out", "unreported"]

NO_LIMIT = 1 << 60


@dataclass(frozen=True, slots=True)
class Place:
    """What the frontier needs to know of one executor of the plan: its places, and how it can be fed."""

    kind: str
    max_sync: int | None = None
    max_async: int | None = None
    blocking: bool = False
    streams: bool = False


class Lane:
    """The queue of ready units of one executor, sync or async, and how many places are free for them."""

    __slots__ = ("free", "queue")

    def __init__(self, places: int | None) -> None:
        self.free = NO_LIMIT if places is None else places
        self.queue: deque[Unit] = deque()


class Unit:
    """One thing to run: a step, or one instance of a mapped step (`map_key`).

    `charged` counts the attempts that the retry policy counts, `dispatches` all submits. `doomed` names the step that
    makes it pointless.
    """

    __slots__ = (
        "attempt_id",
        "charged",
        "compute",
        "dispatches",
        "doomed",
        "failures",
        "give_up",
        "key",
        "map_key",
        "overdue",
        "ready_at",
        "step",
    )

    def __init__(self, step: Step, key: str, map_key: str | None, ready_at: float) -> None:
        self.step = step
        self.key = key
        self.map_key = map_key
        self.ready_at = ready_at
        self.charged = 0
        self.dispatches = 0
        self.attempt_id = ""
        self.compute: Compute | None = step.node.definition.compute
        self.failures: tuple[Failure, ...] = ()
        self.doomed: str | None = None
        self.overdue = False
        self.give_up: float | None = None


class Group:
    """The instances of a mapped step.

    `done` holds mapping keys in the order they succeeded, `lost` those that did not, each with the culprit; `broken` is
    the first culprit. `active` counts what is queued or runs, `held` waits for `max_concurrency`.
    """

    __slots__ = ("active", "broken", "done", "finished", "held", "keys", "left", "lost", "node")

    def __init__(self, node: int, keys: tuple[str, ...]) -> None:
        self.node = node
        self.keys = keys
        self.left = len(keys)
        self.done: list[str] = []
        self.finished: set[str] = set()
        self.lost: dict[str, str] = {}
        self.active = 0
        self.held: deque[Unit] = deque()
        self.broken: str | None = None


@dataclass(slots=True)
class Owed:
    """The I/O that a change of state leaves to do, in this order: tell, stop, start."""

    events: list[Event] = field(default_factory=list)
    stops: list[tuple[str, float]] = field(default_factory=list)
    starts: list[Unit] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StreamState:
    """The n-th item of a stream: its key, or `ended`, or `broken` by a step, or none of them yet."""

    key: str | None = None
    ended: bool = False
    broken: str | None = None


def timed_out(unit: Unit, seen: Failure | None) -> Failure:
    """The failure of an attempt that was stopped for its timeout, whatever its worker made of being stopped."""
    timeout = unit.step.node.definition.timeout
    return Failure(
        reason=FailureReason.TIMEOUT,
        type="TimeoutError",
        mro=("TimeoutError", "OSError", "Exception", "BaseException", "object"),
        message=f"ran longer than its timeout of {timeout} s and was stopped",
        traceback=seen.traceback if seen is not None else None,
        evidence=seen.evidence if seen is not None and seen.evidence is not None else Evidence(timed_out=True),
    )


def unreported(unit: Unit, cancelled: bool) -> Failure:
    """The failure of an attempt whose executor did not say how it ended, long after it was asked to stop it."""
    reason = FailureReason.TIMEOUT if unit.overdue else FailureReason.INFRASTRUCTURE
    return Failure(
        reason=FailureReason.CANCELLED if cancelled else reason,
        type="",
        message="the executor was asked to stop the attempt and never reported its end; it may still run",
        evidence=Evidence(timed_out=unit.overdue, cancelled=cancelled, detail="no report after cancel"),
        transient=not cancelled,
    )
