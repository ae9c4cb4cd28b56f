"""Steps that do not end by themselves: timeouts and cancels end them, with all that they have started."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import worker_hangs as hangs
import worker_steps as steps

import rivers as rs


@pytest.mark.parametrize(
    ("asset", "seen"),
    [
        (hangs.overdue, "time.sleep(60)"),
        (hangs.overdue_in_a_deadlock, "lock.acquire()"),
    ],
    ids=lambda given: getattr(given, "name", ""),
)
def test_a_timeout_stops_a_body_that_can_be_interrupted(start: Callable[..., Any], asset: rs.Asset, seen: str) -> None:
    """A body that sleeps or is in a deadlock is stopped at its timeout; its traceback shows where it was (L9)."""
    result = start(asset, grace=30.0).end()

    failure = result.steps[asset.name].failure
    assert failure is not None
    assert rs.FailureReason.TIMEOUT is failure.reason
    assert seen in (failure.traceback or "")


@pytest.mark.parametrize(
    ("asset", "seen"),
    [(hangs.overdue_in_c, "in hang_in_c"), (hangs.overdue_and_deaf, None)],
    ids=lambda given: getattr(given, "name", ""),
)
def test_a_timeout_kills_what_is_deaf(start: Callable[..., Any], asset: rs.Asset, seen: str | None) -> None:
    """A body that hangs in C with the GIL, or ignores SIGTERM, is killed after the grace; its siblings go on (L7, L8).

    Its last stack is in the evidence where the signal could be taken.
    """
    result = start(asset, steps.base, steps.after_base).end()

    failure = result.steps[asset.name].failure
    assert failure is not None
    assert (rs.FailureReason.TIMEOUT, signal.SIGKILL) == (failure.reason, failure.evidence.signal)
    assert seen is None or seen in (failure.evidence.native_traceback or "")
    assert {("succeeded", 1)} == {
        (report.state.value, report.attempts) for key, report in result.steps.items() if key != asset.name
    }


def test_a_timeout_kills_what_the_step_has_started(
    start: Callable[..., Any], notes: Callable[[], list[str]], processes: Callable[[], list[str]]
) -> None:
    """A killed step takes its processes along, also one with a session of its own and one that made itself a daemon."""
    result = start(hangs.overdue_with_processes).end()

    assert [rs.FailureReason.TIMEOUT] == [f.reason for f in result.steps["overdue_with_processes"].failures]
    assert 1 == len(notes())
    assert [] == processes()


def test_what_a_step_leaves_ends_with_the_run(
    repository: Callable[..., rs.CodeRepository], processes: Callable[[], list[str]]
) -> None:
    """Processes that a successful step leaves behind, daemons among them, are gone when the repository closes."""
    repo = repository(hangs.leaves_processes)
    repo.materialize()
    repo.shutdown()

    assert 3 == len(repo.load_node("leaves_processes"))
    assert [] == processes()


def test_a_retry_after_a_timeout(start: Callable[..., Any]) -> None:
    """A timeout is an attempt: with one retry the step runs twice, in two workers, and fails as a timeout."""
    retry = rs.RetryPolicy(max_retries=1, retry_on=[rs.FailureReason.TIMEOUT])
    going = start(hangs.overdue_in_c, retry=retry)
    result = going.end()

    assert [rs.FailureReason.TIMEOUT] * 2 == [f.reason for f in result.steps["overdue_in_c"].failures]
    assert 2 == len({event.worker for event in going.events if type(event).__name__ == "StepStarted"})


def test_those_behind_a_slow_one_lose_nothing(repository: Callable[..., rs.CodeRepository]) -> None:
    """A step behind one that runs into its timeout runs elsewhere, at its first attempt."""
    result = repository(hangs.behind_a_slow_one).materialize(raise_on_error=False)

    slow = "behind_a_slow_one/slow_first"
    mapped = {key: report for key, report in result.steps.items() if key.startswith(f"{slow}[")}
    failure = mapped.pop(f"{slow}[k00]").failure
    assert failure is not None
    assert rs.FailureReason.TIMEOUT is failure.reason
    assert {("succeeded", 1)} == {(report.state.value, report.attempts) for report in mapped.values()}
    assert 29 == len(mapped)


def test_a_cancel_reaches_the_body(start: Callable[..., Any]) -> None:
    """A cancelled run interrupts a sleeping body at once; its clean-up is logged, and nothing is stored."""
    going = start(steps.sleeps, grace=30.0)
    going.until("StepLog", message="asleep")
    going.cancel()
    going.until("StepLog", message="cleaned up")
    result = going.end()

    assert ("cancelled", "cancelled") == (result.status, result.steps["sleeps"].state)


@pytest.mark.parametrize("asset", [hangs.stubborn, hangs.hangs_in_c], ids=lambda asset: asset.name)
def test_a_cancel_kills_what_is_deaf(start: Callable[..., Any], asset: rs.Asset) -> None:
    """A body that swallows every interrupt, or hangs in C, is killed after the grace, and the run is over (P7)."""
    going = start(asset)
    going.until("StepLog", message="asleep")
    going.cancel()
    result = going.end()

    assert ("cancelled", "cancelled") == (result.status, result.steps[asset.name].state)


def test_a_cancel_of_what_has_not_begun(start: Callable[..., Any], notes: Callable[[], list[str]]) -> None:
    """Of 30 steps on two workers a cancel ends all; only the two that ran have begun, though more were handed over."""
    going = start(hangs.dormitory, grace=30.0)
    going.until("StepLog", message="asleep")
    going.until("StepLog", message="asleep")
    going.cancel()
    result = going.end()

    mapped = [report for key, report in result.steps.items() if "sleeping[" in key]
    assert (30, {"cancelled"}) == (len(mapped), {report.state.value for report in mapped})
    assert 2 == len(notes())


def test_a_late_signal_hits_nobody(start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A SIGTERM that was meant for an earlier step, and comes while the next one runs, does nothing to it."""
    monkeypatch.setenv("RIVERS_TEST_GO", str(tmp_path / "go"))
    going = start(steps.waits_for_go, workers=1)
    worker = going.until("StepStarted").worker
    going.until("StepLog", message="asleep")
    os.kill(int(worker.removeprefix("pid ")), signal.SIGTERM)
    (tmp_path / "go").touch()
    result = going.end()

    assert result.success
    assert 1 == result.steps["waits_for_go"].attempts


def test_workers_do_not_hear_ctrl_c(start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGINT is the controller's: a worker that gets one goes on."""
    monkeypatch.setenv("RIVERS_TEST_GO", str(tmp_path / "go"))
    going = start(steps.waits_for_go)
    worker = going.until("StepStarted").worker
    going.until("StepLog", message="asleep")
    os.kill(int(worker.removeprefix("pid ")), signal.SIGINT)
    (tmp_path / "go").touch()

    assert going.end().success


def test_shutdown_ends_a_submitted_run(repository: Callable[..., rs.CodeRepository]) -> None:
    """A repository that is shut down while a run goes on cancels it; no worker is left."""
    import threading

    asleep = threading.Event()
    repo = repository(steps.sleeps)
    handle = repo.submit(on_event=lambda event: asleep.set() if type(event).__name__ == "StepLog" else None)
    assert asleep.wait(30)
    repo.shutdown()

    assert "cancelled" == handle.wait(30).status
