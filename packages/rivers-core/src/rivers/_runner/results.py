"""Results and records that a worker reports for itself rather than for a body."""

from __future__ import annotations

import logging
import time

from rivers._runner.failures import make_failure
from rivers.exceptions import SpecDecodeError
from rivers.protocol.failure import Evidence, FailureReason
from rivers.protocol.result import Ending, LogRecord, StepResult

__all__ = ["interrupted_result", "unsendable_result", "warning_record"]


def interrupted_result(attempt_id: str, error: KeyboardInterrupt, worker: str) -> StepResult:
    """Return the result of an attempt whose body raised KeyboardInterrupt, which `Runner.run_step` raises on.

    It cancels the run, as Ctrl-C does.
    """
    failure = make_failure(error, FailureReason.CANCELLED, evidence=Evidence(cancelled=True, worker=worker or None))
    return StepResult(attempt_id=attempt_id, ending=Ending.CANCELLED, failure=failure, worker=worker)


def unsendable_result(attempt_id: str, error: SpecDecodeError, worker: str = "") -> StepResult:
    """Return the result of an attempt whose spec or result exceeds the protocol's limits; it is not retried."""
    failure = make_failure(error, FailureReason.INFRASTRUCTURE, transient=False)
    return StepResult(attempt_id=attempt_id, ending=Ending.FAILED, failure=failure, worker=worker)


def warning_record(message: str, attempt_id: str = "", *, logger: str = "rivers") -> LogRecord:
    """Return a warning of rivers itself: about an attempt, or about the run where no attempt is named.

    `logger` is `rivers` or a child of it, such as `rivers.kubernetes`: core emits these also where nobody listens.
    """
    return LogRecord(attempt_id=attempt_id, message=message, level=logging.WARNING, logger=logger, time=time.time())
