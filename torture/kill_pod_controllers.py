"""Kill controllers whose steps run in pods: `python torture/kill_pod_controllers.py --seed N`.

A FakeCluster in a process of its own; controllers that are SIGKILLed at moments drawn evenly from their life. Within
`orphan_ttl` of 2 s and some for the kill these invariants have to hold: nothing that bears the mark of a controller
runs, be it a worker or a body. Once the leases are as old as a dead controller's, the next sweep leaves no pod and no
lease, and a controller that nobody kills succeeds.

Prints the seed, how long the last process lived on and each broken invariant, and exits with 1 if there is one.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime as dt
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import journal
import pod_controller
from surroundings import Grounds, grounds

from rivers_executor_k8s.api.client import load_api_client
from rivers_executor_k8s.api.namespace import Cluster
from rivers_executor_k8s.pod.names import MANAGED
from rivers_executor_k8s.run.lease import LEASE_SECONDS
from rivers_executor_k8s.run.orphans import delete_orphans
from rivers_process.processes import command_line, find_marked_processes, kill_processes

CONTROLLER = Path(pod_controller.__file__)
PATIENCE = pod_controller.ORPHAN_TTL + 4.0
"""Seconds after its death within which everything that it has started has to be gone."""
LIFE = 120.0
"""Seconds within which a controller that nobody kills has to end."""


def start_controller(ground: Grounds, folder: Path, seed: int) -> subprocess.Popen[bytes]:
    """Start a controller with an empty folder of its own."""
    return subprocess.Popen(
        [sys.executable, str(CONTROLLER), str(folder), str(seed), "1"],
        env={**os.environ, **ground.environment(folder, seed)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def measure_life(ground: Grounds, name: str, seed: int) -> float:
    """Measure the life of a controller that nobody kills, in seconds."""
    start = time.monotonic()
    with start_controller(ground, ground.root / name, seed) as controller:
        if controller.wait(LIFE) != 0:
            raise SystemExit(f"a controller that nobody has killed ended with {controller.returncode}")
    return time.monotonic() - start


def kill_at(ground: Grounds, folder: Path, seed: int, moment: float) -> tuple[list[str], float]:
    """Kill a controller `moment` seconds after its start; return broken invariants, and how long a process lived on."""
    controller = start_controller(ground, folder, seed)
    time.sleep(moment)
    controller.kill()
    controller.wait(LIFE)
    death = time.monotonic()
    mark = f"{journal.FOLDER}={folder}"
    while (left := find_marked_processes(mark)) and time.monotonic() < death + PATIENCE:
        time.sleep(0.02)
    lived_on = time.monotonic() - death
    wrong = [f"lives {PATIENCE:.0f} s later: {pid} {command_line(pid)}" for pid in left]
    kill_processes(left)
    return wrong, lived_on


async def sweep_leftovers() -> tuple[int, list[str]]:
    """Sweep as a next run does; return the number of deleted pods, and the pods and leases that are left."""
    later = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=2 * LEASE_SECONDS)
    api = load_api_client(None)
    cluster = Cluster(api, api.namespace)
    try:
        count = await delete_orphans(cluster, "next", later, look_again=0.1)
        pods, _ = await cluster.list_pods(MANAGED)
        leases = await cluster.list_leases(MANAGED)
    finally:
        await cluster.close()
    left = [f"pod {pod.metadata.name}" for pod in pods] + [f"lease {lease['metadata']['name']}" for lease in leases]
    return count, [f"left in the cluster: {what}" for what in left]


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=None, help="default: a random one, which is printed")
    parser.add_argument("--kills", type=int, default=30)
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if given.seed is None else given.seed
    print(f"seed {seed}")
    draw = random.Random(seed)
    slowest = 0.0
    start = time.monotonic()
    os.environ["PYTHONPATH"] = str(CONTROLLER.parent)  # containers import from where their cluster does
    cluster = subprocess.Popen([sys.executable, "-m", "rivers_k8s_testing"], stdout=subprocess.PIPE, text=True)
    with cluster, grounds() as ground:
        assert cluster.stdout is not None
        os.environ["KUBECONFIG"] = cluster.stdout.readline().strip()
        try:
            whole = measure_life(ground, "first", seed)
            wrong = asyncio.run(sweep_leftovers())[1]
            for n in range(given.kills):
                moment = draw.uniform(0.0, whole)
                found, lived_on = kill_at(ground, ground.root / str(n), seed + n, moment)
                slowest = max(slowest, lived_on)
                wrong += [f"killed at {moment:.3f} s: {what}" for what in found]
            count, left = asyncio.run(sweep_leftovers())
            wrong += left
            measure_life(ground, "last", seed)
            wrong += asyncio.run(sweep_leftovers())[1]
        finally:
            cluster.terminate()
    print(f"killed {given.kills} times within {whole:.1f} s of life; the last process was gone after {slowest:.2f} s")
    print(f"{count} pods were left and swept; {time.monotonic() - start:.0f} s")
    for line in wrong:
        print(f"WRONG: {line}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
