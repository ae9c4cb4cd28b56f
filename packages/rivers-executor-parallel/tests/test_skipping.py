"""Runs that skip what did not change, with steps in other processes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import worker_skipping as steps

import rivers as rs

ASSETS = (steps.base, steps.both, steps.total, steps.fused)


def changed(result: rs.RunResult) -> set[str]:
    """Return the keys of the steps that were not unchanged."""
    assert result.success
    return {key for key, report in result.steps.items() if report.state != "unchanged"}


@pytest.mark.parametrize("is_stored", [False, True])
def test_nothing_changed(tmp_path: Path, is_stored: bool) -> None:
    """Workers store the memos that the controller compares, in the shared store and in a folder."""
    handler = rs.PickleIOHandler(tmp_path, fsync=False) if is_stored else None
    executor = rs.Executor.parallel(max_workers=2)
    with rs.CodeRepository(list(ASSETS), default_executor=executor, default_io_handler=handler) as repo:
        first = repo.materialize(skip_unchanged=True)
        assert {"base", "both", "total/split", "total/add_up", "fused"} <= changed(first)

        second = repo.materialize(skip_unchanged=True)

        assert (6, 6) == (repo.load_node("total"), repo.load_node("fused"))
    assert set() == changed(second)
    assert {key: report.outputs[0].data_version for key, report in first.steps.items()} == {
        key: report.outputs[0].data_version for key, report in second.steps.items()
    }


def test_changed_constant(repository: Callable[..., rs.CodeRepository], monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed constant runs the instances that use it, what collects them, and the fused graph."""
    repo = repository(*ASSETS)
    repo.materialize(skip_unchanged=True)
    monkeypatch.setattr(steps, "FACTOR", 3)

    found = changed(repo.materialize(skip_unchanged=True))

    # Workers import the module anew and have the old constant, so what collects the equal values is unchanged.
    assert {"total/scale[0]", "total/scale[1]", "total/scale[2]", "fused"} == found


def test_values_of_this_process_are_handed_over(repository: Callable[..., rs.CodeRepository]) -> None:
    """A value that a run in this process has stored keeps its memo when workers need it."""
    repo = repository(steps.base, steps.both)
    repo.materialize(skip_unchanged=True, executor=rs.Executor.in_process())

    assert set() == changed(repo.materialize(skip_unchanged=True))
