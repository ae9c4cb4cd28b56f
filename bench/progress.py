"""Measure live progress on a terminal against the same run without it."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import termios
import threading
import time
from typing import Any

from figures import Table, best, micros

import rivers as rs
from rivers._repository.observe import Observe
from rivers._repository.prepare import RunArguments
from rivers._terminal.choose import make_progress

STEPS = 10_000
WORK = 0.001


def work() -> None:
    """Use a millisecond of this thread's CPU time, so that a display which takes the interpreter's lock costs time."""
    end = time.thread_time() + WORK
    while time.thread_time() < end:
        continue


def progress(table: Table) -> None:
    """Measure 10,000 steps of 1 ms each, and 10,000 that do nothing, by the CPU time of all threads."""
    with Screen() as screen:
        working = steps("work()")
        alone, shown = best(
            lambda: run(working, None), lambda: run(working, screen.stream), rounds=3, clock=time.process_time
        )
        table.line(
            "10,000 steps of 1 ms with live progress", f"{micros(shown - alone, STEPS):.1f} us/step", shown / alone,
            "<= 1.03 x", shown / alone <= 1.03,
        )  # fmt: skip
        empty = steps("pass")
        alone, shown = best(
            lambda: run(empty, None), lambda: run(empty, screen.stream), rounds=5, clock=time.process_time
        )
        table.line("  of steps that do nothing", f"{micros(shown - alone, STEPS):.1f} us/step", shown / alone)


def steps(body: str) -> rs.CodeRepository:
    scope: dict[str, Any] = {"work": work}
    for number in range(STEPS):
        exec(f"def step_{number}() -> int:\n    {body}\n    return {number}", scope)
    repository = rs.CodeRepository([rs.Asset(scope[f"step_{number}"]) for number in range(STEPS)])
    repository.resolve()
    return repository


def run(repository: rs.CodeRepository, stream: Any) -> None:
    sinks = () if stream is None else (lambda header, redactor: make_progress(header, redactor, stream),)
    repository._prepare(RunArguments(observe=Observe(sinks=sinks))).carry_out(True)


class Screen:
    """A pseudo-terminal whose output is read and dropped."""

    def __enter__(self) -> Screen:
        os.environ["TERM"] = "xterm"
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        self.stream = os.fdopen(slave, "w")
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        return self

    def _read(self) -> None:
        try:
            while os.read(self._master, 65536):
                continue
        except OSError:
            return

    def __exit__(self, *exception: object) -> None:
        self.stream.close()
        self._thread.join(5)
        os.close(self._master)
