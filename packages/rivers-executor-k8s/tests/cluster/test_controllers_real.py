"""Controllers that are killed, and controllers that want the same run: what they leave, and who goes on."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pod_steps
import pytest
from controllers import Controller
from namespaces import Namespace
from real_runs import NEEDS_IMAGE, NO_NOTES, Start

from rivers_executor_k8s.api.client import load_api_client
from rivers_executor_k8s.api.namespace import Cluster
from rivers_executor_k8s.pod.names import RUN_LABEL
from rivers_executor_k8s.run.lease import LEASE_SECONDS, RunLease, RunLeaseHeldError

pytestmark = [pytest.mark.long, NEEDS_IMAGE, pytest.mark.timeout(420)]

KILLS, AT_ONCE = 40, 4
ORPHAN_TTL = 5.0
MARGIN = 25.0
"""Seconds for pods that were not started yet when their controller was killed: they start, and then wait for it."""
LEASE_MARGIN = 3.0
MOMENTS = ("begun", "StepStarted plain", "StepStarted one", "StepSucceeded one")

HOLDS = """
import asyncio, sys
from rivers_executor_k8s.api.client import load_api_client
from rivers_executor_k8s.api.namespace import Cluster
from rivers_executor_k8s.run.lease import RunLease

async def main():
    lock = RunLease(Cluster(load_api_client(None), sys.argv[1]), sys.argv[2], None)
    await lock.take()
    print(lock.epoch, flush=True)
    await asyncio.sleep(600)

asyncio.run(main())
"""


def killed(namespace: Namespace, seed: int) -> Controller:
    """A controller that was killed at some moment of its run: in preflight, before its first pod, or later."""
    chance = random.Random(seed)
    store = f"{os.environ['RIVERS_TEST_STORE']}/{uuid.uuid4().hex}"
    more = f'{{"orphan_ttl": {ORPHAN_TTL}, "worker_cpu": "50m", "max_concurrent_steps": 2}}'
    controller = Controller(namespace, store, {"RIVERS_TEST_CONTROLLER": more})
    try:
        controller.told(chance.choice(MOMENTS), within=20.0)  # on a busy cluster no pod may start so soon
        time.sleep(chance.uniform(0.3, 4.0))
    finally:
        controller.kill()
    return controller


def workers(namespace: Namespace) -> list[str]:
    """The pods in which a container runs."""
    return [
        pod["metadata"]["name"]
        for pod in namespace.ask("GET", f"{namespace.path}/pods")["items"]
        if any("running" in c["state"] for c in pod["status"].get("containerStatuses", ()))
    ]


def runs_of(objects: list[dict[str, Any]]) -> set[str]:
    return {one["metadata"]["labels"][RUN_LABEL] for one in objects}


def pods(namespace: Namespace) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = namespace.ask("GET", f"{namespace.path}/pods")["items"]
    return found


def leases(namespace: Namespace) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = namespace.ask("GET", namespace.leases)["items"]
    return found


@pytest.mark.long
def test_killed_at_any_moment(namespace: Namespace, begin: Start) -> None:
    """Nothing of killed controllers runs soon after, the next run sweeps all they left, and nothing of a live one."""
    seed = int(os.environ.get("RIVERS_TEST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"RIVERS_TEST_SEED={seed}", flush=True)
    alive = begin(pod_steps.sleeps, env={**NO_NOTES, "RIVERS_TEST_SECONDS": "600"})
    living = alive.until("StepStarted", "sleeps").worker
    begun = time.monotonic()
    seeds = [seed + i for i in range(KILLS)]
    with ThreadPoolExecutor(AT_ONCE) as threads:
        dead = list(threads.map(lambda one: killed(namespace, one), seeds))
    last = time.monotonic()
    print(f"{KILLS} controllers were killed within {last - begun:.0f} s", flush=True)
    namespace.until(lambda: [living] == workers(namespace) or None, ORPHAN_TTL + MARGIN)
    stopped = time.monotonic() - last
    attempts = Counter(
        (p["metadata"]["labels"][RUN_LABEL], p["metadata"]["labels"]["rivers.io/step"]) for p in pods(namespace)
    )
    committed = [Counter(line for line in one.lines if line.startswith("StepSucceeded")) for one in dead]
    left = len(pods(namespace)), len(leases(namespace))
    time.sleep(max(0.0, last + LEASE_SECONDS + LEASE_MARGIN - time.monotonic()))
    result = begin(pod_steps.one, env=NO_NOTES).end()
    namespace.until(lambda: [living] == [p["metadata"]["name"] for p in pods(namespace)] or None, 30)
    print(f"stopped after {stopped:.1f} s; left were {left[0]} pods and {left[1]} leases")

    assert result.success
    assert 1 == len(leases(namespace))
    assert runs_of(pods(namespace)) == runs_of(leases(namespace))
    assert left[0] > KILLS // 4
    assert left[1] > KILLS // 8
    assert {1} == set(attempts.values())
    assert {1} == {count for one in committed for count in one.values()}


@pytest.fixture
def holder(namespace: Namespace) -> Iterator[subprocess.Popen[str]]:
    """A process that holds the lease of the run `shared`."""
    command = [sys.executable, "-c", HOLDS, namespace.name, "shared"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert "0" == process.stdout.readline().strip()
        yield process
    finally:
        process.kill()
        process.wait(10)
        process.stdout.close()


def test_one_run_and_three_controllers(namespace: Namespace, holder: subprocess.Popen[str]) -> None:
    """The second controller of a run is told who holds it; that one killed, a third goes on, one epoch later."""

    async def take() -> RunLease:
        cluster = Cluster(load_api_client(None), namespace.name)
        lock = RunLease(cluster, "shared", None)
        try:
            await lock.take()
            await lock.release()
        finally:
            await cluster.close()
        return lock

    with pytest.raises(RunLeaseHeldError) as refused:
        asyncio.run(take())
    holder.send_signal(signal.SIGKILL)
    holder.wait(10)
    third = asyncio.run(take())

    assert f"{os.uname().nodename}/{holder.pid}" in refused.value.message
    assert 1 == third.epoch
    assert [] == leases(namespace)
