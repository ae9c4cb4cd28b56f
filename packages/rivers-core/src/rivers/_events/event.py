"""What happened in a run, as facts for whoever listens; every event knows its run, most their step and attempt.

The wire's own events (`rivers.protocol.result`) speak of attempt ids only; these are made of them by the run loop.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

from rivers.protocol.failure import Failure
from rivers.protocol.result import OutputRecord, Timings

__all__ = [
    "Event",
    "RunFinished",
    "RunStarted",
    "RunWarning",
    "StepCancelled",
    "StepFailed",
    "StepLog",
    "StepRetrying",
    "StepSkipped",
    "StepStarted",
    "StepSucceeded",
]


class _Fact(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag_field="event", tag=lambda name: name):
    run_id: str
    time: float


class RunStarted(_Fact, frozen=True, kw_only=True, gc=False):
    """The run begins; `steps` is how many are planned (mapped instances come on top)."""

    job: str | None = None
    steps: int = 0
    tags: dict[str, str] | None = None


class RunFinished(_Fact, frozen=True, kw_only=True, gc=False):
    """The run is over; `status` is `success`, `failure` or `cancelled`. The last event of a run."""

    status: str


class RunWarning(_Fact, frozen=True, kw_only=True, gc=False):
    """Something a person should know that fails nothing."""

    message: str
    step: str | None = None


class StepStarted(_Fact, frozen=True, kw_only=True, gc=False):
    """An attempt has reached its worker; `attempt` counts from 1."""

    step: str
    attempt: int
    attempt_id: str
    executor: str
    worker: str = ""


class StepLog(_Fact, frozen=True, kw_only=True, gc=False):
    """What a body logged or printed; `stream` is `log`, `stdout` or `stderr`, `level` a number of `logging`."""

    step: str
    attempt: int
    message: str
    level: int = 0
    logger: str = ""
    stream: str = "log"


class StepSucceeded(_Fact, frozen=True, kw_only=True, gc=False):
    """The step's outputs are committed."""

    step: str
    attempt: int
    outputs: tuple[OutputRecord, ...] = ()
    timings: Timings = Timings()
    worker: str = ""


class StepFailed(_Fact, frozen=True, kw_only=True, gc=False):
    """The step has failed for good."""

    step: str
    attempt: int
    failure: Failure


class StepRetrying(_Fact, frozen=True, kw_only=True, gc=False):
    """An attempt has failed, and another starts in `delay` seconds; `free` when it is not charged to the policy."""

    step: str
    attempt: int
    failure: Failure | None
    delay: float
    free: bool = False


class StepSkipped(_Fact, frozen=True, kw_only=True, gc=False):
    """The step was not run, because `cause`, a step upstream of it, failed or was cancelled."""

    step: str
    cause: str


class StepCancelled(_Fact, frozen=True, kw_only=True, gc=False):
    """The step was cancelled: before it ran with `attempt` 0, or while it ran; then `failure` says where it was."""

    step: str
    attempt: int = 0
    failure: Failure | None = None


Event: TypeAlias = (
    RunStarted
    | RunFinished
    | RunWarning
    | StepStarted
    | StepLog
    | StepSucceeded
    | StepFailed
    | StepRetrying
    | StepSkipped
    | StepCancelled
)
