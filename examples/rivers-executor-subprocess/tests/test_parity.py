"""Properties of attempts that have a process of their own, beyond what the conformance kit says of every executor."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import user_steps as steps
from rivers_executor_subprocess import SubprocessExecutor

import rivers as rs


def test_nothing_ran_here(store: rs.PickleIOHandler) -> None:
    """Each attempt had a worker of its own, and none was this process; its phases are measured there and arrive."""
    repo = rs.CodeRepository([steps.base, steps.awaited, steps.halves], resources={"store": store})
    result = repo.materialize(executor=SubprocessExecutor(max_workers=2))
    workers = [report.worker for report in result.steps.values() if report.worker]

    assert 3 == len(workers) == len(set(workers))
    assert f"pid {os.getpid()}" not in workers
    assert result.steps["base"].timings.run > 0
    assert result.steps["base"].timings.store > 0


def test_resources_are_set_up_and_torn_down_in_the_worker(
    store: rs.PickleIOHandler, notes: Callable[[], list[str]]
) -> None:
    """A resource is built from its fields in the worker, set up there before its use and torn down before it goes."""
    repo = rs.CodeRepository([steps.fetched], resources={"store": store, "client": steps.Client(url="db://x")})

    result = repo.materialize(executor=SubprocessExecutor())

    pid = result.steps["fetched"].worker.removeprefix("pid ")
    assert [f"setup {pid}", f"teardown {pid}"] == notes()


def test_a_graph_that_says_so_is_one_step_in_one_worker(store: rs.PickleIOHandler) -> None:
    """A graph asset of executor X whose tasks resolve to in_process runs as one step of X, its tasks in one process."""
    repo = rs.CodeRepository([steps.fused], resources={"store": store})

    result = repo.materialize()

    assert ["fused"] == list(result.steps)
    first, second = repo.load_node("fused")
    assert first == second
    assert f"pid {first}" == result.steps["fused"].worker


def test_mapped_instances_have_a_process_each(store: rs.PickleIOHandler) -> None:
    """Each instance of a mapped task runs in a process of its own."""
    repo = rs.CodeRepository([steps.base, steps.per_instance], resources={"store": store})

    repo.materialize(executor=SubprocessExecutor(max_workers=2))

    assert 3 == len({*repo.load_node("per_instance")} - {os.getpid()})


def test_executors_side_by_side(store: rs.PickleIOHandler) -> None:
    """In one run, a step overridden to in_process runs here and loads what a worker has stored."""
    repo = rs.CodeRepository([steps.where, steps.here], resources={"store": store})

    repo.materialize(executor=SubprocessExecutor())

    there, here = repo.load_node("here")
    assert os.getpid() == here != there


def test_a_worker_has_this_environment(
    store: rs.PickleIOHandler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker has the working directory and the environment that the controller has when the attempt is submitted."""
    monkeypatch.chdir(tmp_path)
    repo = rs.CodeRepository([steps.where], resources={"store": store})

    repo.materialize(executor=SubprocessExecutor())

    assert (str(tmp_path), os.environ["RIVERS_TEST_MARK"]) == repo.load_node("where")[1:]


def test_places_are_shared_by_sync_and_async_steps(store: rs.PickleIOHandler, notes: Callable[[], list[str]]) -> None:
    """With max_workers=1, two workers are never there at once, sync or async."""
    sink = rs.ListSink()
    repo = rs.CodeRepository([steps.base, steps.awaited, steps.reads_stdin, steps.where], resources={"store": store})

    repo.materialize(executor=SubprocessExecutor(max_workers=1), on_event=sink)

    reported = [type(event).__name__ for event in sink.events if type(event).__name__.startswith("Step")]
    assert ["StepStarted", "StepSucceeded"] * 4 == reported


def test_stdin_is_empty(store: rs.PickleIOHandler) -> None:
    """A body that reads stdin finds nothing there, and nothing of what the controller sends."""
    repo = rs.CodeRepository([steps.reads_stdin], resources={"store": store})

    repo.materialize(executor=SubprocessExecutor())

    assert "" == repo.load_node("reads_stdin")
