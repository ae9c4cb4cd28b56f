"""A thread that SIGKILLs workers of its own process, each time after a random number of steps."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from pathlib import Path

from journal import JournalEntry, StepJournal

from rivers_process.processes import child_processes, command_line, read_process

__all__ = ["WorkerKiller"]

WORKER = "rivers-worker"
"""A part of a worker's command line."""
BUSY = ("begin", "store", "linger")
LOOK = 0.0005
"""Seconds between two looks at the journal."""
ANY = 0.2
"""Of this part of the kills, and on top of them, one hits whichever worker: one that boots, loads, stores or idles."""


class WorkerKiller(threading.Thread):
    """A thread that kills `kills` busy workers during `steps` steps; `killed` counts its kills by pid.

    A worker is busy whose last entry in the journal is one of BUSY.
    """

    def __init__(self, folder: Path, seed: int, steps: int, kills: int) -> None:
        super().__init__(name="killer", daemon=True)
        self._draw = random.Random(seed)
        self._journal = StepJournal(folder)
        self._due = sorted(self._draw.randrange(steps * 95 // 100) for _ in range(kills))
        self._ends = 0
        self._doing: dict[int, str] = {}
        self._over = threading.Event()
        self.entries: list[JournalEntry] = []
        self.busy = 0
        self.killed: Counter[int] = Counter()

    def run(self) -> None:
        """Kill until all kills are done, or `stop`."""
        while not self._over.wait(LOOK):
            self._look()
            while self._due and self._due[0] <= self._ends and not self._over.is_set():
                self._over.wait(self._draw.uniform(0.0, 0.01))
                self._look()
                if self._kill_busy():
                    self._due.pop(0)
                    if self._draw.random() < ANY:
                        self._over.wait(self._draw.uniform(0.0, 0.3))
                        self._kill_any()

    def stop(self) -> None:
        """Stop killing, and read the rest of the journal."""
        self._over.set()
        self.join()
        self._look()

    def _look(self) -> None:
        for entry in self._journal.news():
            self.entries.append(entry)
            self._doing[entry.pid] = entry.what
            self._ends += entry.what == "end"

    def _kill_busy(self) -> bool:
        busy = sorted(pid for pid, what in self._doing.items() if what in BUSY)
        if not busy:
            return False
        pid = self._draw.choice(busy)
        if not self._kill(pid):
            del self._doing[pid]
            return False
        self.busy += 1
        return True

    def _kill_any(self) -> None:
        workers = sorted(child.pid for child in child_processes(os.getpid()) if WORKER in command_line(child.pid))
        if workers:
            self._kill(self._draw.choice(workers))

    def _kill(self, pid: int) -> bool:
        if not kill_child(pid):
            return False
        self.killed[pid] += 1
        self._doing.pop(pid, None)
        return True


def kill_child(pid: int, parent: int | None = None) -> bool:
    """SIGKILL a child of this process, or of `parent`; return False when it is none, or none any more."""
    try:
        held = os.pidfd_open(pid)
    except OSError:
        return False
    try:
        process = read_process(pid)
        if process is None or process.parent != (parent or os.getpid()) or process.state == "Z":
            return False
        signal.pidfd_send_signal(held, signal.SIGKILL)
    except ProcessLookupError:
        return False
    finally:
        os.close(held)
    return True
