"""Every semantic case, on every executor of this package."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from running.cases import CASES, Case
from running.shared import files

import rivers as rs
from rivers.exceptions import InputLoadError

EXECUTORS = [rs.Executor.in_process()]
OF_THE_STORE = ("path", "serializer", "size_bytes")
"""Metadata that a PickleIOHandler adds, where the cases run with one."""


def without(facts: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: fact for name, fact in facts.items() if name not in names}


def outcome(case: Case, executor: rs.Executor) -> tuple[rs.CodeRepository, rs.RunResult, list[Any]]:
    repository = case.repository(executor)
    if case.first is not None:
        repository.materialize(**case.first)
    sink = rs.ListSink()
    result = repository.materialize(raise_on_error=False, on_event=sink, **case.run)
    return repository, result, sink.events


def check_reports(case: Case, result: rs.RunResult) -> None:
    assert case.states == {step: report.state.value for step, report in result.steps.items()}
    assert all(state == "succeeded" for state in case.states.values()) == result.success
    for step, expected in case.failures.items():
        failure = result.steps[step].failure
        assert failure is not None
        assert expected.reason == failure.reason.value
        assert failure.type.endswith(expected.type)
        assert expected.text in failure.message
    for step, attempts in case.attempts.items():
        assert attempts == result.steps[step].attempts
    for step, cause in case.causes.items():
        assert cause == result.steps[step].cause
    stored = {record.name: record for report in result.steps.values() for record in report.outputs}
    for name, metadata in case.metadata.items():
        stored_metadata = json.loads(stored[name].metadata or "{}")
        of_the_store = OF_THE_STORE if "serializer" in stored_metadata else ()
        assert without(metadata, of_the_store) == without(stored_metadata, of_the_store)
    for name, version in case.versions.items():
        assert version == stored[name].data_version


def check_events(case: Case, events: list[Any]) -> None:
    for step, kinds in case.kinds.items():
        emitted = [type(event).__name__ for event in events if getattr(event, "step", None) == step]
        assert kinds == tuple(kind for kind in emitted if kind not in ("StepLog", "RunWarning"))
    for step, logs in case.logs.items():
        assert logs == tuple(e.message for e in events if type(e).__name__ == "StepLog" and e.step == step)
    assert "RunStarted" == type(events[0]).__name__
    assert "RunFinished" == type(events[-1]).__name__


def check(case: Case, executor: rs.Executor) -> None:
    repository, result, events = outcome(case, executor)
    with repository:
        check_reports(case, result)
        check_events(case, events)
        for name, value in case.values.items():
            assert value == repository.load_node(name)
        for name in case.absent:
            with pytest.raises(InputLoadError):
                repository.load_node(name)


@pytest.mark.parametrize("executor", EXECUTORS, ids=repr)
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case, executor: rs.Executor) -> None:
    """The case's states, values, failures and events come out as it says."""
    check(case, executor)


@pytest.mark.parametrize("executor", EXECUTORS, ids=repr)
def test_own_io_handler(executor: rs.Executor, tmp_path: Path) -> None:
    """A handler of the user's own stores and loads, is found by a resource's name, and adds its facts."""
    check(files(tmp_path), executor)


def test_enough_cases() -> None:
    """The table is not cut short by accident, and no case hides another."""
    assert 60 <= len(CASES)
    assert len(CASES) == len({case.name for case in CASES})
