"""Decide what an attempt means for the reuse of its worker; pure."""

from __future__ import annotations

from rivers.protocol import Ending, Evidence, FailureReason, ImportRef, StepResult, StepSpec

__all__ = ["imported_modules", "is_clean_end"]

CLEAN_REASONS = (FailureReason.ERROR, FailureReason.CANCELLED)


def is_clean_end(result: StepResult) -> bool:
    """Return True if an attempt's process has ended by itself with a result: its worker may have another attempt."""
    failure = result.failure
    if failure is None:
        return result.ending is not Ending.NOT_STARTED
    if failure.reason not in CLEAN_REASONS:
        return False
    evidence = failure.evidence or Evidence()
    # Of a process that was killed, for memory or at its deadline, nobody knows what it has left behind.
    seen = (evidence.signal, evidence.exit_code, evidence.container_reason, evidence.oom_kills)
    return not (any(value is not None for value in seen) or evidence.timed_out)


def imported_modules(spec: StepSpec) -> frozenset[str]:
    """Return the modules that an attempt's functions are defined in."""
    functions = [spec.function, *(step.function for step in spec.inner)]
    return frozenset(ref.module for ref in functions if isinstance(ref, ImportRef))
