"""A platform for tests whose workers are processes of this machine, and a backend over it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import threading
import uuid
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import rivers as rs
from rivers.exceptions import Problem
from rivers.protocol import Evidence, ImportRef, LogSettings, StepEvent, StepResult, StepSpec
from rivers.spi import Capabilities, Reach, Run
from rivers_worker.announcement import announcement_in
from rivers_worker.remote import (
    RemoteBackend,
    RemoteSettings,
    RemoteWorker,
    StartRefusedError,
    WorkerOrder,
    WorkerPlatform,
)

CODE = Path(__file__).parent / "client_code"
PATIENCE = 30.0


@dataclass(frozen=True)
class ProcessExecutor(rs.Executor):
    """The value; its settings are those of the base."""

    kind = "process-for-tests"


class ProcessWorker(RemoteWorker):
    """A worker that is a child of this process."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, output: bytes) -> None:
        announcement = announcement_in(output)
        assert announcement is not None
        self.process = process
        self.announcement = announcement
        self.name, self.node = name, "here"
        self.target = f"127.0.0.1:{announcement.port}"
        self.suspected = 0

    @property
    def is_over(self) -> bool:
        return self.process.returncode is not None

    async def wait_until_over(self) -> Evidence:
        code = await self.process.wait()
        return Evidence(
            exit_code=code if code >= 0 else None,
            signal=-code if code < 0 else None,
            node=self.node,
            worker=self.name,
        )

    def suspect(self) -> None:
        self.suspected += 1

    async def stop(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self.process.terminate()
        try:
            async with asyncio.timeout(5.0):
                await self.process.wait()
        except TimeoutError:
            self.process.kill()
            await self.process.wait()


class ProcessPlatform(WorkerPlatform):
    """Starts workers here; `refusal` is raised in place of a start, `hold` delays starts while it is clear."""

    logger = "rivers.process"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.notes = folder / "notes"
        self.notes.touch()
        self.workers: list[ProcessWorker] = []
        self.orders: list[WorkerOrder] = []
        self.refusal: Exception | None = None
        self.problems: list[Problem] = []
        self.check_lasts = 0.0
        self.hold = asyncio.Event()
        self.hold.set()
        self.closed = 0

    async def check(self, specs: Sequence[StepSpec]) -> list[Problem]:
        await asyncio.sleep(self.check_lasts)
        return self.problems

    def shape(self, spec: StepSpec) -> Hashable:
        return spec.compute

    async def start(self, order: WorkerOrder) -> RemoteWorker:
        self.orders.append(order)
        if self.refusal is not None:
            raise self.refusal
        if not self.hold.is_set():
            order.report("the platform has no place")
        await self.hold.wait()
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(CODE), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "RIVERS_TEST_MARK": os.environ.get("RIVERS_TEST_MARK", ""),
            "RIVERS_TEST_NOTES": str(self.notes),
            "RIVERS_HEARTBEAT": "0.5",
            "RIVERS_TERMINATION_LOG": str(self.folder / "termination"),
            "RIVERS_WORKER": (name := f"worker {len(self.orders)}"),
            **order.environment,
        }
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "rivers_worker", "serve"),
            env=environment,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
        )
        output = b""
        try:
            while announcement_in(output) is None:
                assert process.stdout is not None
                line = await process.stdout.readline()
                if not line:
                    code = await process.wait()
                    raise StartRefusedError(f"its worker ended with {code}", reason="Ended", is_transient=False)
                output += line
        except BaseException:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
            raise
        worker = ProcessWorker(name, process, output)
        self.workers.append(worker)
        return worker

    async def close(self, deadline: float) -> list[str]:
        self.closed += 1
        return [] if all(worker.is_over for worker in self.workers) else ["a worker is left"]


class ProcessBackend(RemoteBackend[ProcessExecutor]):
    executor_type = ProcessExecutor

    def __init__(self, platform: ProcessPlatform, **settings: Any) -> None:
        super().__init__(ProcessExecutor())
        self._platform = platform
        self._settings = RemoteSettings(**{"grace": 2.0, "lost_after": 5.0, "startup_timeout": 20.0, **settings})

    @property
    def capabilities(self) -> Capabilities:
        return Capabilities(isolation="process", timeout="kill", reach=Reach.MACHINE)

    def settings(self) -> RemoteSettings:
        return self._settings

    def platform(self) -> WorkerPlatform:
        return self._platform


@dataclass
class OpenRun:
    """An open run of a backend, with its events."""

    backend: ProcessBackend
    platform: ProcessPlatform
    run_id: str = "run"
    events: list[StepEvent] = field(default_factory=list)
    changed: threading.Condition = field(default_factory=threading.Condition)

    def emit(self, event: StepEvent) -> None:
        with self.changed:
            self.events.append(event)
            self.changed.notify_all()

    def submit(self, body: str, **fields: Any) -> str:
        """Submit an attempt of a body, and return its id."""
        attempt_id = uuid.uuid4().hex
        spec = StepSpec(
            run_id=self.run_id,
            step=body,
            attempt_id=attempt_id,
            function=ImportRef(module="client_steps", qualname=body),
            logs=LogSettings(level=20, capture=True),
            **fields,
        )
        self.backend.submit(spec)
        return attempt_id

    def wait_for(self, attempt_id: str, kind: type) -> Any:
        """Return the first event of an attempt that is of this kind."""

        def found() -> Any:
            ours = (e for e in self.events if getattr(e, "attempt_id", None) == attempt_id and isinstance(e, kind))
            return next(ours, None)

        with self.changed:
            assert self.changed.wait_for(lambda: found() is not None, PATIENCE), self.events
            return found()

    def result(self, attempt_id: str) -> StepResult:
        found: StepResult = self.wait_for(attempt_id, StepResult)
        return found

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    def kill_worker(self, number: int = signal.SIGKILL) -> None:
        """Send a signal to the first worker."""
        os.kill(self.platform.workers[0].process.pid, number)


@contextlib.contextmanager
def opened(
    folder: Path, prepare: Callable[[ProcessPlatform], None] | None = None, **settings: Any
) -> Iterator[OpenRun]:
    """Open a run with these settings, and close it at the end."""
    platform = ProcessPlatform(folder)
    if prepare is not None:
        prepare(platform)
    backend = ProcessBackend(platform, **settings)
    run = OpenRun(backend, platform)
    backend.open(Run(run_id=run.run_id), run.emit)
    try:
        yield run
    finally:
        backend.close(20.0)
        assert 1 == platform.closed
        assert all(worker.is_over for worker in platform.workers)
