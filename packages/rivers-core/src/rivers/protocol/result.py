"""What a worker sends back: events while the attempt runs, and exactly one StepResult at its end."""

from __future__ import annotations

import enum
from typing import TypeAlias

import msgspec

from rivers.protocol.failure import Evidence, Failure, FailureReason, classify, describe

__all__ = ["Ending", "LogRecord", "OutputRecord", "StepEvent", "StepResult", "StepStarted", "Timings", "lost"]


class Ending(enum.Enum):
    """How an attempt ended. NOT_STARTED: the body never ran, dispatch it again free of charge."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    NOT_STARTED = "not_started"


class Timings(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Seconds an attempt spent in each phase; `boot` is the worker's start where there is one (pod, process)."""

    queued: float = 0.0
    boot: float = 0.0
    load: float = 0.0
    run: float = 0.0
    store: float = 0.0


class OutputRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One output that was committed: `metadata` is the text of a JSON object, `map_keys` those of a DYNAMIC output."""

    name: str
    key: str
    metadata: str | None = None
    data_version: str | None = None
    map_keys: tuple[str, ...] | None = None


class StepResult(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="result", tag_field="kind"):
    """The one end of an attempt. `worker` says where it ran (`pid 12`, a pod's name)."""

    attempt_id: str
    ending: Ending
    outputs: tuple[OutputRecord, ...] = ()
    failure: Failure | None = None
    timings: Timings = Timings()
    worker: str = ""


class StepStarted(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="started", tag_field="kind"):
    """The attempt has reached its worker; `time` is seconds since the epoch."""

    attempt_id: str
    worker: str = ""
    time: float = 0.0


class LogRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="log", tag_field="kind"):
    """A log record or a printed line of a body.

    `stream` is `log`, `stdout` or `stderr`; `level` is a number of `logging` (0 for printed text); a message is at most
    16 KiB.
    """

    attempt_id: str
    message: str
    level: int = 0
    logger: str = ""
    stream: str = "log"
    time: float = 0.0


StepEvent: TypeAlias = StepStarted | LogRecord | StepResult


def lost(attempt_id: str, evidence: Evidence, *, started: bool = True) -> StepResult:
    """The end of an attempt whose worker went away without reporting one: one rule, the same on every executor.

    `started` is whether the attempt had told its StepStarted. A worker that was killed before that hit an attempt that
    never ran, which is dispatched again free of charge; one that ended with an exit code could not begin, and another
    attempt could not either.
    """
    reason = classify(evidence)
    unable = not started and evidence.exit_code is not None
    if reason is FailureReason.CANCELLED:
        ending = Ending.CANCELLED
    elif started or unable:
        ending = Ending.FAILED
    else:
        ending = Ending.NOT_STARTED
    failure = Failure(reason=reason, type="", message=describe(evidence), evidence=evidence, transient=not unable)
    return StepResult(attempt_id=attempt_id, ending=ending, failure=failure, worker=evidence.worker or "")
