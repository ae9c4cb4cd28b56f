"""The supervisor of workers: its warm spare, idle workers, and its own failure."""

from __future__ import annotations

import errno
import os
import select
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import worker_steps as steps

import rivers as rs
from rivers_executor_parallel import supervisor, wire
from rivers_executor_parallel.handle import Assignment, WorkerHandle
from rivers_executor_parallel.inheritance import Inheritance
from rivers_executor_parallel.wire import RunParameters
from rivers_executor_parallel.worker import WorkerSettings


def children(mark: str) -> set[int]:
    """The workers of this process that carry the test's mark."""
    found = set()
    with open(f"/proc/{os.getpid()}/task/{os.getpid()}/children") as file:
        main = file.read().split()
    for task in os.listdir(f"/proc/{os.getpid()}/task"):
        with open(f"/proc/{os.getpid()}/task/{task}/children") as file:
            main += file.read().split()
    for pid in main:
        try:
            with open(f"/proc/{pid}/cmdline") as file:
                if "rivers-worker" in file.read():
                    found.add(int(pid))
        except OSError:
            continue
    return found


def until(reached: Callable[[], bool]) -> None:
    """Wait for a state that no event reports, 20 s at most."""
    deadline = time.monotonic() + 20.0
    while not reached():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_warm_spare_takes_over(
    start: Callable[..., Any],
    nothing_is_left: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Once all workers are at work a spare one is started, and after a kill it serves instead of a new one."""
    monkeypatch.setattr(supervisor, "SPARE_AFTER", 0.0)
    monkeypatch.setenv("RIVERS_TEST_GO", str(tmp_path / "never"))
    retry = rs.RetryPolicy(max_retries=3, retry_on=[rs.FailureReason.INFRASTRUCTURE])
    going = start(steps.waits_for_go, workers=1, retry=retry)
    first = going.until("StepStarted").worker
    until(lambda: len(children(nothing_is_left)) == 2)
    (spare,) = children(nothing_is_left) - {int(first.split()[1])}
    monkeypatch.setattr(supervisor, "SPARE_AFTER", 1e9)

    os.kill(int(first.split()[1]), signal.SIGKILL)
    second = going.until("StepStarted").worker

    assert f"pid {spare}" == second
    going.cancel()
    going.end()


def test_idle_workers_go(
    repository: Callable[..., rs.CodeRepository], nothing_is_left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers that had no run for a while are dismissed; a later run starts new ones."""
    monkeypatch.setattr(supervisor, "IDLE", 0.05)
    monkeypatch.setattr(supervisor, "LONGEST_WAIT", 0.05)
    repo = repository(steps.pid)
    repo.materialize()
    first = repo.load_node("pid")

    until(lambda: not children(nothing_is_left))
    repo.materialize()

    assert first != repo.load_node("pid")


def test_a_machine_that_refuses_one_more_worker_is_not_asked_at_every_step(
    repository: Callable[..., rs.CodeRepository], monkeypatch: pytest.MonkeyPatch, notes: Callable[[], list[str]]
) -> None:
    """With fewer workers than wanted the run goes on, and the next one is tried for after a pause."""
    tries: list[object] = []
    real = supervisor.WorkerHandle

    def refused_but_the_first(settings: WorkerSettings) -> WorkerHandle:
        tries.append(settings)
        if len(tries) > 1:
            raise OSError(errno.EMFILE, "Too many open files")  # the real refusals are in test_start.py
        return real(settings)

    monkeypatch.setattr(supervisor, "WorkerHandle", refused_but_the_first)
    monkeypatch.setattr(supervisor, "PAUSE", 1e9)
    reported = rs.ListSink()
    result = repository(steps.crowd, steps.pid, steps.other_pid, workers=2).materialize(on_event=reported)

    assert result.success
    assert 2 == len(tries)
    (warning,) = [event for event in reported.events if isinstance(event, rs.events.RunWarning)]
    assert "RLIMIT_NOFILE" in warning.message


def test_a_supervisor_that_fails_keeps_nobody_waiting(
    repository: Callable[..., rs.CodeRepository], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in the supervising thread fails the steps that wait; the next run has another supervisor."""
    repo = repository(steps.base, steps.after_base)

    def broken(self: Inheritance) -> None:
        raise RuntimeError("no settings today")

    with monkeypatch.context() as patched:
        patched.setattr(Inheritance, "worker_settings", broken)
        result = repo.materialize(raise_on_error=False)

    failure = result.steps["base"].failure
    assert failure is not None
    assert rs.FailureReason.INFRASTRUCTURE is failure.reason
    assert "no settings today" in failure.message
    assert 1 == result.steps["base"].attempts
    assert repo.materialize().success


def test_an_attempt_is_read_while_its_run_is_taken_back(
    repository: Callable[..., rs.CodeRepository], nothing_is_left: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that reads an attempt, but not its run, as both ends read, gets the run again and carries it out."""
    begin_run, assign = WorkerHandle.begin_run, WorkerHandle.assign
    raced: list[int] = []

    def begin_and_take_back(worker: WorkerHandle, run: RunParameters, encoded: bytes) -> bool:
        if raced:
            return begin_run(worker, run, encoded)
        os.kill(worker.pid, signal.SIGSTOP)
        until(lambda: Path(f"/proc/{worker.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T")
        begin_run(worker, run, encoded)
        os.read(worker._unread, wire.PACKET)  # the first of the two reads of a take-back
        return True

    def assign_in_between(worker: WorkerHandle, assignment: Assignment) -> bool:
        is_assigned = assign(worker, assignment)
        if not raced:
            raced.append(worker.pid)
            os.kill(worker.pid, signal.SIGCONT)
            until(lambda: not select.select([worker._unread], [], [], 0)[0])
            worker.run_id = ""
            assert [] == worker.take_back(1)  # the second one
        return is_assigned

    monkeypatch.setattr(WorkerHandle, "begin_run", begin_and_take_back)
    monkeypatch.setattr(WorkerHandle, "assign", assign_in_between)
    repo = repository(steps.pid)

    assert repo.materialize().success
    assert raced == [repo.load_node("pid")]
