"""Durable runs on a fake cluster: start their controllers, kill them, and read their record."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["DurableRun"]

CONTROLLER = Path(__file__).with_name("adopt_controller.py")
PATIENCE = 90.0


class DurableRun:
    """A durable run with its folder; its controllers are processes that find the cluster by the environment."""

    def __init__(self, folder: Path, mark: str, **settings: Any) -> None:
        self.folder = folder
        self.notes = folder / "notes"
        self.gates = folder / "gates"
        self.gates.mkdir(parents=True)
        self.notes.touch()
        self.settings = settings
        self._mark = mark
        self._controllers: list[subprocess.Popen[str]] = []

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a controller; with a run id it resumes that one."""
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join(sys.path),
            "RIVERS_TEST_CONTROLLER": json.dumps(self.settings),
            "RIVERS_TEST_NOTES": str(self.notes),
            "RIVERS_TEST_GATES": str(self.gates),
            "RIVERS_TEST_MARK": self._mark,
        }
        command = [sys.executable, str(CONTROLLER), str(self.folder), *arguments]
        with (self.folder / "output").open("a") as output:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT, text=True)
        self._controllers.append(process)
        return process

    def kill_all(self) -> None:
        """Kill the controllers that still run."""
        for process in self._controllers:
            process.kill()
            process.wait(10)

    def resume(self) -> subprocess.Popen[str]:
        return self.start(self.run_id)

    @property
    def record(self) -> Path:
        [record] = (self.folder / "runs").iterdir()
        return record

    @property
    def run_id(self) -> str:
        return self.record.name

    @property
    def output(self) -> str:
        return (self.folder / "output").read_text()

    def events(self, kind: str = "", step: str = "") -> list[dict[str, Any]]:
        """Return the recorded events of a kind and step; a torn last line does not count."""
        path = self.folder / "runs"
        files = list(path.glob("*/events.jsonl")) if path.exists() else []
        lines = files[0].read_text().split("\n")[:-1] if files else []
        events = [json.loads(line) for line in lines]
        return [one for one in events if kind in ("", one["event"]) and step in ("", one.get("step"))]

    def wait_for(self, true: Callable[[], object], what: str = "it") -> None:
        """Wait until something is true."""
        until = time.monotonic() + PATIENCE
        while not true():
            assert time.monotonic() < until, f"{what} did not happen; the controllers wrote:\n{self.output}"
            time.sleep(0.02)

    def open_gate(self, name: str = "gated") -> None:
        (self.gates / name).touch()

    def bodies(self) -> list[str]:
        return self.notes.read_text().splitlines()

    def logs(self, step: str = "gated") -> list[str]:
        """Return what a step has printed, as recorded."""
        return [one["message"] for one in self.events("StepLog", step) if one["stream"] == "stdout"]

    def attempt_ids(self) -> Counter[str]:
        """Return how often each attempt was submitted."""
        return Counter(one["attempt_id"] for one in self.events("StepSubmitted"))
