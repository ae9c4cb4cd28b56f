"""Runs on a real Slurm: results, pilots, arrays, resources, the queue."""

from __future__ import annotations

import subprocess

import pytest
import slurm_steps
from real_slurm import MEMORY, Cluster, slurm, wait_until

import rivers as rs
from rivers.exceptions import RiversError
from rivers.protocol import FailureReason


def failure(result: rs.RunResult, step: str) -> rs.Failure:
    found = result.steps[step].failure
    assert found is not None
    return found


def test_run(cluster: Cluster) -> None:
    """Every step runs in a job of its own, with what Slurm gives it and nothing of this process's environment."""
    result = cluster.run(cluster.asset(slurm_steps.one), cluster.asset(slurm_steps.add))

    assert result.success
    first = cluster.repository.load_node("one")
    assert "mine" == first["MY_MARK"]
    assert not [name for name in first if name.startswith("RIVERS_") and name != "RIVERS_SLURM_NOTES"]
    workers = [event.worker for event in cluster.events if type(event).__name__ == "StepStarted"]
    assert f"job {first['SLURM_JOB_ID']}" == workers[0]
    assert 2 == len(set(workers))
    assert "hello from a job" in [getattr(event, "message", "") for event in cluster.events]


def test_pilots(cluster: Cluster) -> None:
    """A pilot job serves the steps of a run in turn."""
    assets = [cluster.asset(slurm_steps.one, name=f"a{n}") for n in range(12)]

    result = cluster.run(*assets, worker_reuse="run", max_jobs=2)

    assert result.success
    jobs = {cluster.repository.load_node(f"a{n}")["SLURM_JOB_ID"] for n in range(12)}
    assert 1 <= len(jobs) <= 2


def test_array(cluster: Cluster) -> None:
    """Workers that start at the same time are tasks of one array."""

    def fan_out() -> object:
        return slurm_steps.gather(slurm_steps.keys().map(slurm_steps.mapped).collect())

    graph = rs.Asset.from_graph(fan_out, name="fan", io_handler=cluster.store)

    result = cluster.run(graph, array=True)

    assert result.success
    started = [e for e in cluster.events if type(e).__name__ == "StepStarted" and "mapped" in e.step]
    jobs = [event.worker.removeprefix("job ") for event in started]
    assert 6 == len(set(jobs))
    assert 1 == len({job.partition("_")[0] for job in jobs})
    assert {str(n) for n in range(6)} == {job.partition("_")[2] for job in jobs}


def test_resources(cluster: Cluster) -> None:
    """Compute and metadata of an asset decide on the job."""
    asset = cluster.asset(
        slurm_steps.one, compute=rs.Compute(cpu="1500m", memory="400Mi"), metadata={"rivers/slurm/partition": "short"}
    )

    result = cluster.run(asset, time="0:01")

    assert result.success
    job = cluster.repository.load_node("one")
    assert "2" == job["SLURM_CPUS_PER_TASK"]
    assert "400" == job["SLURM_MEM_PER_NODE"]
    assert "short" == job["SLURM_JOB_PARTITION"]


def test_pending(cluster: Cluster) -> None:
    """A job that waits says why, in words, and runs when it can."""
    nodes, cpus = slurm("sinfo", "-h", "-N", "-p", "main", "-o", "%D %c").split()[:2]
    script = "#!/bin/sh\nsleep 8\n"
    command = ["sbatch", "--parsable", f"--nodes={nodes}", f"--ntasks={cpus}", "--mem=100M", "--output=/dev/null"]
    subprocess.run(command, input=script, text=True, check=True, capture_output=True)

    result = cluster.run(cluster.asset(slurm_steps.one))

    assert result.success
    waits = [getattr(event, "message", "") for event in cluster.events if "pending" in getattr(event, "message", "")]
    assert len(waits) == 1
    assert "the resources that it asks for are in use (Resources)" in waits[0]


def test_never(cluster: Cluster) -> None:
    """A job that the partition can never start is refused, with Slurm's word, and leaves the queue."""
    result = cluster.run(cluster.asset(slurm_steps.one), partition="short", time="1:00:00")

    found = failure(result, "one")
    assert FailureReason.INFRASTRUCTURE is found.reason
    assert "its time limit is above that of the partition (PartitionTimeLimit)" in found.message
    assert found.evidence is not None
    assert "PartitionTimeLimit" == found.evidence.container_reason
    assert not found.transient


def test_refused_before_the_run(cluster: Cluster) -> None:
    """What sbatch refuses is found before the run."""
    with pytest.raises(RiversError, match="nvalid partition name"):
        cluster.run(cluster.asset(slurm_steps.one), partition="nowhere")


def test_refused(cluster: Cluster) -> None:
    """A job that no node can run fails its step, and another attempt would not help."""
    result = cluster.run(cluster.asset(slurm_steps.one), memory="900Ti")

    found = failure(result, "one")
    assert "Requested node configuration is not available" in found.message
    assert not found.transient


def test_worker_cannot_start(cluster: Cluster) -> None:
    """A script that fails before its worker ends the start at once, with what it has written."""
    result = cluster.run(cluster.asset(slurm_steps.one), python="/nowhere/python")

    found = failure(result, "one")
    assert "ended with code 127 before a worker could start" in found.message
    assert "/nowhere/python" in found.message
    assert not found.transient


def test_container(cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> None:
    """With `container` the worker runs by `apptainer exec IMAGE`; a stand-in for it notes that and executes."""
    import os
    import sys

    folder = tmp_path_factory.mktemp("bin")
    stand_in = folder / "apptainer"
    stand_in.write_text(f'#!/bin/sh\necho "$1 $2" >> {folder}/calls\nshift 2\nexec "$@"\n')
    stand_in.chmod(0o755)

    result = cluster.run(
        cluster.asset(slurm_steps.one),
        container="/images/tools.sif",
        python=sys.executable,
        setup=f"export PATH={folder}:$PATH PYTHONPATH={os.path.dirname(slurm_steps.__file__)}",
    )

    assert result.success, failure(result, "one")
    assert {"exec /images/tools.sif"} == set((folder / "calls").read_text().splitlines())


def test_timeout_and_memory(cluster: Cluster) -> None:
    """A step that is over its timeout is ended by its worker, and its job's limit is not below that."""
    result = cluster.run(cluster.asset(slurm_steps.sleeps, timeout=2.0), memory=MEMORY)

    assert FailureReason.TIMEOUT is failure(result, "sleeps").reason


def test_cancel(cluster: Cluster) -> None:
    """Cancelling runs takes their jobs out of the queue, pending and running ones."""
    running, first = cluster.submit(cluster.asset(slurm_steps.sleeps))
    cluster.noted("begun")
    pending, second = cluster.submit(cluster.asset(slurm_steps.one, compute=rs.Compute(memory="3900Mi")))
    wait_until(lambda: 2 == len(cluster.queue))

    for repository, handle in ((pending, second), (running, first)):
        handle.cancel()
        handle.wait(30)
        repository.shutdown()

    cluster.check_nothing_left()
