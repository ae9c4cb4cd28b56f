"""Results that core creates when a backend reports none, and what a backend's result says of the run."""

from __future__ import annotations

from rivers._plan.unit import Unit
from rivers._runner.failures import make_failure
from rivers.exceptions import RiversError
from rivers.protocol.failure import Failure, FailureReason
from rivers.protocol.result import Ending, StepResult

__all__ = ["cancelled_result", "is_interrupt_of_body", "is_of_first_body", "no_result", "refused_result"]


def refused_result(unit: Unit, error: Exception) -> StepResult:
    """Return the result of an attempt that a backend did not accept, or for which no spec could be made."""
    failure = make_failure(error, FailureReason.INFRASTRUCTURE, transient=not isinstance(error, RiversError))
    return StepResult(attempt_id=unit.attempt_id, ending=Ending.FAILED, failure=failure)


def no_result(unit: Unit) -> StepResult:
    """Return the result of an attempt whose blocking backend returned from `submit` without a result."""
    failure = Failure(
        reason=FailureReason.INFRASTRUCTURE, type="", message="the executor returned without a result for the step"
    )
    return StepResult(attempt_id=unit.attempt_id, ending=Ending.FAILED, failure=failure)


def cancelled_result(unit: Unit) -> StepResult:
    """Return the result of an attempt that Ctrl-C or a cancel kept from running in the calling thread."""
    return StepResult(attempt_id=unit.attempt_id, ending=Ending.CANCELLED)


def is_interrupt_of_body(unit: Unit | None, result: StepResult) -> bool:
    """Return whether a body itself raised KeyboardInterrupt, which ends the run as it does in the calling thread."""
    asked = unit is None or unit.overdue
    return not asked and result.failure is not None and result.failure.type == "KeyboardInterrupt"


def is_of_first_body(unit: Unit, result: StepResult) -> bool:
    """Return whether the first body of a unit failed: nothing was committed before, and no store need be asked."""
    failed = result.failure is not None and result.failure.reason is FailureReason.ERROR
    return failed and not unit.charged and not unit.unstarted
