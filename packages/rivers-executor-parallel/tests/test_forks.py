"""Forks of the controller and of bodies, and executors that bodies leave to the end of their worker."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

import pytest
import worker_children as children
import worker_steps as steps
from running.forked import in_child

import rivers as rs
from rivers_executor_parallel import pool


def test_a_forked_child_has_workers_of_its_own(processes: Callable[[], list[str]]) -> None:
    """A child that uses a repository with warm workers starts its own, and the parent's go on to serve the parent."""
    executor = rs.Executor.parallel(max_workers=1)
    with rs.CodeRepository([children.ten, children.after_ten], default_executor=executor) as repository:
        first = repository.materialize()

        def child() -> tuple[object, ...]:
            second = repository.materialize()
            only = repository.materialize(["after_ten"])  # its input was made by the parent, too
            repository.shutdown()
            return second.status, only.status, second.steps["ten"].worker != first.steps["ten"].worker

        assert "('success', 'success', True)" == in_child(child)
        third = repository.materialize()

        assert first.steps["ten"].worker == third.steps["ten"].worker
    assert [] == processes()


def test_a_child_that_is_forked_while_a_run_goes_on(start: Callable[..., Any]) -> None:
    """A child of another thread, forked in the middle of a run, runs by itself and leaves the run alone."""
    going = start(steps.sleeps, workers=1)
    going.until("StepStarted")
    executor = rs.Executor.parallel(max_workers=1)
    with rs.CodeRepository([children.ten], default_executor=executor) as repository:

        def child() -> str:
            status = repository.materialize().status
            repository.shutdown()
            return status

        assert "'success'" == in_child(child)
    going.cancel()


def test_a_forked_child_of_a_body_holds_nothing_of_the_worker(repository: Callable[..., rs.CodeRepository]) -> None:
    """Neither the pipes to the controller nor the file for crashes are open in a child that a body has forked."""
    repo = repository(children.held_by_a_child)
    repo.materialize()
    own, held = repo.load_node("held_by_a_child")

    # Those of loky's sentinel and of the two resource trackers are multiprocessing's own.
    assert 3 == len(held)
    assert 6 == len(own)


@pytest.mark.parametrize("asset", [children.leaves_loky, children.leaves_processes, children.leaves_threads], ids=repr)
def test_what_a_body_leaves_does_not_hold_its_worker(
    asset: rs.Asset, repository: Callable[..., rs.CodeRepository], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker whose body has left an executor ends by itself: were it to wait to be killed, it would take minutes."""
    monkeypatch.setattr(pool, "LEAVE_DEADLINE", 600.0)

    assert repository(asset).materialize().success


def test_signals_that_the_controller_blocks(start: Callable[..., Any]) -> None:
    """A program that blocks SIGTERM starts workers whose bodies can be stopped all the same."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    try:
        going = start(steps.sleeps, workers=1, grace=20.0)
        going.until("StepLog", message="asleep")
        going.cancel()
        going.end()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    assert "cleaned up" in [event.message for event in going.events if type(event).__name__ == "StepLog"]
