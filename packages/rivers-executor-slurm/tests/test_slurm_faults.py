"""Faults on a real Slurm: each attempt ends with the right reason and evidence, and nothing is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import slurm_steps
from real_slurm import CODE, Cluster, slurm, wait_until

import rivers as rs
from rivers.protocol import Failure, FailureReason


def failure(result: rs.RunResult, step: str) -> Failure:
    found = result.steps[step].failure
    assert found is not None
    assert found.evidence is not None
    return found


def finish(cluster: Cluster, repository: rs.CodeRepository, handle: rs.RunHandle) -> rs.RunResult:
    result = handle.wait(60)
    repository.shutdown()
    cluster.check_nothing_left()
    return result


def test_scancel_by_others(cluster: Cluster) -> None:
    """A job that somebody else cancels fails its step as infrastructure; the step was not cancelled."""
    repository, handle = cluster.submit(cluster.asset(slurm_steps.sleeps))
    job = cluster.noted("begun")[0]

    slurm("scancel", job)

    found = failure(finish(cluster, repository, handle), "sleeps")
    assert FailureReason.INFRASTRUCTURE is found.reason
    assert "it was cancelled by somebody else (CANCELLED)" in found.message
    assert f"worker job {job}" in found.message


def test_scancel_of_pending(cluster: Cluster) -> None:
    """A pending job that somebody else cancels is not submitted again."""
    running, first = cluster.submit(cluster.asset(slurm_steps.sleeps))
    cluster.noted("begun")
    pending, second = cluster.submit(cluster.asset(slurm_steps.one, compute=rs.Compute(memory="3900Mi")))
    [job] = wait_until(lambda: [line.split()[0] for line in cluster.queue if "PENDING" in line])

    slurm("scancel", job)

    found = failure(second.wait(60), "one")
    pending.shutdown()
    first.cancel()
    finish(cluster, running, first)
    assert FailureReason.INFRASTRUCTURE is found.reason
    assert "cancelled by somebody else (CANCELLED" in found.message
    assert not found.transient


def test_worker_is_killed(cluster: Cluster) -> None:
    """A worker that SIGKILL ends fails its step with the signal; others run on."""
    result = cluster.run(cluster.asset(slurm_steps.kills_worker), cluster.asset(slurm_steps.one))

    found = failure(result, "kills_worker")
    assert FailureReason.INFRASTRUCTURE is found.reason
    assert found.evidence is not None
    assert signal.SIGKILL == found.evidence.signal
    assert "succeeded" == result.steps["one"].state.value


def test_out_of_memory(cluster: Cluster) -> None:
    """A job over its memory fails its step as out of memory, with peak and limit."""
    result = cluster.run(cluster.asset(slurm_steps.hungry))

    found = failure(result, "hungry")
    assert FailureReason.OUT_OF_MEMORY is found.reason
    assert found.evidence is not None
    assert 300 << 20 == found.evidence.memory_limit
    assert found.evidence.memory_peak is not None
    assert found.evidence.memory_peak > 300 << 20


def test_more_memory(cluster: Cluster) -> None:
    """A retry policy that escalates gives the next attempt a job with more memory."""
    policy = rs.RetryPolicy(
        max_retries=1,
        retry_on=[rs.FailureReason.OUT_OF_MEMORY],
        escalate=rs.ComputeEscalation(factor=3, max_memory="1Gi"),
        backoff=rs.Backoff.constant(0.01),
    )

    result = cluster.run(cluster.asset(slurm_steps.hungry, retry=policy))

    assert result.success
    assert 2 == result.steps["hungry"].attempts


@pytest.mark.long
@pytest.mark.timeout(150)
def test_time_limit(cluster: Cluster) -> None:
    """A job at its time limit fails its step as timeout."""
    result = cluster.run(cluster.asset(slurm_steps.sleeps), time=60)

    found = failure(result, "sleeps")
    assert FailureReason.TIMEOUT is found.reason
    assert "it reached its time limit (TIMEOUT" in found.message


def test_stubborn_body(cluster: Cluster) -> None:
    """A body that ignores its cancel is killed after the grace, and its job leaves the queue."""
    repository, handle = cluster.submit(cluster.asset(slurm_steps.stubborn))
    cluster.noted("begun")

    handle.cancel()

    result = finish(cluster, repository, handle)
    assert "cancelled" == result.steps["stubborn"].state.value


def test_killed_controller(cluster: Cluster, tmp_path: Path) -> None:
    """After kill -9 of the controller a pilot ends by itself within `orphan_ttl`, and removes its output."""
    program = f"""
import rivers as rs, slurm_steps
from rivers_executor_slurm import SlurmExecutor
executor = SlurmExecutor(memory="300Mi", folder={str(cluster.jobs)!r}, worker_reuse="run", orphan_ttl=3, grace=1,
                         env={{"RIVERS_SLURM_NOTES": {str(cluster.notes)!r}}})
store = rs.PickleIOHandler({str(tmp_path / "values")!r}, shared=True)
rs.CodeRepository([rs.Asset(slurm_steps.sleeps, io_handler=store)], default_executor=executor).materialize()
"""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [str(CODE), os.environ.get("PYTHONPATH")]))}
    process = subprocess.Popen([sys.executable, "-c", program], env=env)
    try:
        cluster.noted("begun")
    finally:
        process.kill()
        process.wait()

    wait_until(lambda: not cluster.queue, "the pilot ends", 30)
    wait_until(lambda: not list(cluster.jobs.iterdir()), "the folder is removed", 5)


# ── daemons and nodes ──


def daemon(name: str) -> int:
    line = next(line for line in slurm("scontrol", "show", "config").splitlines() if line.startswith(name))
    return int(Path(line.split()[-1]).read_text())


def test_controller_of_slurm_is_away(breakable: Cluster) -> None:
    """While slurmctld is away, bodies run on and new jobs wait for it; nothing is lost."""
    pid = daemon("SlurmctldPidFile")
    first = breakable.asset(slurm_steps.naps)
    repository, handle = breakable.submit(first, breakable.asset(slurm_steps.after_nap))
    try:
        breakable.noted("napping")
        os.kill(pid, signal.SIGTERM)
        # The nap ends, and the next step's sbatch gets no answer.
        wait_until(lambda: [e for e in breakable.events if type(e).__name__ == "StepSucceeded"])
        time.sleep(2)
    finally:
        subprocess.run(["slurmctld"], check=True)

    result = finish(breakable, repository, handle)

    assert result.success
    assert {1} == {step.attempts for step in result.steps.values()}


def test_slurmd_is_stopped(breakable: Cluster) -> None:
    """While slurmd of a node is stopped, its bodies run on and are heard, and new jobs wait for it."""
    pid = daemon("SlurmdPidFile")
    repository, handle = breakable.submit(breakable.asset(slurm_steps.naps), breakable.asset(slurm_steps.after_nap))
    try:
        breakable.noted("napping")
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: [e for e in breakable.events if type(e).__name__ == "StepSucceeded"])
        time.sleep(2)
    finally:
        subprocess.run(["slurmd"], check=True)

    result = finish(breakable, repository, handle)

    assert result.success
    assert {1} == {step.attempts for step in result.steps.values()}


def node_state(name: str, state: str) -> None:
    # A node that has come back by itself cannot be resumed.
    command = ["scontrol", "update", f"nodename={name}", f"state={state}", "reason=test"]
    subprocess.run(command, check=state != "resume", capture_output=True)


def node() -> str:
    return slurm("sinfo", "-h", "-N", "-o", "%N").split()[0]


def test_node_fails(breakable: Cluster) -> None:
    """A node that goes down fails the step that runs there as infrastructure; its retry runs when the node is back."""
    reasons = [rs.FailureReason.INFRASTRUCTURE]
    policy = rs.RetryPolicy(max_retries=1, retry_on=reasons, backoff=rs.Backoff.constant(0.01))
    repository, handle = breakable.submit(breakable.asset(slurm_steps.sleeps_first, retry=policy))
    breakable.noted("begun")
    try:
        node_state(node(), "down")
        [retrying] = wait_until(lambda: [e for e in breakable.events if type(e).__name__ == "StepRetrying"])
    finally:
        node_state(node(), "resume")

    assert finish(breakable, repository, handle).success
    assert "its node failed (NODE_FAIL" in retrying.failure.message


def test_node_is_drained(breakable: Cluster) -> None:
    """While no node takes jobs, a step waits and says so."""
    try:
        node_state(node(), "drain")
        repository, handle = breakable.submit(breakable.asset(slurm_steps.one))
        waits = wait_until(lambda: [e for e in breakable.events if "is pending" in getattr(e, "message", "")])
    finally:
        node_state(node(), "resume")

    assert finish(breakable, repository, handle).success
    assert "nodes that it could use are down, drained or reserved" in waits[0].message
