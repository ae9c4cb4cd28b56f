"""The view of a run: its events folded into the state of each step, for terminals, pictures and tables.

header ──▶ RunView ◀── apply(event), one after another, while the run goes on or from its record
             │
             ├─ steps: StepView by key, in the order of the plan; instances of mapped steps as they appear
             └─ counts, status, warnings, started, ended
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from typing import Any

from rivers._events.event import (
    Event,
    RunFinished,
    RunStarted,
    RunWarning,
    StepCancelled,
    StepFailed,
    StepLog,
    StepRetrying,
    StepReused,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepUnchanged,
)
from rivers._record.header import RunHeader, StepHeader
from rivers.protocol.failure import Failure
from rivers.protocol.result import OutputRecord, Timings

__all__ = ["AttemptView", "RunView", "StepView", "ViewState"]

LOGS_KEPT = 20_000
"""Log records kept of each step; the rest is in the record's file."""


class ViewState(enum.StrEnum):
    """The state of a step while a run goes on, or when it was interrupted."""

    WAITING = "waiting"
    STARTING = "starting"
    RUNNING = "running"
    RETRYING = "retrying"
    SUCCEEDED = "succeeded"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    SKIPPED = "skipped"
    CANCELLED = "cancelled"
    LOST = "lost"

    @property
    def is_over(self) -> bool:
        """True when the step has ended, or the run has ended without it."""
        return self in _OVER


_OVER = frozenset(ViewState) - {ViewState.WAITING, ViewState.STARTING, ViewState.RUNNING, ViewState.RETRYING}


class AttemptView:
    """One attempt of a step; times are seconds since the epoch, None where they are not known.

    `failure` is set for a failed or cancelled attempt. `is_free` when the retry policy does not count it,
    `retry_at` is when the next one may start.
    """

    __slots__ = (
        "attempt_id",
        "ended",
        "executor",
        "failure",
        "is_free",
        "number",
        "retry_at",
        "started",
        "timings",
        "worker",
    )

    def __init__(self, number: int, started: float | None = None) -> None:
        self.number = number
        self.attempt_id = ""
        self.executor = ""
        self.worker = ""
        self.started = started
        self.ended: float | None = None
        self.timings = Timings()
        self.failure: Failure | None = None
        self.is_free = False
        self.retry_at: float | None = None


class StepView:
    """The state of one step, or of one instance of a mapped step.

    `header` is the planned step, None where the header is not known. `map_key` names the instance. `retry_at` is when
    the next attempt may start, `cause` the step because of which this one was skipped, `message` the last line that it
    printed or logged, or why its worker does not start. `log_count` counts all records, also those not kept in `logs`.
    """

    __slots__ = (
        "attempts",
        "cause",
        "header",
        "key",
        "log_count",
        "logs",
        "map_key",
        "message",
        "outputs",
        "retry_at",
        "state",
    )

    def __init__(self, key: str, header: StepHeader | None, map_key: str | None = None) -> None:
        self.key = key
        self.header = header
        self.map_key = map_key
        self.state = ViewState.WAITING
        self.attempts: list[AttemptView] = []
        self.outputs: tuple[OutputRecord, ...] = ()
        self.cause: str | None = None
        self.message = ""
        self.retry_at: float | None = None
        self.logs: list[StepLog] = []
        self.log_count = 0

    @property
    def base_key(self) -> str:
        """The key of the planned step, without the instance's."""
        return self.key.partition("[")[0] if self.map_key is not None else self.key

    @property
    def last(self) -> AttemptView | None:
        """The last attempt."""
        return self.attempts[-1] if self.attempts else None

    @property
    def failure(self) -> Failure | None:
        """The failure of the last attempt that had one."""
        return next((attempt.failure for attempt in reversed(self.attempts) if attempt.failure is not None), None)

    @property
    def executor(self) -> str:
        """The kind of the executor of the last attempt; empty before the first."""
        return self.attempts[-1].executor if self.attempts else ""

    @property
    def seconds(self) -> float | None:
        """The seconds from the start of the first attempt to the end of the last; None while there are none."""
        if not self.attempts or self.attempts[0].started is None or self.attempts[-1].ended is None:
            return None
        return max(0.0, self.attempts[-1].ended - self.attempts[0].started)

    def __repr__(self) -> str:
        return f"<StepView {self.key!r} {self.state.value}>"


class RunView:
    """The state of a run.

    `status` is `running`, `success`, `failure`, `cancelled`, or `lost` when its process ended without a last event.
    `counts` has the number of steps in each state; a mapped step counts as its instances, once it has some. `changed`
    collects the keys of the steps that events have changed, for a display that clears it. With `keeps_logs` false only
    the last line of each step is kept. `resumed` counts the processes that have carried the run on.
    """

    def __init__(self, header: RunHeader | None = None, *, keeps_logs: bool = True) -> None:
        self.header = header
        self.run_id = header.run_id if header is not None else ""
        self.status = "running"
        self.resumed = 0
        self.started: float | None = header.started if header is not None else None
        self.ended: float | None = None
        self.last_time: float | None = self.started
        self.warnings: list[RunWarning] = []
        self.steps: dict[str, StepView] = {}
        self.instances: dict[str, list[StepView]] = {}
        self.counts: dict[ViewState, int] = dict.fromkeys(ViewState, 0)
        self.changed: set[str] = set()
        self._keeps_logs = keeps_logs
        self._headers: dict[str, StepHeader] = {}
        self._expected: dict[str, int] = {}
        self._mapped_over: dict[str, list[str]] = {}
        planned = header.steps if header is not None else ()
        for step in planned:
            self._headers[step.key] = step
            if step.mapped_over is None:
                self._add(StepView(step.key, step))
            else:
                self._expected[step.key] = 1
                self._mapped_over.setdefault(planned[step.mapped_over].key, []).append(step.key)

    # ── read ──

    @property
    def total(self) -> int:
        """The number of steps, with one for each mapped step whose instances are not known yet."""
        waiting = sum(max(0, count - len(self.instances.get(key, ()))) for key, count in self._expected.items())
        return len(self.steps) + waiting

    @property
    def done(self) -> int:
        """The number of steps that are over."""
        return sum(self.counts[state] for state in _OVER)

    @property
    def is_over(self) -> bool:
        """True when the run has ended, or its process has."""
        return self.status != "running"

    def instance_count(self, key: str) -> int:
        """Return the number of instances of a mapped step that are known or expected."""
        return max(self._expected.get(key, 0), len(self.instances.get(key, ())))

    def of_state(self, *states: ViewState) -> Iterator[StepView]:
        """Return the steps in these states, in the order of the plan."""
        return (step for step in self.steps.values() if step.state in states)

    # ── write ──

    def apply(self, event: Event) -> None:
        """Take in the next event."""
        self.last_time = event.time
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event)

    def end_without_word(self) -> None:
        """Mark the run, and the steps that had not ended, as lost: its process ended without a last event."""
        if self.status == "running":
            self.status = "lost"
            for step in self.steps.values():
                if step.state in (ViewState.STARTING, ViewState.RUNNING, ViewState.RETRYING):
                    self.move(step, ViewState.LOST)

    def step(self, key: str) -> StepView:
        """Return the step of that key, adding it if it is new: an instance, or a step of a run without a header."""
        found = self.steps.get(key)
        if found is None:
            # A map key may contain brackets itself: only the first one and the last one are ours.
            base, bracket, rest = key.partition("[")
            header = self._headers.get(base if bracket else key)
            found = StepView(key, header, rest.removesuffix("]") if bracket else None)
            self._add(found)
            # A mapped step that was skipped as a whole has an event under its own key, and no instances.
            if bracket:
                self.instances.setdefault(base, []).append(found)
            else:
                self._expected.pop(key, None)
        return found

    def _add(self, step: StepView) -> None:
        self.steps[step.key] = step
        self.counts[step.state] += 1

    def move(self, step: StepView, state: ViewState) -> None:
        """Change the state of a step."""
        self.counts[step.state] -= 1
        self.counts[state] += 1
        step.state = state
        self.changed.add(step.key)

    def _attempt(self, step: StepView, number: int, time: float) -> AttemptView:
        """Return the attempt that runs, or a new one for an end without a start."""
        # A worker that never started sends no StepStarted, and an attempt may be cancelled before it has one.
        last = step.last
        if last is None or last.ended is not None:
            last = AttemptView(number)
            step.attempts.append(last)
        last.number = number
        last.ended = time
        return last

    def _on_run_started(self, event: RunStarted) -> None:
        self.run_id = event.run_id
        if self.started is None:
            self.started = event.time
        if event.epoch:
            self._begin_again(event.time)

    def _begin_again(self, time: float) -> None:
        """Open the run and its unfinished steps again: another process carries them on."""
        self.resumed += 1
        self.status = "running"
        self.ended = None
        for step in self.steps.values():
            if step.last is not None and step.last.ended is None:
                step.last.ended = time
            if step.state not in (ViewState.SUCCEEDED, ViewState.WAITING):
                step.cause, step.retry_at, step.message = None, None, ""
                self.move(step, ViewState.WAITING)

    def _on_run_finished(self, event: RunFinished) -> None:
        self.status = event.status
        self.ended = event.time

    def _on_warning(self, event: RunWarning) -> None:
        self.warnings.append(event)

    def _on_started(self, event: StepStarted) -> None:
        step = self.step(event.step)
        attempt = AttemptView(event.attempt, event.time)
        attempt.attempt_id, attempt.executor, attempt.worker = event.attempt_id, event.executor, event.worker
        step.attempts.append(attempt)
        step.retry_at = None
        step.message = ""
        self.move(step, ViewState.RUNNING)

    def _on_log(self, event: StepLog) -> None:
        step = self.step(event.step)
        step.message = event.message
        step.log_count += 1
        if self._keeps_logs and len(step.logs) < LOGS_KEPT:
            step.logs.append(event)
        # Before the attempt has reached a worker, its executor reports what it waits for: a node, an image, a quota.
        if step.state in (ViewState.WAITING, ViewState.RETRYING):
            self.move(step, ViewState.STARTING)
        else:
            self.changed.add(step.key)

    def _on_succeeded(self, event: StepSucceeded) -> None:
        step = self.step(event.step)
        attempt = self._attempt(step, event.attempt, event.time)
        attempt.timings = event.timings
        attempt.worker = event.worker or attempt.worker
        self._end_stored(step, event.outputs, ViewState.SUCCEEDED)

    def _on_unchanged(self, event: StepUnchanged) -> None:
        self._end_stored(self.step(event.step), event.outputs, ViewState.UNCHANGED)

    def _end_stored(self, step: StepView, outputs: tuple[OutputRecord, ...], state: ViewState) -> None:
        step.outputs = outputs
        for output in outputs:
            if output.map_keys is not None:
                self.expect(step.key, len(output.map_keys))
        self.move(step, state)

    def _on_reused(self, event: StepReused) -> None:
        self._end_stored(self.step(event.step), event.outputs, ViewState.SUCCEEDED)

    def expect(self, key: str, count: int) -> None:
        """Count the instances of the steps that are mapped over a step, directly or through another mapped step."""
        for mapped in self._mapped_over.get(key, ()):
            self._expected[mapped] = count
            self.expect(mapped, count)

    def _on_failed(self, event: StepFailed) -> None:
        step = self.step(event.step)
        attempt = self._attempt(step, event.attempt, event.time)
        attempt.failure = event.failure
        attempt.timings = event.timings
        attempt.worker = event.worker or attempt.worker
        self.move(step, ViewState.FAILED)

    def _on_retrying(self, event: StepRetrying) -> None:
        step = self.step(event.step)
        attempt = self._attempt(step, event.attempt, event.time)
        attempt.failure, attempt.is_free = event.failure, event.free
        attempt.timings = event.timings
        attempt.worker = event.worker or attempt.worker
        attempt.retry_at = step.retry_at = event.time + event.delay
        self.move(step, ViewState.RETRYING)

    def _on_skipped(self, event: StepSkipped) -> None:
        step = self.step(event.step)
        step.cause = event.cause
        if step.last is not None and step.last.ended is None:
            step.last.ended = event.time
        self.move(step, ViewState.SKIPPED)

    def _on_cancelled(self, event: StepCancelled) -> None:
        step = self.step(event.step)
        if event.attempt or (step.last is not None and step.last.ended is None):
            attempt = self._attempt(step, event.attempt, event.time)
            attempt.failure = event.failure
        self.move(step, ViewState.CANCELLED)


_HANDLERS: dict[type, Callable[[RunView, Any], None]] = {
    RunStarted: RunView._on_run_started,
    RunFinished: RunView._on_run_finished,
    RunWarning: RunView._on_warning,
    StepStarted: RunView._on_started,
    StepLog: RunView._on_log,
    StepSucceeded: RunView._on_succeeded,
    StepUnchanged: RunView._on_unchanged,
    StepFailed: RunView._on_failed,
    StepRetrying: RunView._on_retrying,
    StepReused: RunView._on_reused,
    StepSkipped: RunView._on_skipped,
    StepCancelled: RunView._on_cancelled,
}
