"""The parts of a run's frontier: units of work, groups of mapped instances, effects of a change."""

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
    "FIRST",
    "Effects",
    "ExecutorLimits",
    "Group",
    "OpenAttempt",
    "StreamState",
    "Unit",
    "attempt_id_of",
    "cancel_timeout",
    "cancelled_attempt",
    "dispatch_timeout",
    "epoch_of",
    "missing_failure",
    "redispatch_delay",
    "step_timeout",
]


_TIMED_OUT = tuple(
    cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"
    for cls in StepTimeoutError.__mro__
)


@dataclass(frozen=True, slots=True)
class ExecutorLimits:
    """The slots of one executor of the plan, and how it runs attempts.

    `max_sync`, `max_async` and `max_steps` are numbers of slots, None for no limit. `blocking` executors run an attempt
    in the calling thread. `streams` says whether streams can be live. `grace`, in seconds, replaces the run's;
    `compute` is for attempts that request none.
    """

    kind: str
    max_sync: int | None = None
    max_async: int | None = None
    blocking: bool = False
    streams: bool = False
    max_steps: int | None = None
    grace: float | None = None
    compute: spec.Compute | None = None


FIRST = 0
"""The ticket of a step's first attempt in an epoch; all others are higher."""


def attempt_id_of(run_id: str, index: int, epoch: int, ticket: int) -> str:
    """Return the id of an attempt: `run-index-epoch.ticket`.

    `index` is that of the step in the plan. `epoch` counts the controllers that have carried out the run, from 0, and
    `ticket` the attempts of one controller: so no two controllers of a run give the same id.
    """
    return f"{run_id}-{index}-{epoch}.{ticket}"


def epoch_of(attempt_id: str) -> int:
    """Return the epoch of an attempt id; 0 if it has another form."""
    epoch = attempt_id.rpartition("-")[2].partition(".")[0]
    return int(epoch) if epoch.isascii() and epoch.isdecimal() else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAttempt:
    """An attempt that an earlier controller of the run has submitted, and whose end is not known.

    `worker` and `started` (in seconds since the epoch) are those of its StepStarted; empty and None if the record has
    none. `seq` is the number of its last log record that was recorded (`StreamRecord.seq`), 0 if there is none.
    """

    attempt_id: str
    worker: str = ""
    started: float | None = None
    seq: int = 0


class Unit:
    """A unit of work: a step, or one instance of a mapped step (`map_key`).

    `charged` counts the attempts that the retry policy counts. `unstarted` counts those since then that never began;
    they are repeated free of charge until `give_up`, a time. `begun`, `overdue`, `queued`
    (the seconds of its wait for a slot) and `started` (the time of the epoch at which it began) describe the current
    attempt. `doomed` names the failed step that makes the unit useless. `fingerprint` is what its outputs are stored
    with, None where nobody compares. `adopts` is the attempt of an earlier controller that it goes on with.
    """

    __slots__ = (
        "adopts",
        "attempt_id",
        "begun",
        "charged",
        "compute",
        "doomed",
        "failures",
        "fingerprint",
        "give_up",
        "key",
        "map_key",
        "overdue",
        "queued",
        "ready_at",
        "started",
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
        self.fingerprint: str | None = None
        self.doomed: str | None = None
        self.adopts: OpenAttempt | None = None
        self.begun = False
        self.overdue = False
        self.give_up: float | None = None
        self.ready_at = 0.0
        self.queued = 0.0
        self.started: float | None = None

    def request_compute(self, executors: Sequence[ExecutorLimits]) -> Compute:
        """Return what its attempts request, with the executor's defaults for what they leave open."""
        own = self.compute or Compute()
        given = executors[self.step.executor_index].compute or spec.Compute()
        return Compute(cpu=own.cpu or given.cpu, memory=own.memory or given.memory, gpu=own.gpu or given.gpu)


class Group:
    """The instances of a mapped step.

    `origin` is the node whose last output is mapped over; `keys` are the mapping keys of its elements, and are stored
    beside them. `done` holds the keys of instances that succeeded, in that order. `lost` maps the other keys to the
    step that failed; `broken` is the first of these. `active` counts the instances that are queued or run; those in
    `held` wait for `max_concurrency`.
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
class Effects:
    """The I/O that a change of state requires, in this order: emit, stop, start, give up.

    `now` is the time of the change in seconds of a monotonic clock, `wall` in seconds of the epoch. `stops` holds
    attempt ids, each with its grace in seconds. `silent` holds an end for each attempt that was stopped and never
    reported: look into the stores, then pass it to `Frontier.on_ended`.
    """

    now: float
    wall: float
    events: list[Event] = field(default_factory=list)
    stops: list[tuple[str, float]] = field(default_factory=list)
    starts: list[Unit] = field(default_factory=list)
    silent: list[StepResult] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class StreamState:
    """The state of one item of a stream: its key, `ended`, `broken` by a failed step, or not known yet."""

    key: str | None = None
    ended: bool = False
    broken: str | None = None

    @property
    def is_known(self) -> bool:
        """True once the item has a key or never will have one."""
        return self.key is not None or self.ended or self.broken is not None

    def key_or_end(self, parameter: str) -> str | None:
        """Return the key, or None at the end of the stream.

        Raises:
            StepCancelledError: an instance did not succeed.
        """
        if self.broken is not None:
            raise StepCancelledError(f"the stream {parameter!r} ended early: {self.broken} did not succeed")
        return self.key


def redispatch_delay(unstarted: int) -> float:
    """Return the longest wait in seconds before the next dispatch of an attempt that never began: 0.2 s to 10 s."""
    return float(min(10.0, 0.2 * 2 ** min(unstarted, 10)))


def step_timeout(unit: Unit, reported: Failure | None) -> Failure:
    """Return the failure of an attempt that was stopped for its timeout, with what its worker reported of the stop."""
    timeout = unit.step.node.definition.timeout
    evidence = reported.evidence if reported is not None and reported.evidence is not None else Evidence()
    return Failure(
        reason=FailureReason.TIMEOUT,
        type=_TIMED_OUT[0],
        mro=_TIMED_OUT,
        message=f"ran longer than its timeout of {timeout} s and was stopped",
        traceback=reported.traceback if reported is not None else None,
        evidence=replace(evidence, timed_out=True, cancelled=False),
    )


def cancelled_attempt(result: StepResult) -> Failure:
    """Return the failure of a cancelled attempt whose executor reported none."""
    evidence = Evidence(cancelled=True, worker=result.worker or None)
    return Failure(reason=FailureReason.CANCELLED, type="", message="the attempt was cancelled", evidence=evidence)


def cancel_timeout(unit: Unit, cancelled: bool) -> StepResult:
    """Return the end of an attempt that its executor was asked to stop, and never reported."""
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
    """Return the failure of an attempt that was dispatched for this many seconds and never began."""
    return Failure(
        reason=FailureReason.INFRASTRUCTURE, type="", message=f"the executor did not start it within {seconds:.0f} s"
    )


def missing_failure() -> Failure:
    """Return the failure of an attempt whose executor reported a failed end without a failure."""
    return Failure(
        reason=FailureReason.INFRASTRUCTURE, type="", message="the executor reported a failure without saying which"
    )
