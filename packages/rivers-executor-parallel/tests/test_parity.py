"""The semantic cases of rivers-core, in this process and across its cores: nothing tells the difference.

The cases are `packages/rivers-core/tests/running`, the same table that the core runs in process; they stand in the
repository beside this package, and workers import them by name.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import rivers as rs

CORE_TESTS = Path(__file__).parents[2] / "rivers-core" / "tests"
sys.path.append(str(CORE_TESTS))

from running.cases import CASES, Case  # noqa: E402 - found by the line above
from running.shared import files  # noqa: E402
from running.test_cases import check_events, check_reports  # noqa: E402

PARALLEL = rs.Executor.parallel(max_workers=2)


@rs.Asset
def interrupts() -> int:
    raise KeyboardInterrupt("enough")


@rs.Asset
async def interrupts_async() -> int:
    raise KeyboardInterrupt("enough")


UNSEEN = re.compile(r"\b[0-9a-f]{32}\b|0x[0-9a-f]+|pid \d+|\d+\.\d+ s")


class Told:
    """One run of a case, and all that can be seen of it but times, process ids and names of workers."""

    def __init__(self, case: Case, executor: rs.Executor) -> None:
        with case.repository(executor) as repository:
            if case.first is not None:
                repository.materialize(**case.first)
            told = rs.ListSink()
            result = repository.materialize(raise_on_error=False, on_event=told, **case.run)
            check_reports(case, result)
            check_events(case, told.events)
            self.values = {name: repository.load_node(name) for name in case.values}
            assert dict(case.values) == self.values
        self.steps = {key: self.step(report) for key, report in result.steps.items()}
        self.events = {key: self.kinds(told.events, key) for key in result.steps}
        self.logs = Counter(
            (e.step, e.level, e.logger, e.message) for e in told.events if isinstance(e, rs.events.StepLog)
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
            # What is not the body's own error is told in the executor's words: where a value is missing, who ended it.
            "said": failure and own and (UNSEEN.sub("…", failure.message), failure.args),
            "notes": failure and own and [UNSEEN.sub("…", note) for note in failure.notes],
        }

    @staticmethod
    def kinds(events: list[Any], step: str) -> list[str]:
        kinds = [type(event).__name__ for event in events if getattr(event, "step", None) == step]
        # In this process the consumer of a stream is fed while it runs: one whose stream breaks may have begun.
        return kinds[-1:] if kinds[-1] == "StepSkipped" else kinds


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case) -> None:
    """States, values, failures and the sequence of events of every step are those of the in-process executor."""
    here, there = Told(case, rs.Executor.in_process()), Told(case, PARALLEL)

    assert here.steps == there.steps
    assert here.values == there.values
    assert here.events == there.events
    assert here.logs == there.logs


def test_own_io_handler(tmp_path: Path) -> None:
    """A handler of the user's own stores in a worker and loads in another, is found by a resource's name."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    here = Told(files(tmp_path / "here"), rs.Executor.in_process())
    there = Told(files(tmp_path / "there"), PARALLEL)

    assert here.steps == there.steps
    assert here.values == there.values


@pytest.mark.parametrize("executor", [rs.Executor.in_process(), PARALLEL], ids=repr)
@pytest.mark.parametrize("body", [interrupts, interrupts_async], ids=lambda asset: asset.name)
def test_interrupt_of_a_body(body: rs.Asset, executor: rs.Executor) -> None:
    """A body that raises KeyboardInterrupt ends the run like Ctrl-C does, wherever it runs."""
    needs_it = rs.Asset(lambda: 1, name="needs_it", deps=[body.name])
    repository = rs.CodeRepository([body, needs_it], default_executor=executor)
    with repository, pytest.raises(KeyboardInterrupt) as caught:
        repository.materialize()

    result = caught.value.result  # type: ignore[attr-defined]
    assert "cancelled" == result.status
    assert {body.name: "cancelled", "needs_it": "cancelled"} == {k: r.state.value for k, r in result.steps.items()}
