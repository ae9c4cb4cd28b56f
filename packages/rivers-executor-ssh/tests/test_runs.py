"""Tests of runs on hosts that work."""

from __future__ import annotations

import os
from collections.abc import Callable

import ssh_steps
from host_run import HostRun
from loopback import Loopback, LoopbackHost, wait_for

import rivers as rs
from rivers_executor_ssh import SshHost

Start = Callable[..., HostRun]
Two = tuple[LoopbackHost, LoopbackHost]


def highest(lines: list[str], host: str) -> int:
    """Return the most bodies that were on a host at once, by their notes."""
    now = most = 0
    for line in lines:
        if line.endswith(f"@{host}"):
            now += 1 if line.startswith("+") else -1
            most = max(most, now)
    return most


def test_run(two: Two, start: Start) -> None:
    """Values, environment and working directory of the hosts are as given."""
    run = start(ssh_steps.where, ssh_steps.after)
    result = run.end()

    assert result.success, result.failed_assets
    assert run.warnings() == []
    host, folder, colour = run._repo.load_node("after").split()
    assert (host in ("a", "b"), folder, colour) == (True, os.path.dirname(ssh_steps.__file__), "blue")


def test_hosts_share_the_work(two: Two, start: Start) -> None:
    """Both hosts are used to all their slots, and never beyond."""
    run = start(*ssh_steps.many(12))

    assert run.end().success
    assert [2, 2] == [highest(run.lines(), host) for host in "ab"]
    assert 24 == len(run.lines())


def test_slots_of_a_host(two: Two, start: Start) -> None:
    """A host's own slots win over those of the executor; its name is that of the workers."""
    run = start(*ssh_steps.many(6), hosts=[SshHost("a", slots=1), "b"])
    result = run.end()

    assert [1, 2] == [highest(run.lines(), host) for host in "ab"]
    assert {"a", "b"} == {step.worker.split("/")[0] for step in result.steps.values()}


def test_slots_by_cpus(loopback: Loopback, start: Start) -> None:
    """Without a number, a host has as many slots as CPUs."""
    loopback.add("a")
    run = start(*ssh_steps.many(6), max_workers_per_host=None)

    assert run.end().success
    assert len(os.sched_getaffinity(0)) == highest(run.lines(), "a")


def test_worker_for_each_attempt(loopback: Loopback, start: Start) -> None:
    """With worker_reuse="never" each attempt has a worker of its own; by default steps share them."""
    loopback.add("a")
    alone = start(*ssh_steps.many(3), worker_reuse="never").end()
    shared = start(*ssh_steps.many(3)).end()

    assert 3 == len({step.worker for step in alone.steps.values()})
    assert 2 == len({step.worker for step in shared.steps.values()})


def test_crashes(two: Two, start: Start) -> None:
    """A crash fails its own step, with evidence, and leaves no child of the body."""
    run = start(ssh_steps.killed, ssh_steps.exits, ssh_steps.killed_worker, ssh_steps.hangs, *ssh_steps.many(4))
    steps = run.end().steps
    failures = {name: step.failure for name, step in steps.items() if step.failure is not None}

    assert {"killed", "exits", "killed_worker", "hangs"} == failures.keys()
    reasons = {name: failure.reason.value for name, failure in failures.items()}
    assert {**dict.fromkeys(("killed", "exits", "killed_worker"), "infrastructure"), "hangs": "timeout"} == reasons
    assert 11 == failures["killed"].evidence.signal
    assert 0 == failures["exits"].evidence.exit_code
    assert 9 == failures["killed_worker"].evidence.signal
    assert failures["killed_worker"].evidence.node in ("a", "b")


def test_cancel(two: Two, start: Start) -> None:
    """A cancelled run ends its bodies on the hosts, at once those that wait for a slot."""
    run = start(ssh_steps.waits, *ssh_steps.many(8))
    run.until(1)
    run.handle.cancel()
    result = run.end()

    assert rs.StepState.CANCELLED is result.steps["waits"].state


def test_closed_before_the_first_step(two: Two, start: Start) -> None:
    """A run that is cancelled while it connects leaves nothing."""
    run = start(ssh_steps.waits)
    assert wait_for(lambda: two[0].processes() or two[1].processes())
    run.handle.cancel()

    assert not run.end().success
    assert [] == run.lines()
