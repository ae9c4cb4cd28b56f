"""What a worker sends back: events while the attempt runs, and exactly one StepResult at its end."""

from __future__ import annotations

import enum
from typing import TypeAlias

import msgspec

from rivers.protocol.failure import Failure

__all__ = ["Ending", "LogRecord", "OutputRecord", "StepEvent", "StepResult", "StepStarted", "Timings"]


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
