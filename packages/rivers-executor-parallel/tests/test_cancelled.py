"""Reports of a step that was cancelled or overdue: the same wherever it ran."""

from __future__ import annotations

from pathlib import Path

import pytest
from running.cancelled import BEGUN, Cancelled, sleeps, stubborn, waits
from running.going import Going

import rivers as rs

HERE, PARALLEL = rs.Executor.in_process(), rs.Executor.parallel(max_workers=1)


@pytest.mark.parametrize("observed", [True, False], ids=["observed", "unobserved"])
@pytest.mark.parametrize(
    ("asset", "executor"),
    [(waits, HERE), (waits, PARALLEL), (sleeps, PARALLEL)],
    ids=["async in_process", "async parallel", "sync parallel"],
)
def test_a_cancelled_step(
    asset: rs.Asset, executor: rs.Executor, observed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step cancelled while it ran has attempt 1, the reason `cancelled`, its body's traceback, and evidence."""
    monkeypatch.setenv(BEGUN, str(tmp_path / "begun"))
    run = Cancelled(asset, executor, tmp_path / "begun", observed=observed)

    assert ("cancelled", 1) == (run.report.state, run.report.attempts)
    assert run.report.failure is not None
    assert rs.FailureReason.CANCELLED is run.report.failure.reason
    assert f"in {asset.name}" in (run.report.failure.traceback or "")
    assert run.report.failure.evidence is not None
    assert run.report.failure.evidence.cancelled
    if observed:
        assert [1, 1] == run.attempts
        assert [run.report.failure] == run.failures


@pytest.mark.parametrize("executor", [HERE, PARALLEL], ids=repr)
def test_a_body_that_swallows_its_cancellation(executor: rs.Executor) -> None:
    """It is abandoned before the run gives it up: the reason is `timeout`, and evidence names the line it waits in."""
    going = Going(rs.CodeRepository([stubborn], default_executor=executor), 1.0, None)
    failure = going.end().steps["stubborn"].failure

    assert failure is not None
    assert rs.FailureReason.TIMEOUT is failure.reason
    assert failure.evidence is not None
    assert failure.evidence.timed_out
    assert (failure.evidence.detail or "").startswith("swallowed its cancellation twice and was abandoned at ")
    assert (failure.evidence.detail or "").endswith(" in stubborn")
