"""Every semantic case in this process; other executors are held to it by the conformance kit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from running import library_hints

import rivers as rs
from rivers.testing.conformance.cases.case import Case
from rivers.testing.conformance.cases.merged import make_batches
from rivers.testing.conformance.cases.outcome import CaseOutcome
from rivers.testing.conformance.cases.shared import files
from rivers.testing.conformance.cases.table import CASES, QUICK_CASES

IN_PROCESS = rs.Executor.in_process()


@pytest.mark.parametrize("case", [*CASES, *library_hints.CASES], ids=lambda case: case.name)
def test_case(case: Case) -> None:
    """The case's states, values, failures and events come out as it says."""
    outcome = CaseOutcome(case, IN_PROCESS)

    assert [] == outcome.problems(case)
    assert case.states.keys() == outcome.result.steps.keys()
    assert all(state == "succeeded" for state in case.states.values()) == outcome.result.success


def test_own_io_handler(tmp_path: Path) -> None:
    """A handler of the user's own stores and loads, is found by a resource's name, and adds its facts."""
    case = files(tmp_path)

    assert [] == CaseOutcome(case, IN_PROCESS).problems(case)


def test_merged_cases() -> None:
    """Cases that share a run come out as they do alone; none is lost, and no name has two owners."""
    batches = make_batches(CASES)

    assert CASES == [case for case in CASES if any(case in batch.cases for batch in batches)]
    assert len(batches) < len(CASES) / 3
    for batch in batches:
        outcome = CaseOutcome(batch.merged, IN_PROCESS)
        assert [] == [line for case in batch.cases for line in outcome.problems(case)]
        assert {step for case in batch.cases for step in case.states} == outcome.result.steps.keys()


def test_problems_are_found() -> None:
    """A case that expects something else has a problem for each of its expectations."""
    case = next(case for case in CASES if case.name == "output")
    wrong = replace(
        case,
        states={"output": "failed"},
        values={"output": 6},
        attempts={"output": 2},
        metadata={"output": {"rows": 3}},
        versions={"output": "v2"},
        kinds={"output": ("StepStarted",)},
        logs={"output": ("a line",)},
    )
    words = [line.split(": ", 1)[1].split(" of ")[0] for line in CaseOutcome(case, IN_PROCESS).problems(wrong)]

    assert ["state", "attempts", "metadata", "version", "value", "events", "logs"] == words


def test_differences_are_found() -> None:
    """Two outcomes of different cases differ in their steps, values and events."""
    one, other = (next(case for case in CASES if case.name == name) for name in ("output", "async"))
    outcome = CaseOutcome(one, IN_PROCESS)

    assert [] == outcome.differences(one, CaseOutcome(one, IN_PROCESS))
    assert 4 == len(outcome.differences(one, CaseOutcome(other, IN_PROCESS)))


def test_enough_cases() -> None:
    """The table is not cut short by accident, and no case hides another."""
    assert 130 <= len(CASES)
    assert len(CASES) == len({case.name for case in CASES})
    assert 16 == len(QUICK_CASES)
