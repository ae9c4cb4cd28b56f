"""A real `rivers-worker serve` in a process of its own, for tests that call it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from rivers.protocol import ImportRef, LogSettings, StepSpec
from rivers_worker.announcement import Announcement, announcement_in
from rivers_worker.client import Deadlines, WorkerClient
from rivers_worker.credentials import Identity

CODE = Path(__file__).parent / "client_code"
PATIENT = Deadlines(connect=20.0, handshake=10.0, silence=3.0, lost=30.0)


class RealWorker:
    """A worker's process, `process`, what it announced, and whom it obeys, `controller`.

    Its output goes to files below `folder`; `notes` are what its bodies have noted down.
    """

    def __init__(self, folder: Path, **env: str) -> None:
        self.run_id = "run"
        self.attempt_id = uuid.uuid4().hex
        self.controller = Identity.of_controller(self.run_id)
        self.folder = folder
        self._notes = folder / "notes"
        self._notes.touch()
        self._output, self._errors = folder / "output", folder / "errors"
        given = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join([str(CODE), *filter(None, [os.environ.get("PYTHONPATH")])]),
            "RIVERS_TEST_MARK": os.environ.get("RIVERS_TEST_MARK", ""),
            "RIVERS_TEST_NOTES": str(self._notes),
            "RIVERS_RUN_ID": self.run_id,
            "RIVERS_ATTEMPT_ID": self.attempt_id,
            "RIVERS_CONTROLLER_CERTIFICATE": self.controller.text,
            "RIVERS_TERMINATION_LOG": str(folder / "termination"),
            "RIVERS_WORKER": "the worker",
            "RIVERS_HEARTBEAT": "0.5",
            "RIVERS_ORPHAN_TTL": "30",
            "RIVERS_GRACE": "2",
            **env,
        }
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "rivers_worker", "serve"],
                env=given,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
            )
        self.announcement = Announcement(0, b"")

    @property
    def notes(self) -> list[str]:
        return self._notes.read_text().splitlines()

    @property
    def errors(self) -> str:
        """What the server and the body have written to stderr."""
        return self._errors.read_text(errors="replace")

    @property
    def termination(self) -> str:
        return (self.folder / "termination").read_text()

    @property
    def port(self) -> int:
        return self.announcement.port

    async def announced(self, within: float = 20.0) -> None:
        until = time.monotonic() + within
        while (found := announcement_in(self._output.read_bytes())) is None:
            assert self.process.poll() is None, self.errors
            assert time.monotonic() < until, self.errors
            await asyncio.sleep(0.02)
        self.announcement = found

    def client(self, deadlines: Deadlines = PATIENT, *, port: int = 0, **given: Any) -> WorkerClient:
        """A client for this worker, or for a proxy before it."""
        given = {"run_id": self.run_id, "attempt_id": self.attempt_id, "identity": self.controller, **given}
        target = f"127.0.0.1:{port or self.port}"
        return WorkerClient(target, announcement=self.announcement, deadlines=deadlines, **given)

    def spec(self, body: str, **fields: Any) -> StepSpec:
        return StepSpec(
            run_id=self.run_id,
            step=body,
            attempt_id=self.attempt_id,
            function=ImportRef(module="client_steps", qualname=body),
            logs=LogSettings(level=20, capture=True),
            **fields,
        )

    async def noted(self, count: int, within: float = 20.0) -> None:
        """Wait until the bodies have noted so much."""
        until = time.monotonic() + within
        while len(self.notes) < count:
            assert time.monotonic() < until, self.errors
            await asyncio.sleep(0.02)

    async def ended(self, within: float = 10.0) -> int:
        """Its exit code."""
        until = time.monotonic() + within
        while (code := self.process.poll()) is None:
            assert time.monotonic() < until, f"the worker goes on: {self.errors}"
            await asyncio.sleep(0.02)
        return code


@contextlib.asynccontextmanager
async def started(**env: str) -> AsyncIterator[RealWorker]:
    """A worker that has announced itself; killed at the end."""
    with tempfile.TemporaryDirectory() as folder:
        worker = RealWorker(Path(folder), **env)
        try:
            await worker.announced()
            yield worker
        finally:
            with contextlib.suppress(ProcessLookupError):
                worker.process.send_signal(signal.SIGCONT)
            worker.process.kill()
            worker.process.wait()
