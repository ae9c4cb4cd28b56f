"""Durable runs: a controller that comes back adopts what the killed one has left."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from adopt_runs import DurableRun
from adopt_steps import LINES

from rivers_k8s_testing import FakeCluster

LOGS = [f"{when} {i}" for when in ("before", "after") for i in range(LINES)]


@pytest.fixture
def make_run(fake: FakeCluster, tmp_path: Path, nothing_is_left: str) -> Callable[..., DurableRun]:
    return lambda **settings: DurableRun(tmp_path / "run", nothing_is_left, **settings)


def check_whole(run: DurableRun, fake: FakeCluster) -> None:
    """Check that the run is over, with each event once, and that nothing of it is left."""
    assert "success 3" in run.output
    assert ["first", "gated 1", "last"] == run.bodies()
    assert LOGS == run.logs()
    assert {1} == set(run.attempt_ids().values())
    assert 1 == len(run.events("StepStarted", "gated"))
    assert 1 == len(run.events("StepSucceeded", "gated"))
    assert not (run.record / "private").exists()
    assert [] == fake.pods()


def test_killed_controller(make_run: Callable[..., DurableRun], fake: FakeCluster) -> None:
    """The controller is killed while a body runs; the next one reads on, and the body runs once."""
    run = make_run()
    controller = run.start()
    run.wait_for(lambda: "before 4" in run.logs(), "the body")
    controller.kill()
    controller.wait(10)

    resumed = run.resume()
    run.wait_for(lambda: run.events("RunStarted")[1:], "the resume")
    run.open_gate()

    assert 0 == resumed.wait(60), run.output
    check_whole(run, fake)
