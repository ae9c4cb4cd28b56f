"""The view of a result: from its record where there is one, else from the reports of its steps."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import msgspec

from rivers._plan.report import StepReport, StepState
from rivers._record.header import RunHeader
from rivers._record.reader import read_run
from rivers._record.redact import Redactor
from rivers._record.view import AttemptView, RunView, StepView, ViewState
from rivers.exceptions import RecordError
from rivers.protocol.failure import Failure
from rivers.protocol.result import OutputRecord

__all__ = ["view_of_record", "view_of_reports"]

T = TypeVar("T")


def view_of_record(folder: Path | None) -> RunView | None:
    """Return the view of a record, None where there is none or it was deleted since."""
    if folder is None:
        return None
    try:
        return read_run(folder)[0]
    except RecordError:
        return None


def view_of_reports(header: RunHeader, redactor: Redactor, status: str, steps: Mapping[str, StepReport]) -> RunView:
    """Return the view of a run that nobody recorded: without logs, and without the times of earlier attempts."""
    view = RunView(header)
    view.status = status
    for report in steps.values():
        step = view.step(report.step)
        step.outputs, step.cause = _redact(report.outputs, redactor, tuple[OutputRecord, ...]), report.cause
        _add_attempts(step, report, _redact(report.failures, redactor, tuple[Failure, ...]))
        for output in report.outputs:
            if output.map_keys is not None:
                view.expect(step.key, len(output.map_keys))
        view.move(step, ViewState(report.state.value))
    view.changed.clear()
    times = [report.ended for report in steps.values() if report.ended is not None]
    view.ended = view.last_time = max(times, default=header.started)
    return view


def _redact(value: T, redactor: Redactor, kind: type[T]) -> T:
    if not redactor or not value:
        return value
    return msgspec.json.decode(redactor.line(msgspec.json.encode(value)), type=kind)


def _add_attempts(step: StepView, report: StepReport, failed: tuple[Failure, ...]) -> None:
    failures: list[Failure | None] = list(failed)
    if report.state is StepState.SUCCEEDED:
        failures.append(None)
    for number, failure in enumerate(failures, 1):
        attempt = AttemptView(number)
        attempt.executor, attempt.failure = report.executor, failure
        step.attempts.append(attempt)
    if step.attempts:
        last = step.attempts[-1]
        last.started, last.ended = report.started, report.ended
        last.timings, last.worker = report.timings, report.worker
