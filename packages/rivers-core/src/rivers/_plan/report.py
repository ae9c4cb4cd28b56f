"""The report of a step in a RunResult."""

from __future__ import annotations

import enum

from rivers.protocol.failure import Failure, FailureReason
from rivers.protocol.result import OutputRecord, Timings

__all__ = ["StepReport", "StepState"]


class StepState(enum.StrEnum):
    """The end state of a step; each compares equal to its name as a str.

    An unchanged step did not run: its stored outputs are those that it would make.
    """

    SUCCEEDED = "succeeded"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"


class StepReport:
    """The outcome of one step.

    `executor` is the kind of its executor. `attempts` counts the attempts that the retry policy counts, and a cancelled
    one. `timings` has the seconds of the last attempt by phase, `worker` the worker that ran it. `failures` holds the
    failure of each attempt, `failure` the last one. `cause` names the step because of which this one was skipped.
    `outputs` lists what it committed. `started` and `ended` are seconds since the epoch: when the last attempt reached
    its worker, None where none did, and when the step was over.
    """

    __slots__ = (
        "attempts",
        "cause",
        "ended",
        "executor",
        "failures",
        "outputs",
        "started",
        "state",
        "step",
        "timings",
        "worker",
    )

    def __init__(
        self,
        step: str,
        state: StepState,
        executor: str,
        attempts: int = 0,
        timings: Timings = Timings(),  # noqa: B008 - frozen
        worker: str = "",
        failures: tuple[Failure, ...] = (),
        cause: str | None = None,
        outputs: tuple[OutputRecord, ...] = (),
        started: float | None = None,
        ended: float | None = None,
    ) -> None:
        self.step = step
        self.state = state
        self.executor = executor
        self.attempts = attempts
        self.timings = timings
        self.worker = worker
        self.failures = failures
        self.cause = cause
        self.outputs = outputs
        self.started = started
        self.ended = ended

    @property
    def failure(self) -> Failure | None:
        """The failure of the last attempt if the step failed or was cancelled, else None."""
        last = self.failures[-1] if self.failures else None
        if self.state is StepState.CANCELLED:
            return last if last is not None and last.reason is FailureReason.CANCELLED else None
        return last if self.state is StepState.FAILED else None

    def __repr__(self) -> str:
        return f"<StepReport {self.step!r} {self.state.value} on {self.executor}, {self.attempts} attempts>"
