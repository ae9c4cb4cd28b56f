"""The ledger of a run: every fact about its steps is written here, as an event for the sinks and in the reports."""

from __future__ import annotations

from collections.abc import Sequence

from rivers._events.event import StepCancelled, StepFailed, StepRetrying, StepSkipped, StepStarted, StepSucceeded
from rivers._plan.report import StepReport, StepState
from rivers._plan.unit import Owed, Place, Unit
from rivers.protocol.failure import Failure, FailureReason
from rivers.protocol.result import StepResult, Timings

__all__ = ["Ledger"]


class Ledger:
    """Turns what happened into `Owed.events` and, for a unit that is over, its report; no events unless `observed`."""

    __slots__ = ("_observed", "_places", "_run_id", "reports")

    def __init__(self, places: Sequence[Place], run_id: str, observed: bool) -> None:
        self.reports: dict[str, StepReport] = {}
        self._places = places
        self._run_id = run_id
        self._observed = observed

    def started(self, unit: Unit, worker: str, owed: Owed) -> None:
        """An attempt has reached its worker."""
        if self._observed:
            owed.events.append(
                StepStarted(
                    run_id=self._run_id,
                    time=owed.wall,
                    step=unit.key,
                    attempt=unit.charged + 1,
                    attempt_id=unit.attempt_id,
                    executor=self._places[unit.step.placed].kind,
                    worker=worker,
                )
            )

    def retrying(self, unit: Unit, failure: Failure | None, delay: float, free: bool, owed: Owed) -> None:
        """An attempt is over, and another one follows; `free` when it did not count."""
        if self._observed:
            owed.events.append(
                StepRetrying(
                    run_id=self._run_id,
                    time=owed.wall,
                    step=unit.key,
                    attempt=unit.charged + 1 if free else unit.charged,
                    failure=failure,
                    delay=delay,
                    free=free,
                )
            )

    def over(self, unit: Unit, state: StepState, result: StepResult | None, cause: str | None, owed: Owed) -> None:
        """A unit is over, for good; what failed has its failure noted already."""
        timings = _timings(unit, result) if result is not None else None
        if self._observed:
            self._tell(unit, state, result, timings, cause, owed)
        kind = self._places[unit.step.placed].kind
        if result is None or timings is None:
            report = StepReport(unit.key, state, kind, unit.charged, failures=unit.failures, cause=cause)
        else:
            report = StepReport(
                unit.key, state, kind, unit.charged, timings, result.worker, unit.failures, cause, result.outputs
            )
        self.reports[unit.key] = report

    def _tell(
        self,
        unit: Unit,
        state: StepState,
        result: StepResult | None,
        timings: Timings | None,
        cause: str | None,
        owed: Owed,
    ) -> None:
        run_id, wall, step, attempt = self._run_id, owed.wall, unit.key, unit.charged
        if state is StepState.SUCCEEDED:
            assert result is not None
            assert timings is not None
            owed.events.append(
                StepSucceeded(
                    run_id=run_id,
                    time=wall,
                    step=step,
                    attempt=attempt,
                    outputs=result.outputs,
                    timings=timings,
                    worker=result.worker,
                )
            )
        elif state is StepState.FAILED:
            owed.events.append(
                StepFailed(run_id=run_id, time=wall, step=step, attempt=attempt, failure=unit.failures[-1])
            )
        elif state is StepState.SKIPPED:
            owed.events.append(StepSkipped(run_id=run_id, time=wall, step=step, cause=cause or ""))
        else:
            last = unit.failures[-1] if unit.failures else None
            failure = last if last is not None and last.reason is FailureReason.CANCELLED else None
            owed.events.append(StepCancelled(run_id=run_id, time=wall, step=step, attempt=attempt, failure=failure))


def _timings(unit: Unit, result: StepResult) -> Timings:
    """The worker's phases, and how long the attempt waited for its place."""
    told = result.timings
    return Timings(queued=unit.queued, boot=told.boot, load=told.load, run=told.run, store=told.store)
