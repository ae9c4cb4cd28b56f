"""Ends of attempts: those that core has to make up, where a backend cannot tell or does not, and what they mean."""

from __future__ import annotations

from rivers._plan.unit import Unit
from rivers._runner.failures import failure_of
from rivers.exceptions import RiversError
from rivers.protocol.failure import Failure, FailureReason
from rivers.protocol.result import Ending, StepResult

__all__ = ["interrupted", "of_the_first_body", "raised_interrupt", "refused", "untold"]


def refused(unit: Unit, error: Exception) -> StepResult:
    """The end of an attempt that could not even be handed over."""
    failure = failure_of(error, FailureReason.INFRASTRUCTURE, transient=not isinstance(error, RiversError))
    return StepResult(attempt_id=unit.attempt_id, ending=Ending.FAILED, failure=failure)


def untold(unit: Unit) -> StepResult:
    """The end of an attempt whose backend runs it in the calling thread and returned without a word."""
    failure = Failure(
        reason=FailureReason.INFRASTRUCTURE, type="", message="the executor returned and did not say how the step ended"
    )
    return StepResult(attempt_id=unit.attempt_id, ending=Ending.FAILED, failure=failure)


def interrupted(unit: Unit) -> StepResult:
    """The end of an attempt that Ctrl-C took out of the calling thread."""
    return StepResult(attempt_id=unit.attempt_id, ending=Ending.CANCELLED)


def raised_interrupt(unit: Unit | None, result: StepResult) -> bool:
    """Whether a body elsewhere raised KeyboardInterrupt itself: it ends the run, as it does in the calling thread."""
    asked = unit is None or unit.overdue
    return not asked and result.failure is not None and result.failure.type == "KeyboardInterrupt"


def of_the_first_body(unit: Unit, result: StepResult) -> bool:
    """Whether a body failed that nobody ran before: then nothing was committed, and no store need be asked."""
    failed = result.failure is not None and result.failure.reason is FailureReason.ERROR
    return failed and not unit.charged and not unit.unstarted
