"""Warm workers as processes of this machine, for `rivers_worker.pool`."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import warm_body

from rivers.protocol import ImportRef, LiteralInput, StepResult, StepSpec
from rivers_process.processes import find_marked_processes, kill_processes
from rivers_worker.client import Acknowledged, Identity, WorkerClient, announcement_in
from rivers_worker.errors import WorkerError
from rivers_worker.pool import StartedWorker, WarmPool, WorkerRequest

__all__ = ["LocalAttempt", "LocalWorker", "LocalWorkers", "kill", "spec_of"]

T = TypeVar("T")

RUN = "warm"
CODE = Path(__file__).parent
ATTEMPTS = 50
"""Attempts that a worker takes."""
LOOK = 0.005
"""Seconds between two looks for a worker's announcement."""
GRACE = 10.0
"""Seconds for a worker to end by itself."""


@dataclass(frozen=True)
class LocalAttempt:
    """An attempt that a worker was given; `result` is None if the worker was lost, `end` in `time.monotonic`."""

    attempt_id: str
    server: int
    end: float
    result: StepResult | None

    @property
    def has_succeeded(self) -> bool:
        """True if its body has ended well."""
        return self.result is not None and self.result.failure is None


class LocalWorker:
    """One worker's process, the client that calls it, and its folder, for its output and its scratch folder."""

    def __init__(self, process: asyncio.subprocess.Process, client: WorkerClient, home: Path) -> None:
        self.process = process
        self.client = client
        self.home = home

    async def run(self, spec: StepSpec) -> tuple[LocalAttempt, Acknowledged]:
        """Run an attempt to the end of the clean-up behind it, or until the worker is gone."""
        result = await self._until_gone(self.client.execute(spec, lambda event: None))
        attempt = LocalAttempt(spec.attempt_id, self.process.pid, time.monotonic(), result)
        answer = None if result is None else await self._until_gone(self.client.ack())
        return attempt, answer or Acknowledged(ready=False, retires="")

    async def stop(self) -> None:
        """End it, and remove its folder."""
        kill(self.process, signal.SIGTERM)
        try:
            await asyncio.wait_for(self.process.wait(), GRACE)
        except TimeoutError:
            kill(self.process)
            await self.process.wait()
        await self.client.close()
        shutil.rmtree(self.home)

    async def _until_gone(self, call: Coroutine[Any, Any, T]) -> T | None:
        """Return what a call returns, or None if the process ends before that."""
        answered, ended = asyncio.ensure_future(call), asyncio.ensure_future(self.process.wait())
        try:
            await asyncio.wait((answered, ended), return_when=asyncio.FIRST_COMPLETED)
            # A worker that retires ends right after its answer.
            await asyncio.wait((answered,), timeout=0.1)
            return answered.result() if answered.done() else None
        finally:
            answered.cancel()
            ended.cancel()
            await asyncio.wait((answered, ended))


class LocalWorkers:
    """The workers of one pool: `running` are those whose process has not ended, by its id."""

    def __init__(self, limit: int) -> None:
        self.pool = WarmPool(self._start, self._stop, limit=limit, max_attempts=ATTEMPTS)
        self.running: dict[int, LocalWorker] = {}
        self.started = 0
        self.reasons: list[str] = []
        self._identity = Identity.of_controller(RUN)
        self._watches: set[asyncio.Task[None]] = set()

    async def close(self) -> list[LocalWorker]:
        """Stop all of them; return those that do not end."""
        late = await self.pool.close(deadline=3 * GRACE)
        await asyncio.gather(*self._watches)
        return late

    async def _start(self, request: WorkerRequest) -> StartedWorker[LocalWorker]:
        worker_id, home = uuid.uuid4().hex, Path(tempfile.mkdtemp())
        async with contextlib.AsyncExitStack() as undo:
            undo.callback(shutil.rmtree, home)
            process = await self._start_process(worker_id, home, request)
            undo.push_async_callback(process.wait)
            undo.callback(kill, process)
            while (announcement := announcement_in((home / "output").read_bytes())) is None:
                if process.returncode is not None:
                    raise WorkerError(f"a worker has ended at its start with exit code {process.returncode}")
                await asyncio.sleep(LOOK)
            client = WorkerClient(
                f"127.0.0.1:{announcement.port}", announcement, self._identity, run_id=RUN, attempt_id=worker_id
            )
            undo.push_async_callback(client.close)
            hello = await client.connect()
            undo.pop_all()
        worker = self.running[process.pid] = LocalWorker(process, client, home)
        self.started += 1
        watch = asyncio.create_task(self._watch(worker))
        self._watches.add(watch)
        watch.add_done_callback(self._watches.discard)
        return StartedWorker(worker, hello.attempts_left)

    async def _start_process(self, worker_id: str, home: Path, request: WorkerRequest) -> asyncio.subprocess.Process:
        scratch = home / "scratch"
        scratch.mkdir()
        # A file: asyncio waits for the end of a process and of its pipes, which daemons of an attempt hold open.
        with (home / "output").open("wb") as output:
            return await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "rivers_worker", "serve", "--max-attempts", str(ATTEMPTS)),
                env={
                    **os.environ,
                    "PYTHONPATH": os.pathsep.join([str(CODE), *filter(None, [os.environ.get("PYTHONPATH")])]),
                    "RIVERS_RUN_ID": RUN,
                    "RIVERS_ATTEMPT_ID": worker_id,
                    "RIVERS_CONTROLLER_CERTIFICATE": self._identity.text,
                    "RIVERS_SCRATCH": str(scratch),
                    "RIVERS_MODULES": ",".join(request.modules),
                    "RIVERS_TERMINATION_LOG": "",
                    warm_body.SCRATCH: str(scratch),
                },
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    async def _stop(self, worker: LocalWorker, reason: str) -> None:
        await worker.stop()

    async def _watch(self, worker: LocalWorker) -> None:
        """Take notice of a worker that ends, so that no step is given to it."""
        await worker.process.wait()
        # With its server an attempt dies, and what that has started does not: outside of a container nobody adopts it.
        kill_processes(find_marked_processes(f"{warm_body.SCRATCH}={worker.home}/scratch\0"))
        del self.running[worker.process.pid]
        self.pool.discard(worker)


def kill(process: asyncio.subprocess.Process, number: int = signal.SIGKILL) -> None:
    """Send a signal to a process, unless it has ended."""
    # Not by its method, which may reap it, so that the thread of asyncio that waits for it finds none.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, number)


def spec_of(step: str, attempt: int) -> StepSpec:
    """Return the spec of an attempt."""
    attempt_id = f"{step}-{attempt}"
    return StepSpec(
        run_id=RUN,
        step=step,
        attempt=attempt,
        attempt_id=attempt_id,
        function=ImportRef(module="warm_body", qualname="step"),
        inputs=(
            LiteralInput(parameter="name", json=f'"{step}"'),
            LiteralInput(parameter="attempt_id", json=f'"{attempt_id}"'),
        ),
    )
