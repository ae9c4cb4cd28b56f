"""Kill the controllers of a run at random moments, for real, on an executor, and let others resume it.

    python random_kills.py FOLDER EXECUTOR --moments 300 --seed 7

A run, and whoever resumes it, is killed up to three times; then one comes to its end. Controllers are forked children
of a process that has imported everything. It prints the number of kills and the seconds that a whole run takes. With an
executor of pods, KUBECONFIG names the cluster; `--store` is a bucket where pods are on other machines.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib
import json
import os
import random
import shutil
import signal
import sys
import time
import uuid
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path += [
    str(ROOT / "packages/rivers-executor-k8s/tests/user_code"),
    str(ROOT / "packages/rivers-core/tests/durable"),
]
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")

from durable_steps import ELEMENTS, STORE, expected, is_bucket, make_repository, names_in, notes  # noqa: E402
from kills import GONE, in_child, reap  # noqa: E402
from rivers_executor_subprocess import SubprocessExecutor  # noqa: E402

import rivers as rs  # noqa: E402
from rivers._io.files.key import flat_name  # noqa: E402
from rivers._record.reader import is_being_written  # noqa: E402
from rivers_process.prctl import adopt_orphans  # noqa: E402

KILLS_OF_A_RUN = 3
LIFE = 240.0
"""Seconds within which a controller that nobody kills has to come to its end."""
LEASE_WAIT = 15.0
"""Seconds that a controller waits to see whether the holder of the run's Lease is alive."""
IMAGE, NAMESPACE, TEST_ENV = "RIVERS_TEST_IMAGE", "RIVERS_TEST_NAMESPACE", ("RIVERS_TEST_MARK",)


def pods(worker_reuse: str, orphan_ttl: float = 5.0) -> rs.Executor:
    """Return an executor of pods, in a FakeCluster or in a real one."""
    names = [name for name in os.environ if name in (STORE, ELEMENTS, *TEST_ENV) or name.startswith("AWS_")]
    return rs.Executor.kubernetes(
        os.environ.get(IMAGE, "test:1"),
        namespace=os.environ.get(NAMESPACE),
        max_concurrent_steps=2,
        worker_cpu="200m",
        worker_memory="200Mi",
        image_pull_policy="IfNotPresent",
        worker_reuse=worker_reuse,
        orphan_ttl=orphan_ttl,
        grace=1.0,
        env={name: os.environ[name] for name in names},
    )


EXECUTORS: dict[str, Callable[[], rs.Executor]] = {
    "in_process": rs.Executor.in_process,
    "parallel": lambda: rs.Executor.parallel(max_workers=2),
    "subprocess": lambda: SubprocessExecutor(max_workers=2),
    "kubernetes": lambda: pods("never"),
    "kubernetes_warm": lambda: pods("run"),
    "kubernetes_durable": lambda: pods("never", LIFE),
    "kubernetes_warm_durable": lambda: pods("run", LIFE),
}


class Controllers:
    """The controllers of runs in one folder: each run has a store of its own, and a folder for its record."""

    def __init__(self, folder: Path, executor: str, stores: str, fate: random.Random) -> None:
        self.folder = folder
        self.executor = executor
        self.stores = stores
        self.fate = fate
        self.is_of_pods = executor.startswith("kubernetes")
        self.is_durable = executor.endswith("durable")
        self.life = 1.0

    def measure_life(self) -> float:
        """Return the seconds that a run takes which nobody kills."""
        start = time.monotonic()
        self.begin_run("whole")
        assert self.control("", None)
        self.check_end(self.record())
        self.life = time.monotonic() - start
        return self.life

    def begin_run(self, name: str) -> None:
        """Make the folders of a run."""
        self.home = self.folder / name
        self.store = f"{self.stores}/{name}" if is_bucket(self.stores) else str(self.home)
        for part in ("tmp", "shared"):
            (self.home / part).mkdir(parents=True)
        os.environ |= {
            STORE: self.store,
            "TMPDIR": str(self.home / "tmp"),
            "RIVERS_DEFAULT_STORE": str(self.home / "shared"),
        }

    def record(self) -> Path | None:
        """Return the record of the run, None if it was killed before it had one."""
        found = [path.parent for path in self.home.glob("runs/*/events.jsonl")]
        assert len(found) <= 1
        return found[0] if found else None

    def submitted(self) -> list[dict[str, Any]]:
        """Return the lines of all attempts that were submitted."""
        record = self.record()
        lines = (record / "events.jsonl").read_bytes().splitlines(keepends=True) if record is not None else []
        # The next controller cuts off a line that the kill has torn.
        events = [json.loads(line) for line in lines if line.endswith(b"\n")]
        return [event for event in events if event["event"] == "StepSubmitted"]

    def control(self, run_id: str, seconds: float | None) -> bool:
        """Carry the run out, killed after so many seconds; return whether it came to its end first."""
        child = os.fork()
        if child == 0:
            os._exit(self._carry_out(run_id))
        deadline = time.monotonic() + (LIFE if seconds is None else seconds)
        while time.monotonic() < deadline:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                assert 0 == os.waitstatus_to_exitcode(status), (self.home / "errors").read_text()
                return True
            time.sleep(0.001)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        assert seconds is not None, "the run did not come to its end"
        return os.waitstatus_to_exitcode(status) == 0

    def _carry_out(self, run_id: str) -> int:
        """Carry the run out in a forked child, and return the exit code."""
        errors = os.open(self.home / "errors", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(errors, 1)
        os.dup2(errors, 2)
        try:
            repository = make_repository()
            executor = EXECUTORS[self.executor]()
            with repository:
                if run_id:
                    try:
                        repository.resume(run_id, executor=executor, record=self.home)
                    except rs.exceptions.ResumeError as error:
                        # The kill before this may have come after the last line of the record.
                        if "the run has succeeded" not in str(error):
                            raise
                else:
                    repository.materialize(executor=executor, record=self.home, durable=self.is_durable)
                assert repository.load_node("late") == expected()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            return 1
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
        return 0

    def kill_run(self, name: str) -> int:
        """Kill a run and whoever resumes it at random moments, until one comes to its end; return how often."""
        self.begin_run(name)
        kills = 0
        while True:
            record = self.record()
            run_id = record.name if record is not None else ""
            noted, submitted = notes(self.store), self.submitted()
            kept = self.committed(run_id, set(noted))
            seconds = self.moment(bool(run_id)) if kills < KILLS_OF_A_RUN else None
            has_ended = self.control(run_id, seconds)
            again = kept & {line["step"] for line in self.submitted()[len(submitted) :]}
            if not self.is_of_pods:
                # Pods live longer than their controller: one that it has started may run its body only now.
                again |= kept & set(notes(self.store)[len(noted) :])
            assert not again, f"bodies that had committed ran again: {again}"
            if has_ended:
                break
            # Before it has a record nothing has run.
            kills += self.record() is not None
        self.check_end(self.record())
        return kills

    def moment(self, is_resumed: bool) -> float:
        """Return the seconds after which a controller is killed."""
        seconds = self.fate.uniform(0.0, self.life)
        waits = self.is_of_pods and is_resumed and self.fate.random() < 0.85
        return seconds + (LEASE_WAIT if waits else 0.0)

    def committed(self, run_id: str, bodies: set[str]) -> set[str]:
        """Return those bodies whose outputs the store has, by the files of the run."""
        files = (
            {name for name in names_in(self.store, f".rivers/runs/{run_id}") if "~" not in name} if run_id else set()
        )
        return {body for body in bodies if {f"{flat_name(body)}.pkl", f"{flat_name(body)}.commit"} & files}

    def check_end(self, record: Path | None) -> None:
        """Check that no attempt id was given twice, and that nothing is left."""
        assert record is not None
        ids = Counter(line["attempt_id"] for line in self.submitted())
        assert {1} == set(ids.values()), ids
        if self.is_durable:
            # Whatever runs is adopted: nothing but the controllers was killed.
            bodies = Counter(notes(self.store))
            assert {1} == set(bodies.values()), bodies
        assert "success" == json.loads((record / "events.jsonl").read_bytes().splitlines()[-1])["status"]
        left: list[Any] = list(names_in(self.store, f".rivers/runs/{record.name}"))
        assert not left, left
        assert {path.name for path in record.iterdir()} == {"events.jsonl", "header.json"}
        assert not is_being_written(record / "events.jsonl")
        reap()
        deadline = time.monotonic() + GONE
        while left := [*(self.home / "tmp").iterdir(), *(self.home / "shared").iterdir()]:
            assert time.monotonic() < deadline, left
            time.sleep(0.05)
        if self.is_of_pods:
            # In a child: gRPC and event loops of this process would be forked with each controller.
            assert 0 == in_child(lambda: asyncio.run(check_cluster(record.name)))


async def check_cluster(run_id: str) -> None:
    """Check that neither pods nor Leases of a run are left in the cluster."""
    from rivers_executor_k8s.api.client import load_api_client
    from rivers_executor_k8s.api.namespace import Cluster
    from rivers_executor_k8s.pod.names import RUN_LABEL, label_value

    api = load_api_client(None)
    cluster = Cluster(api, os.environ.get(NAMESPACE) or api.namespace)
    selector = f"{RUN_LABEL}={label_value(run_id)}"
    deadline = time.monotonic() + GONE
    try:
        while True:
            found, _ = await cluster.list_pods(selector)
            leases = await cluster.list_leases(selector)
            left = [pod.metadata.name for pod in found] + [lease["metadata"]["name"] for lease in leases]
            if not left:
                return
            assert time.monotonic() < deadline, left
            await asyncio.sleep(0.2)
    finally:
        await cluster.close()


def main() -> None:
    """Kill until so many moments were had."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("executor", choices=EXECUTORS)
    parser.add_argument("--moments", type=int, default=3)
    parser.add_argument("--elements", type=int, default=30)
    parser.add_argument("--seed", default=None, help="default: a random one, which is printed")
    parser.add_argument("--store", default="", help="the URL of a bucket; default: the folder")
    given = parser.parse_args()
    seed = given.seed or str(random.SystemRandom().randrange(1 << 32))
    print(f"seed {seed}", flush=True)
    os.environ[ELEMENTS] = str(given.elements)
    adopt_orphans()
    given.folder.mkdir(parents=True, exist_ok=True)
    # Out of the git repository, which each run would ask for its commit.
    os.chdir(given.folder)
    for module in ("rivers_executor_k8s.backend", "rivers_executor_parallel.backend"):
        importlib.import_module(module)

    gc.collect()
    gc.freeze()
    stores = f"{given.store}/{uuid.uuid4().hex}" if given.store else ""
    controllers = Controllers(given.folder, given.executor, stores, random.Random(f"{seed} {given.executor}"))
    life = controllers.measure_life()
    kills = number = 0
    while kills < given.moments:
        kills += controllers.kill_run(str(number))
        shutil.rmtree(given.folder / str(number))
        number += 1
    print(f"{kills} kills in {number} runs, of which a whole one takes {life:.2f} s")


if __name__ == "__main__":
    main()
