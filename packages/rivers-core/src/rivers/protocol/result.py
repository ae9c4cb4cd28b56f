"""The events that a worker sends while an attempt runs, and the StepResult at its end."""

from __future__ import annotations

import enum
from typing import TypeAlias

import msgspec
from msgspec.structs import replace

from rivers.protocol.failure import Evidence, Failure, FailureReason, classify, describe
from rivers.protocol.ref import InlineValue

__all__ = [
    "Ending",
    "LogRecord",
    "OutputRecord",
    "StepEvent",
    "StepResult",
    "StepStarted",
    "Timings",
    "lost",
    "without_values",
]


class Ending(enum.Enum):
    """The end of an attempt. NOT_STARTED: the body never ran, and it is dispatched again free of charge."""

    SUCCEEDED = "succeeded"
    FAILED = "failed"
    CANCELLED = "cancelled"
    NOT_STARTED = "not_started"


class Timings(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The seconds of an attempt by phase; `boot` is the start of its worker (pod, process), where it needed one.

    `schedule` and `pull` are parts of `boot`, where they are known: until the pod had a node, and from then until its
    container ran, which is mostly the pull of its image.
    """

    queued: float = 0.0
    boot: float = 0.0
    load: float = 0.0
    run: float = 0.0
    store: float = 0.0
    schedule: float = 0.0
    pull: float = 0.0


class OutputRecord(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One committed output: `metadata` is the text of a JSON object, `map_keys` those of a DYNAMIC output.

    `values` are the value, or the elements of a DYNAMIC output, whose IO handler is an InlineRef. The controller takes
    them out before it reports the result. `versions` are the data versions of the elements of a DYNAMIC output, in the
    order of `map_keys`, for a spec with a fingerprint.
    """

    name: str
    key: str
    metadata: str | None = None
    data_version: str | None = None
    map_keys: tuple[str, ...] | None = None
    values: tuple[InlineValue, ...] = ()
    versions: tuple[str, ...] | None = None


class StepResult(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="result", tag_field="kind"):
    """The result of an attempt, one for each. `worker` names where it ran (`pid 12`, a pod's name)."""

    attempt_id: str
    ending: Ending
    outputs: tuple[OutputRecord, ...] = ()
    failure: Failure | None = None
    timings: Timings = Timings()
    worker: str = ""


class StepStarted(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="started", tag_field="kind"):
    """The report that an attempt has reached its worker; `time` is seconds since the epoch."""

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


class StreamRecord(LogRecord, frozen=True, kw_only=True, gc=False, tag="log", tag_field="kind"):
    """A log record with its number among the events of its worker, for a controller that reads on from there.

    It exists in the controller only: what travels is a LogRecord.
    """

    seq: int


StepEvent: TypeAlias = StepStarted | LogRecord | StepResult


def lost(attempt_id: str, evidence: Evidence, *, started: bool = True) -> StepResult:
    """Return the result of an attempt whose worker ended without one, by one rule for every executor.

    `started` is whether the worker had reported StepStarted. An attempt whose worker was killed before that never ran,
    and is dispatched again free of charge; a worker that exits before it could not begin, and no other could.
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


def without_values(result: StepResult) -> StepResult:
    """Return a result without inline values, which belong into no event, record or report of a run."""
    # A plain loop: nearly all results have none, and each result passes here.
    for record in result.outputs:
        if record.values:
            return replace(result, outputs=tuple([replace(record, values=()) for record in result.outputs]))
    return result
