"""Runs on a cluster of real processes that nobody breaks."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import dask.config
import dask_steps as steps
import pytest
from dask_processes import BackgroundRun, ClusterProcesses, wait_until
from distributed import Client, LocalCluster

import rivers as rs
from rivers.exceptions import GraphValidationError
from rivers_executor_dask import DaskExecutor


def run(executor: DaskExecutor, store: rs.BaseIOHandler, *assets: Any, **more: Any) -> tuple[rs.RunResult, list[Any]]:
    events: list[Any] = []
    repo = rs.CodeRepository(list(assets), resources={"store": store})
    return repo.materialize(executor=executor, raise_on_error=False, on_event=events.append, **more), events


def test_values_logs_and_events(cluster: ClusterProcesses, store: rs.PickleIOHandler) -> None:
    """Steps run in processes beside the workers; what they print arrives while they run, and values are stored."""
    result, events = run(DaskExecutor(cluster.address), store, steps.base, steps.doubled)

    assert result.success
    assert 40 == store.load_input(rs.InputContext(asset_name="doubled"))
    worker, _, pid = result.steps["base"].worker.partition(" pid ")
    assert worker in cluster.workers
    assert int(pid) != cluster.workers[worker].pid
    kinds = [type(event).__name__ for event in events if getattr(event, "step", "") == "base"]
    assert ["StepStarted", "StepLog", "StepSucceeded"] == kinds


def test_an_end_of_the_body_is_the_body_s_alone(cluster: ClusterProcesses, store: rs.PickleIOHandler) -> None:
    """A timeout kills the body and exit code 0 is no success, while the Dask worker goes on and its slot is free."""
    result, _ = run(DaskExecutor(cluster.address), store, steps.overdue, steps.exits)
    again, _ = run(DaskExecutor(cluster.address), store, steps.base)

    assert again.success
    overdue, exits = result.steps["overdue"].failure, result.steps["exits"].failure
    assert overdue is not None
    assert exits is not None
    assert (rs.FailureReason.TIMEOUT, rs.FailureReason.INFRASTRUCTURE) == (overdue.reason, exits.reason)
    assert exits.message.startswith("exited with code 0 before committing")
    assert all(process.poll() is None for process in cluster.workers.values())


def test_the_user_s_client_stays(cluster: ClusterProcesses, store: rs.PickleIOHandler) -> None:
    """A client of the user's is where the cluster is found; it is not closed, and keeps its default."""
    with Client(cluster.address) as client:
        named, _ = run(DaskExecutor(client), store, steps.base)
        default, _ = run(DaskExecutor(), store, steps.base)

        assert named.success
        assert default.success
        assert 3 == client.submit(sum, (1, 2)).result()


def test_a_cluster_that_is_made_for_the_run(store: rs.PickleIOHandler) -> None:
    """A function's cluster is closed with the run; one that is passed stays open."""
    made = []

    def make() -> LocalCluster:
        options = {"n_workers": 1, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
        made.append(LocalCluster(**options))
        return made[-1]

    result, _ = run(DaskExecutor(make), store, steps.base)
    assert result.success
    assert "closed" == made[0].status.name

    with make() as passed:
        result, _ = run(DaskExecutor(passed), store, steps.base)
        assert result.success
        assert "running" == passed.status.name


def test_no_cluster(store: rs.PickleIOHandler) -> None:
    """Without an address, a default client or a configured one the run is refused, and says what to write."""
    with (
        dask.config.set({"scheduler-address": None}),
        pytest.raises(GraphValidationError, match="DASK_SCHEDULER_ADDRESS"),
    ):
        run(DaskExecutor(), store, steps.base)


def test_a_configured_address(cluster: ClusterProcesses, store: rs.PickleIOHandler) -> None:
    """The address may come from Dask's configuration, so that the name `dask` alone is enough."""
    with dask.config.set({"scheduler-address": cluster.address}):
        result, _ = run(DaskExecutor(), store, steps.base)

    assert result.success


def test_a_scheduler_that_does_not_answer(store: rs.PickleIOHandler) -> None:
    """A run is refused when no scheduler answers within `connect_timeout`."""
    with pytest.raises(GraphValidationError, match="no Dask cluster: OSError"):
        run(DaskExecutor("tcp://127.0.0.1:9", connect_timeout=1), store, steps.base)


def test_metadata_is_checked_before_the_run(cluster: ClusterProcesses, store: rs.PickleIOHandler) -> None:
    """Wrong priorities and resources are problems of their assets, all of them at once."""
    with pytest.raises(GraphValidationError) as raised:
        run(DaskExecutor(cluster.address), store, steps.wrong_priority, steps.wrong_resources)

    assert "invalid priority='soon': expected a whole number" in str(raised.value)
    assert "invalid resources='GPU': expected NAME=AMOUNT, separated by spaces" in str(raised.value)


def test_compute_asks_for_resources(cluster: ClusterProcesses, store: rs.PickleIOHandler) -> None:
    """A step with a GPU runs on the worker that offers one."""
    result, _ = run(DaskExecutor(cluster.address), store, steps.on_gpu)

    assert result.success
    assert next(iter(cluster.workers)) == result.steps["on_gpu"].worker.partition(" pid ")[0]


def test_resources_that_nobody_has(cluster: ClusterProcesses, store: rs.PickleIOHandler) -> None:
    """A step that no worker can take is reported before the run, and fails after `startup_timeout`."""
    result, events = run(DaskExecutor(cluster.address, startup_timeout=0.5), store, steps.on_seven_gpus, steps.base)

    failure = result.steps["on_seven_gpus"].failure
    assert failure is not None
    assert rs.FailureReason.INFRASTRUCTURE is failure.reason
    assert "no worker of the cluster offered GPU=7 for 0.5 s" in failure.message
    assert "succeeded" == result.steps["base"].state
    (warning,) = [event.message for event in events if type(event).__name__ == "RunWarning"]
    assert "no worker of the Dask cluster offers GPU=7 now, which on_seven_gpus needs" in warning


def test_priority_orders_what_waits(make_cluster: Any, store: rs.PickleIOHandler, notes: Path) -> None:
    """Of two steps that wait for the only slot, the one of the higher priority is first."""
    cluster = make_cluster(workers=0)
    cluster.add_worker(threads=1)
    blocked = BackgroundRun(DaskExecutor(cluster.address), store, notes, steps.waits)
    wait_until(lambda: "body" in notes.read_text())
    patient = BackgroundRun(DaskExecutor(cluster.address), store, notes, steps.patient)
    wait_until(lambda: patient.of("RunStarted"))
    urgent = BackgroundRun(DaskExecutor(cluster.address), store, notes, steps.urgent)
    wait_until(lambda: len(_waiting(cluster.address)) == 3)

    Path(f"{notes}.go").touch()

    assert all(one.handle.wait().success for one in (blocked, patient, urgent))
    assert ["urgent", "patient"] == notes.read_text().splitlines()[1:]


def _waiting(address: str) -> list[str]:
    with Client(address, set_as_default=False) as client:
        tasks = client.run_on_scheduler(lambda dask_scheduler: [str(key) for key in dask_scheduler.tasks])
    return list(tasks)


@pytest.mark.parametrize("is_running", [True, False], ids=["running", "waiting"])
def test_cancel(make_cluster: Any, store: rs.PickleIOHandler, notes: Path, is_running: bool) -> None:
    """A cancelled run stops the body that runs, and what waits for a slot never starts."""
    cluster = make_cluster(workers=0)
    cluster.add_worker(threads=1)
    assets = [steps.sleeps] if is_running else [steps.sleeps, steps.sleeps_too]
    started = BackgroundRun(DaskExecutor(cluster.address), store, notes, *assets)
    wait_until(lambda: "body" in notes.read_text())

    started.handle.cancel()
    result = started.handle.wait()

    assert {"cancelled"} == {step.state for step in result.steps.values()}
    assert 1 == len(notes.read_text().splitlines())
    assert [] == wait_until(lambda: [_waiting(cluster.address)])[0]


def test_many_threads_share_a_cluster(cluster: ClusterProcesses, tmp_path: Path) -> None:
    """Two runs at once, of one process on one cluster, do not see each other's events."""
    results: list[rs.RunResult] = []

    def go(n: int) -> None:
        store = rs.PickleIOHandler(tmp_path / str(n), shared=True)
        results.append(run(DaskExecutor(cluster.address), store, steps.base, steps.doubled)[0])

    threads = [threading.Thread(target=go, args=(n,)) for n in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [True, True] == [result.success for result in results]
