"""The real Slurm of this machine, as tests use it."""

from __future__ import annotations

import functools
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import rivers as rs
from rivers_executor_slurm import SlurmExecutor

CODE = Path(__file__).parent / "user_code"
MEMORY = "300Mi"
PATIENCE = 60.0


@functools.cache
def no_slurm() -> str | None:
    """Why there is no Slurm to test with, or None."""
    if shutil.which("sbatch") is None:
        return "there is no sbatch on the PATH"
    answer = subprocess.run(["sinfo", "-h", "-o", "%T"], capture_output=True, text=True, timeout=60, check=False)
    if answer.returncode:
        return f"Slurm does not answer: {answer.stderr.strip()}"
    states = set(answer.stdout.split())
    return None if states & {"idle", "mixed", "allocated"} else f"no node of Slurm is up, but {states}"


def slurm(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout


def wait_until(fact: Callable[[], Any], what: str = "", within: float = PATIENCE) -> Any:
    until = time.monotonic() + within
    while not (found := fact()):
        assert time.monotonic() < until, what or fact
        time.sleep(0.05)
    return found


class Cluster:
    """The real Slurm, with folders on the file system that its nodes share with this machine."""

    def __init__(self, folder: Path) -> None:
        self.notes = folder / "notes"
        self.jobs = folder / "jobs"
        self.notes.mkdir()
        self.store = rs.PickleIOHandler(folder / "values", shared=True)
        self.events: list[Any] = []

    def executor(self, **settings: Any) -> SlurmExecutor:
        settings.setdefault("env", {"RIVERS_SLURM_NOTES": str(self.notes), "MY_MARK": "mine"})
        return SlurmExecutor(**{"memory": MEMORY, "folder": self.jobs, "grace": 2, "orphan_ttl": 5, **settings})

    def asset(self, body: Callable[..., Any], **settings: Any) -> rs.Asset:
        return rs.Asset(body, io_handler=self.store, **settings)

    def run(self, *assets: Any, **settings: Any) -> rs.RunResult:
        """Run assets with an executor of these settings; afterwards nothing is left of it."""
        self.events.clear()
        with rs.CodeRepository(list(assets), default_executor=self.executor(**settings)) as repository:
            result = repository.materialize(raise_on_error=False, on_event=self.events.append)
            self.repository = repository
        self.check_nothing_left()
        return result

    def submit(self, *assets: Any, **settings: Any) -> Any:
        """Start a run in the background, and return repository and handle."""
        repository = rs.CodeRepository(list(assets), default_executor=self.executor(**settings))
        return repository, repository.submit(on_event=self.events.append)

    def noted(self, name: str) -> list[str]:
        """The job ids in the notes of this name, once there is one."""
        return wait_until(lambda: [text for path in self.notes.glob(f"{name}-*") if (text := path.read_text())], name)

    @property
    def queue(self) -> list[str]:
        """Ids and states of the jobs with output in this test's folder."""
        lines = [
            line.split() for line in slurm("squeue", "-h", "-r", "-O", "JobArrayID:40,State:20,STDOUT:500").splitlines()
        ]
        return [f"{words[0]} {words[1]}" for words in lines if words[2].startswith(str(self.jobs))]

    def check_nothing_left(self) -> None:
        assert [] == [line for line in self.queue if "COMPLETING" not in line]
        assert [] == list(self.jobs.iterdir())
