"""Kill pods at random while the API server fails at random: `python torture/kill_pods.py --seed N`.

Runs of 38 steps on a FakeCluster of which a fifth of all requests meet 429, 500, 503, a proxy's page or a reset, before
or after they were handled; watches are cut every three seconds, and every third one is answered 410. Meanwhile pods are
killed, terminated, out of memory, evicted, drained and deleted, by force too. Then these invariants have to hold: every
step has succeeded, with the right value; no body has begun twice in one attempt; exactly one pod was made for each
attempt; no pod, lease, thread, process or descriptor is left.

Prints the seed, the counts and each broken invariant, and exits with 1 if there is one.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import os
import random
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import facts
import pods
from journal import FOLDER, StepJournal
from leftovers import Holdings, find_leftovers
from surroundings import grounds

from rivers_k8s_testing import FakeCluster, Fault
from rivers_process.processes import find_marked_processes, kill_processes

LONGEST = 1800.0
"""Seconds after which a torture that hangs ends, with all threads' tracebacks."""
SHOWN = 20
REMOVED = ("drained", "deleted", "deleted by force")
ANSWERS = (
    Fault.status(429, retry_after=0.2),
    Fault.status(500),
    Fault.status(503),
    Fault.html(),
    Fault.reset(),
    Fault.reset(after=True),
)


class PodKiller(threading.Thread):
    """A thread that disturbs pods `most` times; `done` counts each disturbance, `removed` are deleted pods."""

    def __init__(self, cluster: FakeCluster, seed: int, most: int) -> None:
        super().__init__(name="killer", daemon=True)
        self.done: Counter[str] = Counter()
        self.removed: Counter[str] = Counter()
        self._cluster = cluster
        self._draw = random.Random(seed)
        self._most = most
        self._over = threading.Event()
        self._deeds: dict[str, Callable[[str], None]] = {
            "killed": cluster.kill,
            "told to end": lambda pod: cluster.kill(pod, signal.SIGTERM),
            "out of memory": cluster.oom,
            "evicted": cluster.evict,
            "drained": cluster.drain,
            "deleted": cluster.delete,
            "deleted by force": lambda pod: cluster.delete(pod, force=True),
        }

    def run(self) -> None:
        """Disturb pods until `stop`."""
        while self.done.total() < self._most and not self._over.wait(self._draw.uniform(0.0, 1.0)):
            there = sorted(pod["metadata"]["name"] for pod in self._cluster.pods())
            deed = self._draw.choice(sorted(self._deeds))
            if there:
                with contextlib.suppress(LookupError):  # it has gone meanwhile
                    pod = self._draw.choice(there)
                    self._deeds[deed](pod)
                    self.done[deed] += 1
                    self.removed[pod] += deed in REMOVED

    def stop(self) -> None:
        """Stop the thread."""
        self._over.set()
        self.join()


def spoil(cluster: FakeCluster, seed: int) -> dict[str, Any]:
    """Add faults to the API server; return the rules by name."""
    add = cluster.faults.add
    return {
        "410": add(Fault.error(410), verb="watch", every=3, seed=seed),
        "cut": add(Fault.cut(seconds=3.0), verb="watch", seed=seed),
        "answers": add(*ANSWERS, rate=0.2, seed=seed),
    }


def find_duplicate_pods(cluster: FakeCluster, removed: Counter[str]) -> list[str]:
    """Return the attempts for which more than one pod was created.

    Whoever deletes a pod before its controller has heard of it has another one made; nobody has called the first.
    """
    changes = cluster._do(lambda: list(cluster._store._history))
    made = [change.object["metadata"] for change in changes if change.key[0] == "pods" and change.type == "ADDED"]
    counts = Counter(one["annotations"]["rivers.io/attempt-id"] for one in made)
    counts -= Counter(one["annotations"]["rivers.io/attempt-id"] for one in made if removed[one["name"]])
    return [f"attempt {attempt}: {count} pods were made" for attempt, count in counts.items() if count > 1]


def list_leftovers(cluster: FakeCluster) -> list[str]:
    """Return the pods and leases of the cluster."""
    kinds = ("pods", "leases")
    names = cluster._do(lambda: [(kind, o["metadata"]["name"]) for kind in kinds for o in cluster._store.objects(kind)])
    return [f"left in the cluster: {kind} {name}" for kind, name in names]


def torture(folder: Path, seed: int, runs: int, keys: int, singles: int, kills: int) -> list[str]:
    """Run one torture in an empty folder; return broken invariants."""
    numbers = pods.steps_of(keys, singles)
    wrong: list[str] = []
    done, removed = Counter[str](), Counter[str]()
    charged = 0
    with FakeCluster() as cluster:
        os.environ["KUBECONFIG"] = str(cluster.kubeconfig)
        rules = spoil(cluster, seed)
        with pods.repository(folder, seed, keys, singles, max_concurrent_steps=6, grace=2.0) as repo:
            for n in range(runs):
                killer = PodKiller(cluster, seed + n, kills)
                killer.start()
                result = repo.materialize(raise_on_error=False)
                killer.stop()
                done += killer.done
                removed += killer.removed
                charged += sum(len(report.failures) for report in result.steps.values())
                wrong += [f"run {n}, {what}" for what in facts.find_wrong_steps(result, numbers)]
                wrong += [f"run {n}, value of {what}" for what in pods.find_wrong_values(repo, numbers)]
        wrong += find_duplicate_pods(cluster, removed) + list_leftovers(cluster)
    began = Counter((e.run, e.step, e.who) for e in StepJournal(folder).news() if e.what == "begin")
    wrong += [f"{attempt}: its body has begun {count} times" for attempt, count in began.items() if count > 1]
    met = {name: rule.hits for name, rule in rules.items()}
    print(
        f"{runs * len(numbers)} steps in {runs} runs; faults met: {met}; pods: {dict(done)}; {charged} attempts charged"
    )
    return wrong


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=None, help="default: a random one, which is printed")
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--keys", type=int, default=9)
    parser.add_argument("--singles", type=int, default=18)
    parser.add_argument("--kills", type=int, default=20, help="in each run, at most")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if given.seed is None else given.seed
    print(f"seed {seed}")
    faulthandler.dump_traceback_later(LONGEST, exit=True)
    start = time.monotonic()
    with grounds() as ground:
        # Once without kills, so that what a process starts once and keeps (grpc's thread) is there before.
        os.environ.update(ground.environment(ground.root / "before", seed))
        tempfile.tempdir = str(ground.temporary)
        wrong = torture(ground.root / "before", seed, 1, 1, 1, 0)
        folder = ground.root / "after"
        os.environ.update(ground.environment(folder, seed))
        before = Holdings.now()
        wrong += torture(folder, seed, given.runs, given.keys, given.singles, given.kills)
        mark = f"{FOLDER}={folder}"
        wrong += [f"left behind: {what}" for what in find_leftovers(before, mark) + ground.leftovers()]
        kill_processes(find_marked_processes(mark))
    print(f"{time.monotonic() - start:.0f} s")
    for line in wrong[:SHOWN]:
        print(f"WRONG: {line}")
    if len(wrong) > SHOWN:
        print(f"WRONG: and {len(wrong) - SHOWN} more")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
