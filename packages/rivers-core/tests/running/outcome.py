"""The visible outcome of a case, to compare two executors."""

from __future__ import annotations

import re
from collections import Counter
from typing import Any

from running.case import Case
from running.test_cases import check_events, check_reports

import rivers as rs

__all__ = ["CaseOutcome"]

UNSEEN = re.compile(r"\b[0-9a-f]{32}\b|0x[0-9a-f]+|pid \d+|\d+\.\d+ s")


def of_the_executor(event: object) -> bool:
    """Return True if it reports what a pod waits for, in preflight or later."""
    if isinstance(event, rs.events.RunWarning):
        return event.message.startswith("preflight waits")
    return isinstance(event, rs.events.StepLog) and event.logger == "rivers.kubernetes"


class CaseOutcome:
    """The outcome of one run of a case, without times, process ids and names of workers.

    `more` are further arguments of the repository, such as a store that workers elsewhere reach.
    """

    def __init__(self, case: Case, executor: rs.Executor, **more: Any) -> None:
        with case.repository(executor, **more) as repository:
            if case.first is not None:
                repository.materialize(**case.first)
            sink = rs.ListSink()
            result = repository.materialize(raise_on_error=False, on_event=sink, **case.run)
            check_reports(case, result)
            check_events(case, [event for event in sink.events if not of_the_executor(event)])
            self.values = {name: repository.load_node(name) for name in case.values}
            assert dict(case.values) == self.values
        # The executor's own log records, such as why a pod waits, are no part of the case.
        sink.events[:] = [event for event in sink.events if not of_the_executor(event)]
        self.steps = {key: self.step(report) for key, report in result.steps.items()}
        self.events = {key: self.kinds(sink.events, key) for key in result.steps}
        self.logs = Counter(
            (e.step, e.level, e.logger, e.message) for e in sink.events if isinstance(e, rs.events.StepLog)
        )

    @staticmethod
    def step(report: rs.StepReport) -> dict[str, Any]:
        failure = report.failure
        own = failure is not None and failure.reason is rs.FailureReason.ERROR
        return {
            "state": report.state,
            "attempts": report.attempts,
            "cause": report.cause,
            "outputs": [(o.name, o.key, o.data_version, o.map_keys) for o in report.outputs],
            "failure": failure and (failure.reason, failure.type, failure.mro, failure.transient),
            # What is not the body's own error is worded by the executor: where a value is missing, what ended it.
            "message": failure and own and (UNSEEN.sub("…", failure.message), failure.args),
            "notes": failure and own and [UNSEEN.sub("…", note) for note in failure.notes],
        }

    @staticmethod
    def kinds(events: list[Any], step: str) -> list[str]:
        kinds = [type(event).__name__ for event in events if getattr(event, "step", None) == step]
        # In this process the consumer of a stream is fed while it runs: one whose stream breaks may have begun.
        return kinds[-1:] if kinds[-1] == "StepSkipped" else kinds
