"""Starts controllers as processes of their own (`controller.py`), and reads what they tell."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from namespaces import Namespace

__all__ = ["Controller"]

HERE = Path(__file__).parent


class Controller:
    """A controller that runs; `lines` are the lines it has printed. `before` is a command that runs it."""

    def __init__(
        self, namespace: Namespace, store: str, environ: Mapping[str, str], before: Sequence[str] = ()
    ) -> None:
        self.lines: list[str] = []
        self._told = threading.Condition()
        self._over = False
        self.process = subprocess.Popen(
            [*before, sys.executable, str(HERE / "controller.py"), namespace.name, store],
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environ},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, name="controller")
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._told:
                self.lines.append(line.rstrip())
                self._told.notify_all()
        with self._told:
            self._over = True
            self._told.notify_all()

    def told(self, line: str, within: float) -> bool:
        """Whether it prints this line in time; it may have ended before."""
        with self._told:
            self._told.wait_for(lambda: line in self.lines or self._over, within)
            return line in self.lines

    def kill(self) -> None:
        """SIGKILL; it can do nothing more."""
        self.process.kill()
        self.end(10.0)

    def end(self, within: float = 90.0) -> int:
        """Wait for its end; returns the exit code."""
        try:
            return self.process.wait(within)
        finally:
            self.process.kill()
            self.process.wait(10.0)
            self._reader.join(10.0)
            if self.process.stdout is not None:
                self.process.stdout.close()
