"""The record of a run: events for the listeners, and a report for each step that is over."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec.structs import replace

from rivers._events.event import (
    StepCancelled,
    StepFailed,
    StepRetrying,
    StepReused,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepUnchanged,
)
from rivers._plan.report import StepReport, StepState
from rivers._plan.restored import RestoredUnit
from rivers._plan.unit import Effects, ExecutorLimits, Unit
from rivers.protocol.failure import Failure, FailureReason
from rivers.protocol.result import OutputRecord, StepResult, Timings

__all__ = ["Ledger"]


class Ledger:
    """A record of what happened to units: `Effects.events`, unless nobody listens, and `reports` by step key."""

    __slots__ = ("_executors", "_observed", "_run_id", "reports")

    def __init__(self, executors: Sequence[ExecutorLimits], run_id: str, observed: bool) -> None:
        self.reports: dict[str, StepReport] = {}
        self._executors = executors
        self._run_id = run_id
        self._observed = observed

    def record_start(self, unit: Unit, worker: str, effects: Effects) -> None:
        """Record that an attempt has reached its worker."""
        if self._observed:
            effects.events.append(
                StepStarted(
                    run_id=self._run_id,
                    time=effects.wall,
                    step=unit.key,
                    attempt=unit.charged + 1,
                    attempt_id=unit.attempt_id,
                    executor=self._executors[unit.step.executor_index].kind,
                    worker=worker,
                )
            )

    def record_retry(
        self, unit: Unit, result: StepResult, failure: Failure | None, delay: float, free: bool, effects: Effects
    ) -> None:
        """Record that another attempt follows; `free` if the last one did not count."""
        if self._observed:
            effects.events.append(
                StepRetrying(
                    run_id=self._run_id,
                    time=effects.wall,
                    step=unit.key,
                    attempt=unit.charged + 1 if free else unit.charged,
                    failure=failure,
                    delay=delay,
                    free=free,
                    timings=_timings(unit, result),
                    worker=result.worker,
                )
            )

    def record_reused(self, unit: Unit, known: RestoredUnit, effects: Effects) -> None:
        """Record a unit that does not run, as an earlier attempt has committed its outputs."""
        assert known.attempt_id is not None
        if self._observed:
            effects.events.append(
                StepReused(
                    run_id=self._run_id,
                    time=effects.wall,
                    step=unit.key,
                    attempt=known.charged,
                    attempt_id=known.attempt_id,
                    outputs=known.outputs,
                )
            )
        kind = self._executors[unit.step.executor_index].kind
        self.reports[unit.key] = StepReport(
            unit.key,
            StepState.SUCCEEDED,
            kind,
            known.charged,
            known.timings,
            known.worker,
            known.failures,
            outputs=known.outputs,
            started=known.started,
            ended=known.ended or effects.wall,
        )

    def record_unchanged(
        self, unit: Unit, outputs: tuple[OutputRecord, ...], attempt_id: str, effects: Effects
    ) -> None:
        """Record a unit that need not run; `attempt_id` is the attempt that has stored its outputs."""
        if self._observed:
            effects.events.append(
                StepUnchanged(
                    run_id=self._run_id, time=effects.wall, step=unit.key, attempt_id=attempt_id, outputs=outputs
                )
            )
        kind = self._executors[unit.step.executor_index].kind
        self.reports[unit.key] = StepReport(unit.key, StepState.UNCHANGED, kind, outputs=outputs, ended=effects.wall)

    def record_end(
        self, unit: Unit, state: StepState, result: StepResult | None, cause: str | None, effects: Effects
    ) -> None:
        """Record the end of a unit; the failure of one that failed is in `unit.failures` already."""
        timings = _timings(unit, result) if result is not None else None
        if self._observed:
            self._add_end_event(unit, state, result, timings, cause, effects)
        kind = self._executors[unit.step.executor_index].kind
        if result is None or timings is None:
            report = StepReport(unit.key, state, kind, unit.charged, failures=unit.failures, cause=cause)
        else:
            report = StepReport(
                unit.key, state, kind, unit.charged, timings, result.worker, unit.failures, cause, result.outputs
            )
            # Starts are not reported where nobody listens.
            report.started = unit.started or effects.wall - timings.load - timings.run - timings.store
        report.ended = effects.wall
        self.reports[unit.key] = report

    def _add_end_event(
        self,
        unit: Unit,
        state: StepState,
        result: StepResult | None,
        timings: Timings | None,
        cause: str | None,
        effects: Effects,
    ) -> None:
        run_id, wall, step, attempt = self._run_id, effects.wall, unit.key, unit.charged
        if state is StepState.SUCCEEDED:
            assert result is not None
            assert timings is not None
            effects.events.append(
                StepSucceeded(
                    run_id=run_id,
                    time=wall,
                    step=step,
                    attempt=attempt,
                    attempt_id=result.attempt_id,
                    outputs=result.outputs,
                    timings=timings,
                    worker=result.worker,
                )
            )
        elif state is StepState.FAILED:
            effects.events.append(
                StepFailed(
                    run_id=run_id,
                    time=wall,
                    step=step,
                    attempt=attempt,
                    failure=unit.failures[-1],
                    timings=timings or Timings(),
                    worker=result.worker if result is not None else "",
                )
            )
        elif state is StepState.SKIPPED:
            effects.events.append(StepSkipped(run_id=run_id, time=wall, step=step, cause=cause or ""))
        else:
            last = unit.failures[-1] if unit.failures else None
            failure = last if last is not None and last.reason is FailureReason.CANCELLED else None
            effects.events.append(StepCancelled(run_id=run_id, time=wall, step=step, attempt=attempt, failure=failure))


def _timings(unit: Unit, result: StepResult) -> Timings:
    """Return the seconds of each phase in the worker, and of the wait for a slot."""
    return replace(result.timings, queued=unit.queued)
