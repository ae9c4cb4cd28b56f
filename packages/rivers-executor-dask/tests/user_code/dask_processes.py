"""A Dask cluster of real processes, and runs in the background, of which a test breaks the ground."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rivers as rs
from rivers_executor_dask import DaskExecutor

CODE = Path(__file__).parent


class ClusterProcesses:
    """A scheduler and workers, each a process that a test may kill; workers have no nanny, which would replace them."""

    def __init__(self, folder: Path, **environment: str) -> None:
        self._folder = folder
        self._environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(CODE), os.environ.get("PYTHONPATH", "")]),
            "DASK_DISTRIBUTED__DASHBOARD__LINK": "",
            # The default, against which the at-most-once promise has to hold.
            "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "3",
            **environment,
        }
        self.workers: dict[str, subprocess.Popen[bytes]] = {}
        self.scheduler = self._start("scheduler", "--port", "0", "--no-dashboard", "--host", "127.0.0.1")
        self.address = self._find("scheduler", "Scheduler at:")

    def add_worker(self, *options: str, threads: int = 2) -> str:
        """Start a worker and return its address."""
        name = f"worker-{len(self.workers)}"
        command = ["--no-nanny", "--no-dashboard", "--nthreads", str(threads), "--name", name, "--host", "127.0.0.1"]
        process = self._start("worker", self.address, *command, *options, log=name)
        address = self._find(name, "Start worker at:")
        self._find(name, "Registered to:")
        self.workers[address] = process
        return address

    def kill(self, address: str, number: int = signal.SIGKILL) -> None:
        self.workers[address].send_signal(number)

    def log(self, name: str) -> str:
        return (self._folder / f"{name}.log").read_text()

    def close(self) -> None:
        for process in [*self.workers.values(), self.scheduler]:
            process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(30)

    def _start(self, role: str, *arguments: str, log: str | None = None) -> subprocess.Popen[bytes]:
        with open(self._folder / f"{log or role}.log", "wb") as file:
            command = [sys.executable, "-m", "distributed.cli.dask_" + role, *arguments]
            return subprocess.Popen(command, stdout=file, stderr=file, env=self._environment, cwd=self._folder)

    def _find(self, name: str, mark: str) -> str:
        until = time.monotonic() + 40
        while time.monotonic() < until:
            for line in self.log(name).splitlines():
                if mark in line:
                    return line.partition(mark)[2].split()[0]
            time.sleep(0.05)
        raise AssertionError(f"{name} did not begin:\n{self.log(name)}")


class BackgroundRun:
    """A run in the background."""

    def __init__(self, executor: DaskExecutor, store: rs.BaseIOHandler, notes: Path, *assets: Any, **more: Any) -> None:
        self.events: list[Any] = []
        repo = rs.CodeRepository(list(assets), resources={"store": store})
        config = {asset.name: {"notes": str(notes)} for asset in assets}
        self.handle = repo.submit(executor=executor, on_event=self.events.append, config=config, **more)

    def of(self, kind: str) -> list[Any]:
        return [event for event in self.events if type(event).__name__ == kind]


def wait_until(true: Callable[[], object], seconds: float = 30) -> Any:
    until = time.monotonic() + seconds
    while not (value := true()):
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)
    return value
