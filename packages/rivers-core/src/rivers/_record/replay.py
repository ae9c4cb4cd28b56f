"""Replay the events of a record: what the controllers of the run have intended and seen."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from rivers._events.event import (
    Event,
    RunEnding,
    RunFinished,
    RunStarted,
    StepCancelled,
    StepFailed,
    StepLog,
    StepRetrying,
    StepReused,
    StepSkipped,
    StepStarted,
    StepSubmitted,
    StepSucceeded,
    StepUnchanged,
)
from rivers.protocol.failure import Failure
from rivers.protocol.result import OutputRecord, Timings

__all__ = ["RunHistory", "UnitHistory", "replay"]


class UnitHistory:
    """The history of one unit, as a record has it.

    `submitted` is the id of the last attempt that was handed to an executor, `succeeded` that of the one that was seen
    to commit `outputs`; both are empty where there was none. `unchanged` is the attempt of an earlier run whose
    `outputs` were found to be unchanged. `charged` counts the attempts that the retry policy
    counts, and `failures` are theirs; a unit that has failed for good starts again with none. `is_open` says whether
    an attempt was submitted whose end is not known; `seq` is the number of its last log record (`StepLog.seq`).
    """

    __slots__ = (
        "charged",
        "ended",
        "failures",
        "is_open",
        "outputs",
        "seq",
        "started",
        "submitted",
        "succeeded",
        "timings",
        "unchanged",
        "worker",
    )

    def __init__(self) -> None:
        self.submitted = ""
        self.is_open = False
        self.seq = 0
        self.succeeded = ""
        self.unchanged = ""
        self.outputs: tuple[OutputRecord, ...] = ()
        self.charged = 0
        self.failures: tuple[Failure, ...] = ()
        self.timings = Timings()
        self.worker = ""
        self.started: float | None = None
        self.ended: float | None = None


class RunHistory:
    """The history of a run, as its record has it.

    `epoch` is that of its last controller, -1 before the first one. `status` is the one with which that controller has
    ended the run, None while it had not; `ending` is set once it was about to end the run in its stores. `has_intents`
    says whether attempts were noted before they were submitted, which records of early versions lack.
    """

    __slots__ = ("ending", "epoch", "has_intents", "status", "units")

    def __init__(self) -> None:
        self.epoch = -1
        self.status: str | None = None
        self.ending: str | None = None
        self.has_intents = False
        self.units: dict[str, UnitHistory] = {}

    def unit(self, key: str) -> UnitHistory:
        """Return the history of a unit, an empty one if it has none."""
        found = self.units.get(key)
        if found is None:
            found = self.units[key] = UnitHistory()
        return found


def replay(events: Iterable[Event]) -> RunHistory:
    """Return the history that these events make; a line that stands twice changes nothing."""
    history = RunHistory()
    for event in events:
        take = _TAKERS.get(type(event))
        if take is not None:
            take(history, event)
    return history


def _take_run_started(history: RunHistory, event: RunStarted) -> None:
    history.epoch = max(history.epoch, event.epoch)
    # `ending` stays: a run that was about to be ended in its stores may have been, whoever goes on with it.
    history.status = None


def _take_run_ending(history: RunHistory, event: RunEnding) -> None:
    history.ending = event.status


def _take_run_finished(history: RunHistory, event: RunFinished) -> None:
    history.status = event.status


def _take_submitted(history: RunHistory, event: StepSubmitted) -> None:
    history.has_intents = True
    unit = history.unit(event.step)
    unit.submitted = event.attempt_id
    unit.is_open = True
    unit.started = None
    unit.seq = 0


def _take_started(history: RunHistory, event: StepStarted) -> None:
    unit = history.unit(event.step)
    unit.started, unit.worker = event.time, event.worker


def _take_log(history: RunHistory, event: StepLog) -> None:
    if event.seq:
        history.unit(event.step).seq = event.seq


def _take_retrying(history: RunHistory, event: StepRetrying) -> None:
    unit = history.unit(event.step)
    unit.is_open = False
    # The event has the number of the attempt, so that a second copy of the line is not counted.
    if not event.free and event.attempt > unit.charged:
        unit.charged = event.attempt
        if event.failure is not None:
            unit.failures = (*unit.failures, event.failure)


def _take_failed(history: RunHistory, event: StepFailed) -> None:
    unit = history.unit(event.step)
    unit.is_open = False
    # Whoever resumes a failed run wants another try at it, with all of its retries.
    unit.charged, unit.failures = 0, ()


def _take_succeeded(history: RunHistory, event: StepSucceeded) -> None:
    unit = history.unit(event.step)
    unit.succeeded, unit.outputs, unit.charged = event.attempt_id, event.outputs, event.attempt
    unit.is_open = False
    unit.timings, unit.worker, unit.ended = event.timings, event.worker or unit.worker, event.time


def _take_reused(history: RunHistory, event: StepReused) -> None:
    unit = history.unit(event.step)
    unit.succeeded, unit.outputs, unit.charged = event.attempt_id, event.outputs, event.attempt
    unit.is_open = False
    unit.ended = unit.ended or event.time


def _take_unchanged(history: RunHistory, event: StepUnchanged) -> None:
    # It was committed by another run, of which this one's folder in the store has nothing.
    unit = history.unit(event.step)
    unit.unchanged, unit.outputs = event.attempt_id, event.outputs


def _take_cancelled(history: RunHistory, event: StepCancelled | StepSkipped) -> None:
    history.unit(event.step).is_open = False


_TAKERS: dict[type, Callable[[RunHistory, Any], None]] = {
    RunStarted: _take_run_started,
    RunEnding: _take_run_ending,
    RunFinished: _take_run_finished,
    StepSubmitted: _take_submitted,
    StepStarted: _take_started,
    StepLog: _take_log,
    StepRetrying: _take_retrying,
    StepFailed: _take_failed,
    StepSucceeded: _take_succeeded,
    StepReused: _take_reused,
    StepUnchanged: _take_unchanged,
    StepCancelled: _take_cancelled,
    StepSkipped: _take_cancelled,
}
