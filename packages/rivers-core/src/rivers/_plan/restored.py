"""The state of units that an earlier controller of the run has left, as the frontier takes it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rivers._definitions.compute import escalate
from rivers._plan.unit import ExecutorLimits, OpenAttempt, Unit
from rivers.protocol.failure import Failure
from rivers.protocol.result import OutputRecord, Timings

__all__ = ["RestoredUnit", "restore_attempts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RestoredUnit:
    """A unit of which something is known from before.

    `attempt_id` is the attempt that has committed its `outputs`; None if it has to run. `charged` counts the attempts
    that its retry policy counts, `failures` are theirs. `timings` and `worker` are those of the committed attempt,
    `started` and `ended` its times, in seconds since the epoch, where they are known. `open` is an attempt to adopt.
    """

    attempt_id: str | None = None
    outputs: tuple[OutputRecord, ...] = ()
    charged: int = 0
    failures: tuple[Failure, ...] = ()
    timings: Timings = Timings()  # noqa: RUF009 - frozen
    worker: str = ""
    started: float | None = None
    ended: float | None = None
    open: OpenAttempt | None = None


def restore_attempts(unit: Unit, known: RestoredUnit, executors: Sequence[ExecutorLimits]) -> None:
    """Count the attempts that a unit has had before, and request what its last failure has escalated to."""
    unit.adopts = known.open
    unit.charged = known.charged
    unit.failures = known.failures
    policy = unit.step.retry
    if policy is None or policy.escalate is None:
        return
    for failure in known.failures:
        unit.compute = escalate(unit.request_compute(executors), policy.escalate, failure.reason)
