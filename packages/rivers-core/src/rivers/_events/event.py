"""The events of a run. Every event names its run, most of them their step and attempt.

The run loop makes them of the protocol's own events (`rivers.protocol.result`), which name attempt ids only.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from rivers.protocol.failure import Failure
from rivers.protocol.result import OutputRecord, Timings

__all__ = [
    "Event",
    "RunEnding",
    "RunFinished",
    "RunStarted",
    "RunWarning",
    "StepCancelled",
    "StepFailed",
    "StepLog",
    "StepRetrying",
    "StepReused",
    "StepSkipped",
    "StepStarted",
    "StepSubmitted",
    "StepSucceeded",
    "StepUnchanged",
]


class _RunEvent(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="event", tag=lambda name: name):
    run_id: str
    time: float


class RunStarted(_RunEvent, frozen=True, kw_only=True, gc=False):
    """The start of a run; `steps` is the number of planned steps, to which mapped instances are added.

    `version` is that of the events: it changes when a reader of the last one would misread them. `epoch` is above 0
    where another process carries on what an earlier one has begun: it counts those before it. `partition` is the one
    that the run makes.
    """

    job: str | None = None
    steps: int = 0
    tags: dict[str, str] | None = None
    version: int = 1
    epoch: int = 0
    partition: str | None = None


class RunEnding(_RunEvent, frozen=True, kw_only=True, gc=False):
    """The intent to end the run in its stores, after which nobody can resume it; only records have it."""

    status: str


class RunFinished(_RunEvent, frozen=True, kw_only=True, gc=False):
    """The end of a run, its last event; `status` is `success`, `failure` or `cancelled`."""

    status: str


class RunWarning(_RunEvent, frozen=True, kw_only=True, gc=False):
    """A warning: something to know of that fails no step."""

    message: str
    step: str | None = None


class StepSubmitted(_RunEvent, frozen=True, kw_only=True, gc=False):
    """The intent to hand an attempt to its executor; only records have it, as a line that comes before the act."""

    step: str
    attempt: int
    attempt_id: str


class StepStarted(_RunEvent, frozen=True, kw_only=True, gc=False):
    """The start of an attempt in its worker; `attempt` counts from 1."""

    step: str
    attempt: int
    attempt_id: str
    executor: str
    worker: str = ""


class StepLog(_RunEvent, frozen=True, kw_only=True, gc=False):
    """A log record or text of a body; `stream` is `log`, `stdout` or `stderr`, `level` a number of `logging`.

    `seq` is its number among the events of its worker, 0 where the worker gives none.
    """

    step: str
    attempt: int
    message: str
    level: int = 0
    logger: str = ""
    stream: str = "log"
    seq: int = 0


class StepSucceeded(_RunEvent, frozen=True, kw_only=True, gc=False):
    """The success of a step: its outputs are committed."""

    step: str
    attempt: int
    attempt_id: str = ""
    outputs: tuple[OutputRecord, ...] = ()
    timings: Timings = Timings()
    worker: str = ""


class StepReused(_RunEvent, frozen=True, kw_only=True, gc=False):
    """A step that need not run, as an earlier attempt has committed its outputs."""

    step: str
    attempt: int
    attempt_id: str
    outputs: tuple[OutputRecord, ...] = ()


class StepUnchanged(_RunEvent, frozen=True, kw_only=True, gc=False):
    """A step that does not run, as nothing has changed since `attempt_id` stored its outputs."""

    step: str
    attempt_id: str
    outputs: tuple[OutputRecord, ...] = ()


class StepFailed(_RunEvent, frozen=True, kw_only=True, gc=False):
    """The failure of a step for good: no further attempt follows."""

    step: str
    attempt: int
    failure: Failure
    timings: Timings = Timings()
    worker: str = ""


class StepRetrying(_RunEvent, frozen=True, kw_only=True, gc=False):
    """A failed attempt, after which another starts in `delay` seconds; `free` when the policy does not count it."""

    step: str
    attempt: int
    failure: Failure | None
    delay: float
    free: bool = False
    timings: Timings = Timings()
    worker: str = ""


class StepSkipped(_RunEvent, frozen=True, kw_only=True, gc=False):
    """A step that does not run because `cause`, a step upstream of it, did not succeed."""

    step: str
    cause: str


class StepCancelled(_RunEvent, frozen=True, kw_only=True, gc=False):
    """A cancelled step: before it ran (`attempt` 0), or while it ran, when `failure` says where its body was."""

    step: str
    attempt: int = 0
    failure: Failure | None = None


Event: TypeAlias = (
    RunStarted
    | RunEnding
    | RunFinished
    | RunWarning
    | StepSubmitted
    | StepStarted
    | StepLog
    | StepSucceeded
    | StepUnchanged
    | StepFailed
    | StepRetrying
    | StepReused
    | StepSkipped
    | StepCancelled
)
