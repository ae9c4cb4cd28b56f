"""Workers that are killed, crash or exit: which attempt is charged, the reported evidence, and the steps that go on."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import worker_steps as steps

import rivers as rs
from rivers.exceptions import StepCrashedError

TRANSIENT = rs.RetryPolicy(max_retries=1, retry_on=rs.RetryOn.TRANSIENT)


def pid_of(worker: str) -> int:
    return int(worker.removeprefix("pid "))


def test_a_busy_worker_is_killed(start: Callable[..., Any]) -> None:
    """SIGKILL in the middle of a body fails that step as infrastructure, with signal, pid and time; others succeed."""
    going = start(steps.sleeps, steps.base, steps.after_base)
    worker = going.until("StepStarted", "sleeps").worker
    going.until("StepLog", "sleeps", message="asleep")
    os.kill(pid_of(worker), signal.SIGKILL)
    result = going.end()

    failure = result.steps["sleeps"].failure
    assert failure is not None
    assert (rs.FailureReason.INFRASTRUCTURE, True) == (failure.reason, failure.transient)
    assert "killed by SIGKILL (9)" in failure.message
    assert worker in failure.message
    assert re.search(r"\d+\.\d s after", failure.message)
    assert (signal.SIGKILL, None, worker) == (
        failure.evidence.signal,
        failure.evidence.exit_code,
        failure.evidence.worker,
    )
    assert {"sleeps": ("failed", 1), "base": ("succeeded", 1), "after_base": ("succeeded", 1)} == {
        key: (report.state, report.attempts) for key, report in result.steps.items()
    }


def test_the_place_of_a_killed_worker_is_filled(
    repository: Callable[..., rs.CodeRepository], notes: Callable[[], list[str]]
) -> None:
    """With one worker alone, a step whose worker was killed is tried again, by another process."""
    workers: list[str] = []
    repo = repository(steps.killed_once, steps.base, workers=1)

    result = repo.materialize(
        retry=TRANSIENT,
        on_event=lambda event: (
            workers.append(getattr(event, "worker", "")) if event.__class__.__name__ == "StepStarted" else None
        ),
    )

    assert ["attempt 1", "attempt 2"] == notes()
    assert (2, 1) == (result.steps["killed_once"].attempts, result.steps["base"].attempts)
    assert 2 == len(set(workers))


def test_an_idle_worker_is_killed_between_two_runs(repository: Callable[..., rs.CodeRepository]) -> None:
    """A warm worker that is killed while it has nothing to do fails no step of the next run, nor is one charged."""
    repo = repository(steps.pid, steps.base, workers=1)
    repo.materialize()
    before = repo.load_node("pid")
    os.kill(before, signal.SIGKILL)

    result = repo.materialize()

    assert before != repo.load_node("pid")
    assert {1} == {report.attempts for report in result.steps.values()}


def test_an_idle_worker_is_killed_between_two_steps(
    start: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, notes: Callable[[], list[str]]
) -> None:
    """A worker that is killed after its step, while another step goes on, fails nothing: its step has succeeded."""
    monkeypatch.setenv("RIVERS_TEST_GO", str(tmp_path / "go"))
    going = start(steps.waits_for_go, steps.beside)
    os.kill(pid_of(going.until("StepSucceeded", "beside").worker), signal.SIGKILL)
    (tmp_path / "go").touch()
    result = going.end()

    assert result.success
    assert {1} == {report.attempts for report in result.steps.values()}


def test_a_native_crash_leaves_its_stack(repository: Callable[..., rs.CodeRepository]) -> None:
    """A segmentation fault names its signal, and the evidence holds faulthandler's stack of the crash."""
    with pytest.raises(StepCrashedError, match="SIGSEGV") as raised:
        repository(steps.crashes).materialize()

    evidence = raised.value.failure.evidence
    assert "Segmentation fault" in evidence.native_traceback
    assert "in crashes" in evidence.native_traceback
    assert any("in crashes" in note for note in raised.value.__notes__)


def test_exit_0_is_no_success(repository: Callable[..., rs.CodeRepository]) -> None:
    """A body that ends its process with code 0 has failed: nothing was committed."""
    result = repository(steps.exits_early).materialize(raise_on_error=False)

    failure = result.steps["exits_early"].failure
    assert failure is not None
    assert rs.FailureReason.INFRASTRUCTURE is failure.reason
    assert failure.message.startswith("exited with code 0 before committing")


def test_sys_exit_is_an_error_of_the_body(repository: Callable[..., rs.CodeRepository]) -> None:
    """`sys.exit` in a body fails the step as an error that names the code; the worker goes on (I1)."""
    repo = repository(steps.leaves, steps.pid, steps.other_pid, workers=1)
    result = repo.materialize(raise_on_error=False)

    failure = result.steps["leaves"].failure
    assert failure is not None
    assert (rs.FailureReason.ERROR, "SystemExit", "the body called sys.exit(3)") == (
        failure.reason,
        failure.type,
        failure.message,
    )
    assert repo.load_node("pid") == repo.load_node("other_pid")


def test_only_the_running_one_of_many_is_charged(
    repository: Callable[..., rs.CodeRepository], notes: Callable[[], list[str]]
) -> None:
    """A crash while several small steps are in a worker's hands charges the running one; no other begins twice."""
    repo = repository(steps.crowd_with_a_fatal_one)

    result = repo.materialize(retry=TRANSIENT)

    assert 190 == repo.load_node("crowd_with_a_fatal_one")
    attempts = {key: report.attempts for key, report in result.steps.items()}
    assert 2 == attempts.pop("crowd_with_a_fatal_one/fatal_tenth[k10]")
    assert {1} == set(attempts.values())
    begun = [line.split(" by ")[0] for line in notes()]
    assert sorted([f"attempt 1 of {n}" for n in range(20)] + ["attempt 2 of 10"]) == sorted(begun)


def test_committed_is_succeeded(
    repository: Callable[..., rs.CodeRepository], store: rs.PickleIOHandler, notes: Callable[[], list[str]]
) -> None:
    """A worker killed between its commit and its report has succeeded: its body does not run again (P3)."""
    repo = repository(steps.committed, steps.after_committed, dying=steps.DiesAfterCommit(store.store))

    result = repo.materialize(retry=rs.RetryPolicy(max_retries=3))

    assert result.success
    assert ["body"] == notes()
    assert 1 == result.steps["committed"].attempts
    assert '"rows":7' in (result.steps["committed"].outputs[0].metadata or "")
    assert 8 == repo.load_node("after_committed")


def test_workers_that_kill_each_other(
    repository: Callable[..., rs.CodeRepository], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers that kill each other in a race end no run: every victim is one crash, and retries make it whole (L25)."""
    folder = tmp_path / "friends"
    folder.mkdir()
    monkeypatch.setenv("RIVERS_TEST_FRIENDS", str(folder))
    repo = repository(steps.friendly_fire, workers=3)

    result = repo.materialize(retry=rs.RetryPolicy(max_retries=5, retry_on=rs.RetryOn.TRANSIENT))

    assert 15 == repo.load_node("friendly_fire")
    crashes = [failure for report in result.steps.values() for failure in report.failures]
    assert crashes
    assert {"killed by SIGKILL (9)"} == {failure.message.partition(";")[0] for failure in crashes}
