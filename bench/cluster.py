"""Figures of the kubernetes executor, each a ratio to bare pods in the same run: `nox -s bench-cluster`.

A bare pod has the same image, requests and limits, runs `python -c "import bench_steps; bench_steps.nothing()"`, is
created by the same client, watched to Succeeded and deleted. Needs KUBECONFIG and RIVERS_TEST_IMAGE, an image with
packages/rivers-executor-k8s/tests/user_code in it (`nox -s image -- --tests`), and in the kubeconfig's namespace a
service account `rivers-executor` (`kubectl create serviceaccount rivers-executor`).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import resource
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from figures import Table

import rivers as rs
from rivers.events import StepStarted, StepSucceeded
from rivers_executor_k8s.api.client import load_api_client
from rivers_executor_k8s.api.namespace import Cluster
from rivers_executor_k8s.api.watch import PodWatch
from rivers_executor_k8s.pod.objects import Pod
from rivers_executor_k8s.run.session import Session
from rivers_worker.event_loop import acquire_loop

sys.path.insert(0, str(Path(__file__).parents[1] / "packages/rivers-executor-k8s/tests/user_code"))

import bench_steps

ALONE, TOGETHER, MEMORY = "500m", "190m", "160Mi"  # CPUs of a pod by itself (the default) and of ten on two CPUs
MANY, AT_ONCE, TURNS, ROUNDS, CHAIN = 100, 10, 2, 8, 15
WARM_CHAIN, NAPS = 80, 200
LABEL = "rivers-bench"


class BarePods:
    """Pods that do the same work without rivers: created, watched to Succeeded, deleted."""

    def __init__(self, image: str) -> None:
        self.cpu = ALONE
        self._image = image
        self._loop = acquire_loop()
        api = load_api_client(None)
        self._cluster = Cluster(api, api.namespace)
        self._done: dict[str, asyncio.Event] = {}
        self._watch = self._loop.run(self._begin(), 30)

    async def _begin(self) -> PodWatch:
        watch = PodWatch(self._cluster, f"app={LABEL}", self._changed, lambda pod: None)
        await watch.start()
        return watch

    def _changed(self, pod: Pod) -> None:
        if pod.status.phase in ("Succeeded", "Failed") and pod.metadata.name in self._done:
            self._done[pod.metadata.name].set()

    def run(self, count: int, at_once: int) -> float:
        """Run all pods; return the seconds until the last one was deleted."""
        return self._loop.run(self._run(count, at_once), 600)

    async def _run(self, count: int, at_once: int) -> float:
        places = asyncio.Semaphore(at_once)
        began = time.perf_counter()
        await asyncio.gather(*(self._one(places) for _ in range(count)))
        return time.perf_counter() - began

    async def _one(self, places: asyncio.Semaphore) -> None:
        async with places:
            name = f"bare-{uuid.uuid4().hex[:12]}"
            over = self._done[name] = asyncio.Event()
            pod = await self._cluster.create_pod(
                self._manifest(name), deadline=time.monotonic() + 60, on_wait=lambda why: None
            )
            await asyncio.wait_for(over.wait(), 120)
            await self._cluster.delete_pod(name, pod.metadata.uid)

    def _manifest(self, name: str) -> dict[str, Any]:
        amounts = {"cpu": self.cpu, "memory": MEMORY}
        return {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": self._cluster.namespace, "labels": {"app": LABEL}},
            "spec": {
                "restartPolicy": "Never",
                "automountServiceAccountToken": False,
                "enableServiceLinks": False,
                "dnsPolicy": "Default",
                "containers": [
                    {
                        "name": "bare",
                        "image": self._image,
                        "imagePullPolicy": "IfNotPresent",
                        "command": ["python", "-c", "import bench_steps; bench_steps.nothing()"],
                        "resources": {"requests": amounts, "limits": amounts},
                    }
                ],
            },
        }

    def close(self) -> None:
        self._loop.run(self._watch.stop(), 10)
        self._loop.run(self._cluster.close(), 10)
        self._loop.release()


class Watched:
    """A repository of no-ops in pods, with the times of its first create and of its ends."""

    def __init__(self, image: str, assets: list[rs.Asset], at_once: int | None = None, **options: Any) -> None:
        executor = rs.Executor.kubernetes(
            image,
            worker_cpu=ALONE if at_once is None else TOGETHER,
            worker_memory=MEMORY,
            max_concurrent_steps=at_once,
            image_pull_policy="IfNotPresent",
            **options,
        )
        self.repository = rs.CodeRepository(assets, default_executor=executor, default_io_handler=bench_steps.Nowhere())
        self.created: dict[str, float] = {}
        self.ended: dict[str, float] = {}
        self.began: dict[str, float] = {}

    def run(self) -> None:
        """Run all of it; raises when a step fails."""
        self.created.clear()
        self.ended.clear()
        create = Session.create

        async def timed(session: Session, spec: Any, *arguments: Any) -> Pod:
            self.created[spec.step] = time.perf_counter()
            return await create(session, spec, *arguments)

        Session.create = timed  # type: ignore[method-assign]
        try:
            self.repository.materialize(on_event=self._emit)
        finally:
            Session.create = create  # type: ignore[method-assign]

    def _emit(self, event: object) -> None:
        if isinstance(event, StepSucceeded):
            self.ended[event.step] = time.perf_counter()
        elif isinstance(event, StepStarted):
            self.began[event.step] = time.perf_counter()

    @property
    def seconds(self) -> float:
        """Seconds from the first create to the last end."""
        return max(self.ended.values()) - min(self.created.values())


def one(table: Table, bare: BarePods, image: str) -> None:
    watched = Watched(image, bench_steps.no_ops(1))
    ours, theirs = [], []
    with watched.repository:
        watched.run()  # preflight, and everything that is imported once
        bare.run(1, 1)
        for _ in range(ROUNDS):
            theirs.append(bare.run(1, 1))
            watched.run()
            ours.append(watched.seconds)
    a, b = statistics.median(ours), statistics.median(theirs)
    table.line("a bare pod, create to Succeeded", f"{b:.2f} s", 1.0)
    table.line("one no-op step, create to result", f"{a:.2f} s", a / b, "<= 0.6 x bare", a / b <= 0.6)


def many(table: Table, bare: BarePods, image: str) -> None:
    watched = Watched(image, bench_steps.no_ops(MANY), AT_ONCE)
    ours, theirs, cpu = [], [], []
    bare.cpu = TOGETHER
    with watched.repository:
        for _ in range(TURNS):
            theirs.append(bare.run(MANY, AT_ONCE))
            before = resource.getrusage(resource.RUSAGE_SELF)
            watched.run()
            after = resource.getrusage(resource.RUSAGE_SELF)
            ours.append(watched.seconds)
            cpu.append((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / MANY)
    a, b = min(ours), min(theirs)
    table.line(f"{MANY} bare pods, {AT_ONCE} at once", f"{b:.1f} s", 1.0)
    table.line(f"{MANY} no-op steps, {AT_ONCE} at once", f"{a:.1f} s", a / b, "<= 1.25 x bare", a / b <= 1.25)
    table.line("controller CPU per step", f"{min(cpu) * 1e3:.1f} ms", None, "<= 8 ms", min(cpu) <= 0.008)


def chain(table: Table, image: str) -> None:
    watched = Watched(image, bench_steps.no_ops(CHAIN, chained=True))
    with watched.repository:
        watched.run()
    gaps = sorted(watched.created[f"n{i}"] - watched.ended[f"n{i - 1}"] for i in range(1, CHAIN))
    p95 = gaps[int(0.95 * len(gaps))]
    table.line("a step's end to its successor's create, p95", f"{p95 * 1e3:.1f} ms", None, "<= 20 ms", p95 <= 0.020)


def whole_run(table: Table, bare: BarePods, image: str) -> None:
    """Measure a run of one step in a new repository: preflight and all."""
    ours, theirs = [], []
    bare.cpu = ALONE
    for _ in range(ROUNDS):
        theirs.append(bare.run(1, 1))
        watched = Watched(image, bench_steps.no_ops(1))
        began = time.perf_counter()
        watched.run()
        ours.append(watched.ended["n0"] - began)
        watched.repository.shutdown()
    a, b = statistics.median(ours), statistics.median(theirs)
    table.line("a run of one step, materialize() to result", f"{a:.2f} s", a / b, "<= 0.7 x bare", a / b <= 0.7)


def warm(table: Table, bare: BarePods, image: str) -> None:
    """Measure steps in pods that serve many of them."""
    watched = Watched(image, bench_steps.no_ops(WARM_CHAIN, chained=True), worker_reuse="run")
    with watched.repository:
        watched.run()
    ends = [watched.ended[f"n{i}"] for i in range(1, WARM_CHAIN)]
    gaps = sorted(later - earlier for earlier, later in itertools.pairwise(ends))
    p50, p95 = (gaps[int(part * len(gaps))] * 1e3 for part in (0.5, 0.95))
    table.line("one step after the other on a warm worker, p50", f"{p50:.0f} ms", None, "<= 60 ms", p50 <= 60)
    table.line("  p95", f"{p95:.0f} ms", None, "<= 120 ms", p95 <= 120)

    bare.cpu = TOGETHER
    theirs = bare.run(MANY, AT_ONCE)
    watched = Watched(image, bench_steps.no_ops(MANY), AT_ONCE, worker_reuse="run")
    with watched.repository:
        before = resource.getrusage(resource.RUSAGE_SELF)
        watched.run()
        after = resource.getrusage(resource.RUSAGE_SELF)
    ours = watched.seconds
    cpu = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / MANY
    table.line(
        f"{MANY} no-op steps, {AT_ONCE} warm pods",
        f"{ours:.1f} s",
        ours / theirs,
        "<= 0.2 x bare",
        ours / theirs <= 0.2,
    )
    table.line("  controller CPU per step", f"{cpu * 1e3:.1f} ms", None, "<= 1.5 ms", cpu <= 0.0015)


def naps(table: Table, image: str) -> None:
    """Measure steps of a second each: what is lost between them, and to the start of the pods."""
    watched = Watched(image, bench_steps.naps(NAPS), AT_ONCE, worker_reuse="run")
    with watched.repository:
        watched.run()
    ideal = NAPS / AT_ONCE
    ratio = watched.seconds / ideal
    table.line(
        f"{NAPS} steps of 1 s, {AT_ONCE} warm pods", f"{watched.seconds:.1f} s", None, "<= 1.1 x ideal", ratio <= 1.1
    )
    first = max(sorted(watched.began.values())[:AT_ONCE])
    after = (max(watched.ended.values()) - first) / (ideal - 1)
    table.line("  the same from the last pod's start on, x ideal", f"{after:.2f} x")


@contextlib.contextmanager
def fake_cluster(*options: str) -> Iterator[None]:
    """Run a FakeCluster in another process, with KUBECONFIG set to it."""
    command = [sys.executable, "-m", "rivers_k8s_testing", *options]
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    before = os.environ.get("KUBECONFIG", "")
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as server:
        assert server.stdout is not None
        os.environ["KUBECONFIG"] = server.stdout.readline().strip()
        try:
            yield
        finally:
            os.environ["KUBECONFIG"] = before
            server.terminate()


def measure_instant_pods(table: Table) -> None:
    """Measure 1,000 steps whose pods succeed at once."""
    with fake_cluster("--stub", "cluster_stub:outcome"):
        watched = Watched("stub:1", bench_steps.no_ops(1000))
        with watched.repository:
            before = time.process_time()
            watched.run()
            cpu = (time.process_time() - before) / 1000
        rate = 1000 / (max(watched.created.values()) - min(watched.created.values()))
    table.line("creates a second, 1,000 steps, instant pods", f"{rate:.0f}/s", None, ">= 100/s", rate >= 100)
    table.line("  controller CPU per step of these", f"{cpu * 1e3:.1f} ms")


def measure_waiting_steps(table: Table) -> None:
    """Measure the memory of the controller for each step whose pod does not start."""
    count = 4000
    with fake_cluster("--start-delay", "600"):
        repository = Watched("none:1", bench_steps.no_ops(count)).repository
        repository.resolve()
        gc.collect()
        before = resident()
        handle = repository.submit(on_event=lambda event: None)
        time.sleep(30)  # preflight gives up its pod after 20 s
        held = (resident() - before) / count
        handle.cancel()
        handle.wait(60)
        repository.shutdown()
    table.line(f"memory per waiting step, {count:,} of them", f"{held / 1024:.1f} KB", None, "<= 20 KB", held <= 20480)


def resident() -> int:
    """Return the resident bytes of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    """Measure and print all figures."""
    image = os.environ["RIVERS_TEST_IMAGE"]
    table = Table()
    bare = BarePods(image)
    try:
        one(table, bare, image)
        chain(table, image)
        many(table, bare, image)
        whole_run(table, bare, image)
        warm(table, bare, image)
        naps(table, image)
    finally:
        bare.close()
    measure_instant_pods(table)
    measure_waiting_steps(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
