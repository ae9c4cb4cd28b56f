"""Make the exception to raise for a failed step: the body's own where it can be rebuilt, with notes on the rest."""

from __future__ import annotations

from rivers._plan.report import StepReport, StepState
from rivers._runner.exception_state import rebuild
from rivers.exceptions import (
    ExecutionError,
    StepCancelledError,
    StepCrashedError,
    StepFailedError,
    StepOutOfMemoryError,
    StepTimeoutError,
)
from rivers.protocol.failure import Failure, FailureReason, describe

__all__ = ["make_exception"]

_BY_REASON: dict[FailureReason, type[StepFailedError]] = {
    FailureReason.TIMEOUT: StepTimeoutError,
    FailureReason.OUT_OF_MEMORY: StepOutOfMemoryError,
    FailureReason.INFRASTRUCTURE: StepCrashedError,
    FailureReason.CANCELLED: StepCancelledError,
}


def make_exception(
    report: StepReport, run_id: str, live: BaseException | None, others: list[StepReport]
) -> BaseException:
    """Return the exception to raise for a failed step.

    `live` is the body's own exception where it ran in this process; one of another process is rebuilt from plain data,
    or a StepFailedError stands for it. `others` are the reports of the run's other steps, which a note names.
    """
    failure = report.failure
    assert failure is not None
    own = rebuild(failure) if live is None else live
    notes = _notes(report, failure, run_id, others)
    # An ExecutionError of rivers gets the fields of its attempt here: the runner knows neither run nor executor.
    if isinstance(own, ExecutionError) and own.step is None:
        own.run_id, own.step, own.attempt, own.executor = run_id, report.step, report.attempts, report.executor
    if isinstance(own, StepFailedError) and own.failure is None:
        own.failure = failure
    # Only an Exception leaves a run as it is: a body's SystemExit would end the process.
    if isinstance(own, Exception) and _add_notes(own, notes if own is live else [*_remote(failure), *notes]):
        return own
    error = _generic(report, failure, run_id)
    # The body's own exception stays reachable where it could not be raised itself.
    error.__cause__ = live
    _add_notes(error, [*_remote(failure), *notes])
    return error


def _notes(report: StepReport, failure: Failure, run_id: str, others: list[StepReport]) -> list[str]:
    where = f", worker {report.worker}" if report.worker else ""
    notes = [
        f"asset step {report.step!r} failed on executor {report.executor!r}, attempt {report.attempts}, run {run_id}"
        + where
    ]
    for other in others:
        if other.state is StepState.FAILED and other.failure is not None:
            # One line each: the whole texts are in the RunResult.
            notes.append(f"also failed: {other.step!r} ({other.failure.reason.value}: {other.failure.summary:.200})")
    skipped = sum(other.state is StepState.SKIPPED for other in others)
    if skipped:
        notes.append(f"{skipped} step{'s were' if skipped > 1 else ' was'} skipped for want of an upstream")
    return notes


def _remote(failure: Failure) -> list[str]:
    """Return as notes what an exception shows by itself when it is raised in this process."""
    # An exception raised in this process has a traceback; one from a worker has it only as text.
    notes = [describe(failure.evidence)] if failure.evidence is not None else []
    if failure.evidence is not None and failure.evidence.native_traceback:
        notes.append(f"native traceback of the worker:\n{failure.evidence.native_traceback.rstrip()}")
    return [*notes, f"traceback of the worker:\n{failure.traceback.rstrip()}"] if failure.traceback else notes


def _add_notes(error: BaseException, notes: list[str]) -> bool:
    try:
        for note in notes:
            error.add_note(note)
    except Exception:  # noqa: BLE001 - a user's class may have an add_note or a __notes__ of its own
        return False
    return True


def _generic(report: StepReport, failure: Failure, run_id: str) -> StepFailedError:
    error = _BY_REASON.get(failure.reason, StepFailedError)(
        failure.summary,
        run_id=run_id,
        step=report.step,
        attempt=report.attempts,
        executor=report.executor,
    )
    error.failure = failure
    return error
