"""The outcome of cases on an executor, what of it is not as a case says, and how two outcomes differ."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from rivers._definitions.executor import Executor
from rivers._events import event as events
from rivers._events.sink import ListSink
from rivers._plan.report import StepReport
from rivers.exceptions import ValueNotFoundError
from rivers.protocol import FailureReason, describe_exception
from rivers.testing.conformance.cases.case import Case

__all__ = ["ASPECTS", "CaseOutcome"]

ASPECTS = ("steps", "values", "events", "logs")
"""The comparable parts of an outcome."""
_VOLATILE = re.compile(r"\b[0-9a-f]{32}\b|0x[0-9a-f]+|pid \d+|\d+\.\d+ s")
_OF_THE_STORE = ("path", "serializer", "size_bytes")
"""Metadata that a PickleIOHandler adds, where the cases run with one."""


class CaseOutcome:
    """The outcome of one run of a case, without times, process ids and names of workers.

    `more` are further arguments of the repository, such as a store that workers elsewhere reach. Several cases that
    were merged into one have one outcome, and each is compared by its own steps.
    """

    def __init__(self, case: Case, executor: Executor, **more: Any) -> None:
        sink = ListSink()
        with case.repository(executor, **more) as repository:
            if case.first is not None:
                repository.materialize(**case.first)
            self.result = repository.materialize(raise_on_error=False, on_event=sink, **case.run)
            self.loaded: dict[str, Any] = {}
            self.load_errors: dict[str, Exception] = {}
            for name in (*case.values, *case.absent):
                try:
                    self.loaded[name] = repository.load_node(name)
                except Exception as error:
                    self.load_errors[name] = error
        # The executor's own log records, such as why a pod waits, are no part of the case.
        self.emitted = [event for event in sink.events if not _is_of(executor, event)]

    def problems(self, case: Case, aspects: tuple[str, ...] = ASPECTS) -> list[str]:
        """Return what is not as the case says in some aspects, a line each."""
        judges = {
            "steps": self._wrong_steps,
            "values": self._wrong_values,
            "events": self._wrong_events,
            "logs": self._wrong_logs,
        }
        found = (problem for aspect in aspects for problem in judges[aspect](case))
        return [f"case {case.name!r}: {problem}" for problem in found]

    def differences(self, case: Case, other: CaseOutcome, aspects: tuple[str, ...] = ASPECTS) -> list[str]:
        """Return how two outcomes of a case differ in some aspects, a line each."""
        return [
            f"case {case.name!r}: {key} has {aspect} {mine}, and elsewhere {theirs}"
            for aspect in aspects
            for key, mine, theirs in _unequal(self.aspect(case, aspect), other.aspect(case, aspect))
        ]

    def aspect(self, case: Case, aspect: str) -> dict[str, Any]:
        """Return one part of the outcome of a case by step, or by name for values."""
        if aspect == "values":
            errors = {name: type(self.load_errors[name]).__name__ for name in case.absent if name in self.load_errors}
            return {**{name: self.loaded.get(name, "no value") for name in case.values}, **errors}
        reports = {key: report for key, report in self.result.steps.items() if key in case.states}
        if aspect == "steps":
            return {key: _describe(report) for key, report in reports.items()}
        if aspect == "events":
            return {key: self._kinds(key) for key in reports}
        return {key: Counter((e.level, e.logger, e.message) for e in self._logs(key)) for key in reports}

    def _kinds(self, step: str) -> list[str]:
        kinds = [type(event).__name__ for event in self.emitted if getattr(event, "step", None) == step]
        # In this process the consumer of a stream is fed while it runs: one whose stream breaks may have begun.
        return kinds[-1:] if kinds and kinds[-1] == "StepSkipped" else kinds

    def _logs(self, step: str) -> list[events.StepLog]:
        return [e for e in self.emitted if isinstance(e, events.StepLog) and e.step == step]

    def _wrong_steps(self, case: Case) -> Iterator[str]:
        steps = self.result.steps
        found = {step: steps[step].state.value if step in steps else "missing" for step in case.states}
        yield from _wrong("state", case.states, found)
        for step, fails in case.failures.items():
            failure = steps[step].failure if step in steps else None
            if failure is None or fails.reason != failure.reason.value or not failure.type.endswith(fails.type):
                yield f"failure of {step} is {failure and (failure.reason.value, failure.type)}: expected {fails}"
            elif fails.text not in failure.message:
                yield f"message of {step} is {failure.message[:300]!r}: expected {fails.text!r} in it"
        known = {step: report for step, report in steps.items() if step in case.states}
        yield from _wrong("attempts", case.attempts, {step: report.attempts for step, report in known.items()})
        yield from _wrong("cause", case.causes, {step: report.cause for step, report in known.items()})
        stored = {record.name: record for report in known.values() for record in report.outputs}
        metadata = {name: json.loads(record.metadata or "{}") for name, record in stored.items()}
        yield from _wrong(
            "metadata",
            {name: _own(facts, metadata.get(name, {})) for name, facts in case.metadata.items()},
            {name: _own(facts, facts) for name, facts in metadata.items()},
        )
        yield from _wrong("version", case.versions, {name: record.data_version for name, record in stored.items()})

    def _wrong_values(self, case: Case) -> Iterator[str]:
        yield from _wrong("value", case.values, {**self.loaded, **_errors(self.load_errors)})
        for name in case.absent:
            if not isinstance(self.load_errors.get(name), ValueNotFoundError):
                yield f"{name} has a value: expected none"

    def _wrong_events(self, case: Case) -> Iterator[str]:
        yield from _wrong("events", case.kinds, {step: _without_logs(self._kinds(step)) for step in case.kinds})

    def _wrong_logs(self, case: Case) -> Iterator[str]:
        yield from _wrong("logs", case.logs, {step: tuple(e.message for e in self._logs(step)) for step in case.logs})


def _is_of(executor: Executor, event: object) -> bool:
    """Return True if the executor reports by it what its platform does, in preflight or later."""
    if isinstance(event, events.RunWarning):
        return event.message.startswith("preflight waits")
    return isinstance(event, events.StepLog) and event.logger == f"rivers.{executor.kind}"


def _describe(report: StepReport) -> dict[str, Any]:
    failure = report.failure
    own = failure is not None and failure.reason is FailureReason.ERROR
    return {
        "state": report.state.value,
        "attempts": report.attempts,
        "cause": report.cause,
        "outputs": [(o.name, o.key, o.data_version, o.map_keys) for o in report.outputs],
        "failure": failure and (failure.reason.value, failure.type, failure.mro, failure.transient),
        # What is not the body's own error is worded by the executor: where a value is missing, what ended it.
        "message": failure and own and (_VOLATILE.sub("…", failure.message), failure.args),
        "notes": failure and own and [_VOLATILE.sub("…", note) for note in failure.notes],
    }


def _wrong(what: str, expected: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    for key, value in expected.items():
        # The types, too: 1 and True are equal, and no executor may turn one into the other.
        if key not in found or value != found[key]:
            yield f"{what} of {key} is {_short(found.get(key))}: expected {_short(value)}"


def _unequal(mine: Mapping[str, Any], theirs: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    for key in {**mine, **theirs}:
        one, other = mine.get(key), theirs.get(key)
        if one != other:
            if isinstance(one, dict) and isinstance(other, dict):
                changed = [name for name in {**one, **other} if one.get(name) != other.get(name)]
                one, other = {name: one.get(name) for name in changed}, {name: other.get(name) for name in changed}
            yield key, _short(one), _short(other)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 300 else f"{text[:200]}…{text[-80:]}"


def _errors(found: Mapping[str, Exception]) -> dict[str, str]:
    return {name: describe_exception(error) for name, error in found.items()}


def _without_logs(kinds: list[str]) -> tuple[str, ...]:
    return tuple(kind for kind in kinds if kind not in ("StepLog", "RunWarning"))


def _own(facts: Mapping[str, Any], stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts without those that a PickleIOHandler adds, or replaces, where it has stored the value."""
    return {name: fact for name, fact in facts.items() if not ("serializer" in stored and name in _OF_THE_STORE)}
