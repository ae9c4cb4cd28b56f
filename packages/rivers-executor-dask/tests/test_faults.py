"""Workers, schedulers and controllers that die, for real."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask_steps as steps
import pytest
from dask_processes import BackgroundRun, ClusterProcesses, wait_until
from distributed import Client

import rivers as rs
from rivers_executor_dask import DaskExecutor
from rivers_executor_dask.run import DaskRun

MakeCluster = Callable[..., ClusterProcesses]


def is_alive(pid: int) -> bool:
    try:
        return "Z" != Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0]
    except FileNotFoundError:
        return False


def body_of(notes: Path) -> int:
    """Wait for the first body, and return its process."""
    line = wait_until(lambda: [line for line in notes.read_text().splitlines() if line.startswith("body")])[0]
    return int(line.split()[1])


@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_worker(make_cluster: MakeCluster, store: rs.PickleIOHandler, notes: Path, workers: int) -> None:
    """A worker's SIGKILL ends its body, fails its steps as infrastructure, and no other worker runs them again."""
    cluster = make_cluster(workers=workers)
    started = BackgroundRun(DaskExecutor(cluster.address), store, notes, steps.sleeps)
    body = body_of(notes)
    (event,) = wait_until(lambda: started.of("StepStarted"))
    address = event.worker.partition(" pid ")[0]

    cluster.kill(address)
    result = started.handle.wait()

    failure = result.steps["sleeps"].failure
    assert failure is not None
    assert rs.FailureReason.INFRASTRUCTURE is failure.reason
    assert f"the Dask worker {address} has left the cluster" in failure.message
    wait_until(lambda: not is_alive(body))
    assert 1 == len(notes.read_text().splitlines())


def test_dask_starts_the_task_again(
    make_cluster: MakeCluster, store: rs.PickleIOHandler, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body runs once per attempt id also when Dask starts its task again: the second start is refused.

    The report of the worker's loss, upon which the controller drops the task, is suppressed: Dask, whose
    `allowed-failures` is 3 here, starts it on the other worker.
    """
    monkeypatch.setattr(DaskRun, "_observe_cluster", lambda self, event: None)
    cluster = make_cluster(workers=2)
    started = BackgroundRun(DaskExecutor(cluster.address), store, notes, steps.sleeps)
    body_of(notes)
    (event,) = wait_until(lambda: started.of("StepStarted"))

    cluster.kill(event.worker.partition(" pid ")[0])
    result = started.handle.wait()

    failure = result.steps["sleeps"].failure
    assert failure is not None
    assert rs.FailureReason.INFRASTRUCTURE is failure.reason
    assert "Dask has lost the worker and started the task again, which was refused" in failure.message
    assert 1 == len(notes.read_text().splitlines())


def test_core_retries(make_cluster: MakeCluster, store: rs.PickleIOHandler, notes: Path) -> None:
    """A retry policy runs the step again as another attempt, on a worker that is left."""
    cluster = make_cluster(workers=2)
    retry = rs.RetryPolicy(max_retries=1, retry_on=rs.RetryOn.TRANSIENT)
    started = BackgroundRun(DaskExecutor(cluster.address), store, notes, steps.waits, retry=retry)
    body_of(notes)
    (event,) = wait_until(lambda: started.of("StepStarted"))

    cluster.kill(event.worker.partition(" pid ")[0])
    wait_until(lambda: 2 == len(notes.read_text().splitlines()))
    Path(f"{notes}.go").touch()
    result = started.handle.wait()

    assert result.success
    assert 2 == result.steps["waits"].attempts


def test_a_worker_that_is_retired(make_cluster: MakeCluster, store: rs.PickleIOHandler, notes: Path) -> None:
    """A worker that the cluster retires while a body runs ends the body; the step has failed as infrastructure."""
    cluster = make_cluster(workers=1)
    started = BackgroundRun(DaskExecutor(cluster.address), store, notes, steps.sleeps)
    body = body_of(notes)

    with Client(cluster.address, set_as_default=False) as client:
        client.retire_workers(list(cluster.workers))
    result = started.handle.wait()

    failure = result.steps["sleeps"].failure
    assert failure is not None
    assert rs.FailureReason.INFRASTRUCTURE is failure.reason
    wait_until(lambda: not is_alive(body))


def test_a_worker_that_gets_sigterm(make_cluster: MakeCluster, store: rs.PickleIOHandler, notes: Path) -> None:
    """A worker that ends in order, as a batch system asks it to, does not wait for its bodies."""
    cluster = make_cluster(workers=1)
    started = BackgroundRun(DaskExecutor(cluster.address), store, notes, steps.sleeps)
    body = body_of(notes)

    (address,) = cluster.workers
    cluster.kill(address, signal.SIGTERM)

    assert "failed" == started.handle.wait().steps["sleeps"].state
    wait_until(lambda: not is_alive(body))
    assert 0 == cluster.workers[address].wait(30)


def test_a_killed_scheduler(make_cluster: MakeCluster, store: rs.PickleIOHandler, notes: Path) -> None:
    """The scheduler's SIGKILL fails the steps that run as infrastructure; its workers end, and their bodies."""
    cluster = make_cluster(workers=1)
    started = BackgroundRun(DaskExecutor(cluster.address, connect_timeout=2), store, notes, steps.sleeps)
    body = body_of(notes)

    cluster.scheduler.kill()
    result = started.handle.wait()

    failure = result.steps["sleeps"].failure
    assert failure is not None
    assert rs.FailureReason.INFRASTRUCTURE is failure.reason
    assert "the connection to the Dask scheduler broke" in failure.message
    wait_until(lambda: not is_alive(body))


CONTROLLER = """
import sys
from pathlib import Path
import dask_steps, rivers as rs
from rivers_executor_dask import DaskExecutor

address, store, notes = sys.argv[1:]
repo = rs.CodeRepository([dask_steps.starts_a_process], resources={"store": rs.PickleIOHandler(store, shared=True)})
repo.materialize(executor=DaskExecutor(address), config={"starts_a_process": {"notes": notes}})
"""


def test_a_killed_controller(cluster: ClusterProcesses, tmp_path: Path, notes: Path) -> None:
    """The controller's SIGKILL ends its bodies within 2 s, with all that they have started; the slots are free."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", CONTROLLER, cluster.address, str(tmp_path / "store"), str(notes)]
    controller = subprocess.Popen(command, env=environment)
    child = int(wait_until(lambda: notes.read_text().splitlines())[0].split()[1])

    controller.kill()
    controller.wait()

    wait_until(lambda: not is_alive(child), seconds=2)


def test_a_frozen_worker(make_cluster: MakeCluster, store: rs.PickleIOHandler, notes: Path) -> None:
    """A cancel ends a step whose worker is frozen and answers nothing."""
    cluster = make_cluster(workers=1)
    started = BackgroundRun(DaskExecutor(cluster.address), store, notes, steps.sleeps)
    body_of(notes)
    (address,) = cluster.workers
    cluster.kill(address, signal.SIGSTOP)

    started.handle.cancel()

    assert "cancelled" == started.handle.wait().steps["sleeps"].state


def test_a_worker_without_the_user_s_code(make_cluster: MakeCluster, store: rs.PickleIOHandler, tmp_path: Path) -> None:
    """A worker that cannot import this package is a problem before the run, which says what to install."""
    (tmp_path / "rivers_executor_dask").mkdir()
    (tmp_path / "rivers_executor_dask" / "__init__.py").touch()
    cluster = make_cluster(workers=1, PYTHONPATH=str(tmp_path))
    repo = rs.CodeRepository([steps.base], resources={"store": store})

    with pytest.raises(rs.exceptions.GraphValidationError, match="install rivers-executor-dask and your project"):
        repo.materialize(executor=DaskExecutor(cluster.address))


def test_a_worker_that_lies(
    cluster: ClusterProcesses, store: rs.PickleIOHandler, notes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A message that is no event ends its attempt, which says what it was; nothing of it is unpickled."""
    tampered: list[Any] = []

    def tamper(self: DaskRun, attempt: Any, payloads: list[bytes]) -> None:
        tampered.append(attempt)
        original(self, attempt, [b"cos\nabort\n(tR."])

    original = DaskRun._take_events
    monkeypatch.setattr(DaskRun, "_take_events", tamper)
    started = BackgroundRun(DaskExecutor(cluster.address), store, notes, steps.sleeps)

    failure = started.handle.wait().steps["sleeps"].failure

    assert tampered
    assert failure is not None
    assert rs.FailureReason.INFRASTRUCTURE is failure.reason
    assert "it wrote what is no event" in failure.message
