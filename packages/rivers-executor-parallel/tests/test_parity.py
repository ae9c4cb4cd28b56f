"""Bodies have the same results, values and errors in workers as in this process, beyond what the kit's laws say."""

from __future__ import annotations

from pathlib import Path

import pytest

import rivers as rs
from rivers.testing.conformance.cases import raising
from rivers.testing.conformance.cases.iterators import both_read_in_one_worker, drained_in_one_worker
from rivers.testing.conformance.cases.outcome import CaseOutcome
from rivers.testing.conformance.cases.shared import files

PARALLEL = rs.Executor.parallel(max_workers=2)


@rs.Asset
def interrupts() -> int:
    raise KeyboardInterrupt("enough")


@rs.Asset
async def interrupts_async() -> int:
    raise KeyboardInterrupt("enough")


def test_own_io_handler(tmp_path: Path) -> None:
    """A handler of the user's own stores in a worker and loads in another, is found by a resource's name."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    here = CaseOutcome(files(tmp_path / "here"), rs.Executor.in_process())
    there = CaseOutcome(files(tmp_path / "there"), PARALLEL)

    assert [] == there.differences(files(tmp_path), here)


def test_iterators_in_a_fused_graph() -> None:
    """Tasks that run in one worker read an iterator as often as those that run apart; an unknown one is refused."""
    with rs.CodeRepository([both_read_in_one_worker, drained_in_one_worker], default_executor=PARALLEL) as repository:
        result = repository.materialize(raise_on_error=False)
        assert [3, 1, 2] == repository.load_node("both_read_in_one_worker")

    failure = result.steps["drained_in_one_worker"].failure
    assert failure is not None
    assert (
        "'drained_in_one_worker/opened', a rivers.testing.conformance.cases.iterators.Countdown, is an iterator"
        in failure.message
    )


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


def raised(name: str, executor: rs.Executor) -> Exception:
    """The error that a run raises whose only step is this body."""
    with rs.CodeRepository([rs.Asset(getattr(raising, name), name="raises")], default_executor=executor) as repository:
        try:
            repository.materialize()
        except Exception as error:
            return error
    raise AssertionError("nothing was raised")


def test_errors_are_equal() -> None:
    """A run raises the same type, text and plain attributes wherever its body ran; rivers' own errors, too."""
    for name in raising.BODIES:
        here, there = raised(name, rs.Executor.in_process()), raised(name, PARALLEL)

        assert str(here).partition(" (run ")[0] == str(there).partition(" (run ")[0]
        assert raising.facts_of(here) == raising.facts_of(there), name
