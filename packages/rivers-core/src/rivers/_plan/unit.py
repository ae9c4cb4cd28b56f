"""The parts of a run's frontier: units of work, groups of mapped instances, what is owed."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from rivers._definitions.compute import Compute
from rivers._events.event import Event
from rivers._plan.graph import Node
from rivers._plan.plan import Step
from rivers.exceptions import StepCancelledError, StepTimeoutError
from rivers.protocol import spec
from rivers.protocol.failure import Evidence, Failure, FailureReason
from rivers.protocol.result import Ending, StepResult

__all__ = [
    "Group",
    "Owed",
    "Place",
    "StreamState",
    "Unit",
    "cancel_timeout",
    "dispatch_timeout",
    "missing_failure",
    "redispatch_delay",
    "stopped",
    "timed_out",
]


_TIMED_OUT = tuple(
    cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    for cls in StepTimeoutError.__mro__
)


@dataclass(frozen=True, slots=True)
class Place:
    """What the frontier needs to know of one executor of the plan: its places, and how it can be fed.

    `grace` replaces the run's; `compute` is what an attempt gets there that asks for nothing.
    """

    kind: str
    max_sync: int | None = None
    max_async: int | None = None
    blocking: bool = False
    streams: bool = False
    max_steps: int | None = None
    grace: float | None = None
    compute: spec.Compute | None = None


class Unit:
    """One thing to run: a step, or one instance of a mapped step (`map_key`).

    `charged` counts the attempts that the retry policy counts, `unstarted` those since then that never began, which are
    repeated free of charge until `give_up`. `begun`, `overdue` and `queued`, the seconds it waited for a place, are of
    the current attempt. `doomed` names the step that makes the unit pointless.
    """

    __slots__ = (
        "attempt_id",
        "begun",
        "charged",
        "compute",
        "doomed",
        "failures",
        "give_up",
        "key",
        "map_key",
        "overdue",
        "queued",
        "ready_at",
        "step",
        "unstarted",
    )

    def __init__(self, step: Step, map_key: str | None = None) -> None:
        self.step = step
        self.key = step.key if map_key is None else f"{step.key}[{map_key}]"
        self.map_key = map_key
        self.charged = 0
        self.unstarted = 0
        self.attempt_id = ""
        self.compute: Compute | None = step.node.definition.compute
        self.failures: tuple[Failure, ...] = ()
        self.doomed: str | None = None
        self.begun = False
        self.overdue = False
        self.give_up: float | None = None
        self.ready_at = 0.0
        self.queued = 0.0

    def asked(self, places: Sequence[Place]) -> Compute:
        """What its attempts ask for, filled up with what its executor gives to those that ask for nothing."""
        own = self.compute or Compute()
        given = places[self.step.placed].compute or spec.Compute()
        return Compute(cpu=own.cpu or given.cpu, memory=own.memory or given.memory, gpu=own.gpu or given.gpu)


class Group:
    """The instances of a mapped step.

    `origin` is the node whose last output is mapped over: `keys` are the mapping keys of its elements, and are stored
    beside them.
    `done` holds mapping keys in the order they succeeded, `lost` those that did not, each with the culprit; `broken` is
    the first culprit. `active` counts what is queued or runs, `held` waits for `max_concurrency`.
    """

    __slots__ = ("active", "broken", "done", "finished", "held", "keys", "left", "lost", "node", "origin")

    def __init__(self, node: int, keys: tuple[str, ...], origin: Node) -> None:
        self.node = node
        self.origin = origin
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
    """The I/O that one change of state leaves to do, in this order: tell, stop, start, give up.

    `now` is the moment of the change in seconds of a monotonic clock, `wall` in seconds of the epoch. `silent` holds an
    end for each attempt that was stopped and never reported: ask the stores about it, then hand it to `Frontier.ended`.
    """

    now: float
    wall: float
    events: list[Event] = field(default_factory=list)
    stops: list[tuple[str, float]] = field(default_factory=list)
    starts: list[Unit] = field(default_factory=list)
    silent: list[StepResult] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StreamState:
    """The n-th item of a stream: its key, or `ended`, or `broken` by a step, or none of them yet."""

    key: str | None = None
    ended: bool = False
    broken: str | None = None

    @property
    def known(self) -> bool:
        """Whether it is one of these."""
        return self.key is not None or self.ended or self.broken is not None

    def item(self, parameter: str) -> str | None:
        """The key, or None at the end; raises StepCancelledError when it is broken."""
        if self.broken is not None:
            raise StepCancelledError(f"the stream {parameter!r} ended early: {self.broken} did not succeed")
        return self.key


def redispatch_delay(unstarted: int) -> float:
    """The longest wait before an attempt that never began is dispatched again: 0.2 s, doubled up to 10 s."""
    return float(min(10.0, 0.2 * 2 ** min(unstarted, 10)))


def timed_out(unit: Unit, seen: Failure | None) -> Failure:
    """The failure of an attempt that was stopped for its timeout, whatever its worker made of being stopped."""
    timeout = unit.step.node.definition.timeout
    evidence = seen.evidence if seen is not None and seen.evidence is not None else Evidence()
    return Failure(
        reason=FailureReason.TIMEOUT,
        type=_TIMED_OUT[0],
        mro=_TIMED_OUT,
        message=f"ran longer than its timeout of {timeout} s and was stopped",
        traceback=seen.traceback if seen is not None else None,
        evidence=replace(evidence, timed_out=True, cancelled=False),
    )


def stopped(result: StepResult) -> Failure:
    """The failure of a cancelled attempt of which its executor said nothing more."""
    evidence = Evidence(cancelled=True, worker=result.worker or None)
    return Failure(reason=FailureReason.CANCELLED, type="", message="the attempt was cancelled", evidence=evidence)


def cancel_timeout(unit: Unit, cancelled: bool) -> StepResult:
    """The end of an attempt whose executor did not say how it ended, long after it was asked to stop it."""
    reason = FailureReason.TIMEOUT if unit.overdue else FailureReason.INFRASTRUCTURE
    failure = Failure(
        reason=FailureReason.CANCELLED if cancelled else reason,
        type="",
        message="the executor was asked to stop the attempt and never reported its end; it may still run",
        evidence=Evidence(timed_out=unit.overdue, cancelled=cancelled, detail="no report after cancel"),
        transient=not cancelled,
    )
    ending = Ending.CANCELLED if cancelled else Ending.FAILED
    return StepResult(attempt_id=unit.attempt_id, ending=ending, failure=failure)


def dispatch_timeout(seconds: float) -> Failure:
    """The failure of an attempt that was handed over again and again and never began."""
    return Failure(
        reason=FailureReason.INFRASTRUCTURE, type="", message=f"the executor did not start it within {seconds:.0f} s"
    )


def missing_failure() -> Failure:
    """The failure of an attempt of which its executor only said that it failed."""
    return Failure(
        reason=FailureReason.INFRASTRUCTURE, type="", message="the executor reported a failure without saying which"
    )
