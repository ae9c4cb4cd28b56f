"""Time no-op attempts on one warm worker, back to back, against workers that are started for one attempt each.

A line gives the median and the 95th percentile in ms; the ratio is to the median of a cold worker, from its start to
the result. CPU is that of the worker with all its processes.

    python bench/sessions.py [ATTEMPTS]
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from rivers.protocol import ImportRef, LogSettings, StepSpec
from rivers_worker.client import Identity, WorkerClient, announcement_in

RUN = "run"
CONTROLLER = Identity.of_controller(RUN)
COLD = 5


def attempt(number: int) -> StepSpec:
    function = ImportRef(module="bench_step", qualname="nothing")
    return StepSpec(
        run_id=RUN, step=f"s{number}", attempt_id=f"a{number}", function=function, logs=LogSettings(capture=True)
    )


class BenchWorker:
    """A worker's process that is started by `start`, and its client."""

    async def start(self, folder: str, **variables: str) -> None:
        environment = {
            **os.environ,
            "PYTHONPATH": folder,
            "RIVERS_RUN_ID": RUN,
            "RIVERS_ATTEMPT_ID": "a0",
            "RIVERS_CONTROLLER_CERTIFICATE": CONTROLLER.text,
            **variables,
        }
        command = [sys.executable, "-m", "rivers_worker", "serve"]
        self.process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
        assert self.process.stdout is not None
        found = announcement_in(await self.process.stdout.readline())
        assert found is not None
        self.client = WorkerClient(f"127.0.0.1:{found.port}", found, CONTROLLER, run_id=RUN, attempt_id="a0")
        await self.client.connect()

    @property
    def cpu(self) -> float:
        """Seconds of CPU of the worker and its processes, those that have ended included."""
        pids = [self.process.pid]
        pids += map(int, Path(f"/proc/{pids[0]}/task/{pids[0]}/children").read_text().split())
        ticks = 0
        for pid in pids:
            ticks += sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]))
        return ticks / os.sysconf("SC_CLK_TCK")

    async def stop(self) -> None:
        await self.client.close()
        self.process.terminate()
        await self.process.wait()


async def cold(folder: str) -> float:
    """Return the ms from the start of a worker to the result of its attempt."""
    began, worker = time.perf_counter(), BenchWorker()
    await worker.start(folder)
    await worker.client.execute(attempt(0), lambda event: None)
    taken = time.perf_counter() - began
    await worker.client.ack()
    await worker.stop()
    return 1e3 * taken


async def measure(attempts: int, folder: str) -> None:
    base = statistics.median([await cold(folder) for _ in range(COLD)])
    worker = BenchWorker()
    await worker.start(folder, RIVERS_MAX_ATTEMPTS=str(attempts + 11))
    times: dict[str, list[float]] = {"execute → result": [], "ack → ready": []}
    for number in range(attempts + 10):
        if number == 10:  # what the worker does once
            spent, own = worker.cpu, time.process_time()
        began = time.perf_counter()
        await worker.client.execute(attempt(number), lambda event: None)
        ended = time.perf_counter()
        assert (await worker.client.ack()).ready
        for name, taken in zip(times, (ended - began, time.perf_counter() - ended), strict=True):
            times[name].append(1e3 * taken)
    spent, own = worker.cpu - spent, time.process_time() - own
    await worker.stop()
    print(f"cold worker, start → result   p50 {base:.0f} ms")
    for name, taken in times.items():
        p50, p95 = statistics.median(taken[10:]), statistics.quantiles(taken[10:], n=20)[-1]
        print(f"warm worker, {name:16} p50 {p50:.1f} ms   p95 {p95:.1f} ms   ratio {p50 / base:.3f}")
    print(f"CPU per attempt   worker {1e3 * spent / attempts:.1f} ms   controller {1e3 * own / attempts:.1f} ms")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "bench_step.py").write_text("def nothing() -> None:\n    pass\n")
        asyncio.run(measure(int(sys.argv[1]) if len(sys.argv) > 1 else 200, folder))
