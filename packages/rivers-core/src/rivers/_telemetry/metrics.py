"""The metrics of runs, made from their events."""

from __future__ import annotations

from opentelemetry.metrics import Meter

from rivers._events.event import (
    RunFinished,
    RunStarted,
    StepCancelled,
    StepFailed,
    StepRetrying,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepUnchanged,
)
from rivers._record.header import RunHeader
from rivers._telemetry.attributes import SHORTEST_PHASE, failure_result
from rivers.protocol.failure import Failure
from rivers.protocol.result import Timings

__all__ = ["RunMetrics"]

_STATUS = {"success": "success", "failure": "failure", "cancelled": "cancellation"}


class RunMetrics:
    """The counters and histograms of one run."""

    # No attribute names a step: each value of an attribute is a time series of its own, in the SDK and in the backend.
    def __init__(self, header: RunHeader, meter: Meter) -> None:
        self._name = header.job or header.repository
        self._executors = {step.key: header.executors[step.executor].kind for step in header.steps}
        self._started: dict[str, float] = {}
        self._begun = 0.0
        self._runs = meter.create_histogram("cicd.pipeline.run.duration", "s", "Duration of runs by result.")
        self._steps = meter.create_counter("rivers.steps", "{step}", "Steps that are over, by state.")
        self._running = meter.create_up_down_counter("rivers.steps.running", "{step}", "Attempts that run now.")
        self._durations = meter.create_histogram("rivers.step.duration", "s", "Seconds of attempts, by result.")
        self._phases = meter.create_histogram("rivers.step.phase.duration", "s", "Seconds of attempts, by phase.")
        self._queue = meter.create_histogram("rivers.step.queue.duration", "s", "Seconds that attempts waited.")
        self._retries = meter.create_counter("rivers.retries", "{retry}", "Attempts that were repeated, by reason.")
        self._failures = meter.create_counter("rivers.failures", "{failure}", "Failed attempts, by reason.")

    def on_run_started(self, event: RunStarted) -> None:
        """Note the start of the run."""
        self._begun = event.time

    def on_run_finished(self, event: RunFinished) -> None:
        """Record the duration of the run."""
        # Attempts that never reported an end would count as running for ever.
        for key in [*self._started]:
            self._end(key, event.time, None, "cancellation")
        attributes = {
            "cicd.pipeline.result": _STATUS.get(event.status, event.status),
            "cicd.pipeline.run.state": "executing",
        }
        if self._name:
            attributes["cicd.pipeline.name"] = self._name
        self._runs.record(max(0.0, event.time - self._begun), attributes)

    def on_started(self, event: StepStarted) -> None:
        """Count an attempt that runs."""
        self._started[event.step] = event.time
        self._running.add(1, {"rivers.executor": event.executor})

    def on_succeeded(self, event: StepSucceeded) -> None:
        """Count a success."""
        self._end(event.step, event.time, event.timings, "success")
        self._count(event.step, "succeeded")

    def on_failed(self, event: StepFailed) -> None:
        """Count a failure."""
        self._fail(event.step, event.failure)
        self._end(event.step, event.time, event.timings, failure_result(event.failure.reason))
        self._count(event.step, "failed")

    def on_retrying(self, event: StepRetrying) -> None:
        """Count a retry."""
        reason = event.failure.reason.value if event.failure is not None else "not_started"
        self._retries.add(1, {"rivers.failure.reason": reason, "rivers.executor": self._executor(event.step)})
        if event.failure is not None:
            self._fail(event.step, event.failure)
        result = failure_result(event.failure.reason) if event.failure is not None else "error"
        self._end(event.step, event.time, event.timings, result)

    def on_unchanged(self, event: StepUnchanged) -> None:
        """Count an unchanged step."""
        self._end(event.step, event.time, None, "skip")
        self._count(event.step, "unchanged")

    def on_skipped(self, event: StepSkipped) -> None:
        """Count a skipped step."""
        self._end(event.step, event.time, None, "skip")
        self._count(event.step, "skipped")

    def on_cancelled(self, event: StepCancelled) -> None:
        """Count a cancelled step."""
        self._end(event.step, event.time, None, "cancellation")
        self._count(event.step, "cancelled")

    def _executor(self, step: str) -> str:
        return self._executors.get(step.partition("[")[0], "")

    def _count(self, step: str, state: str) -> None:
        self._steps.add(1, {"rivers.step.state": state, "rivers.executor": self._executor(step)})

    def _fail(self, step: str, failure: Failure) -> None:
        attributes = {"rivers.failure.reason": failure.reason.value, "rivers.executor": self._executor(step)}
        self._failures.add(1, attributes)

    def _end(self, step: str, at: float, timings: Timings | None, result: str) -> None:
        executor = {"rivers.executor": self._executor(step)}
        if timings is not None:
            self._queue.record(timings.queued, executor)
            for phase in ("boot", "load", "run", "store"):
                seconds = getattr(timings, phase)
                if seconds >= SHORTEST_PHASE:
                    self._phases.record(seconds, {**executor, "rivers.phase": phase})
        started = self._started.pop(step, None)
        if started is not None:
            self._running.add(-1, executor)
            self._durations.record(max(0.0, at - started), {**executor, "cicd.pipeline.task.run.result": result})
