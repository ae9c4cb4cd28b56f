"""Sweeps for leftovers of killed runs and for old marks of ended runs: seldom, and bounded.

The mark of an ended run stays for days, so a busy store has 100,000 of them. One sweep checks a bounded number.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable
from contextlib import suppress

__all__ = ["MOST_MARKS", "LocalSweep", "seconds_between"]

MOST_MARKS = 5000
"""Marks that one sweep checks: 120,000 a day, in about 20 ms each time on a local disk."""
_HOUR = 3600.0


def seconds_between(*ages: float) -> float:
    """Return the seconds between two sweeps of a store that removes leftovers of these ages: an hour at most."""
    return min(_HOUR, *ages)


class LocalSweep:
    """The sweeps of a local store; the modification time of `.rivers/swept` is that of the last one."""

    def __init__(self, folder: str, *, runs_age: float, marks_age: float, remove_run: Callable[[str], None]) -> None:
        self._folder = folder
        self._runs_age = runs_age
        self._marks_age = marks_age
        self._remove_run = remove_run
        self._every = seconds_between(runs_age, marks_age)
        self._not_before = 0.0

    def sweep(self) -> None:
        """Remove what is old enough, unless this or another process has swept recently."""
        now = time.monotonic()
        if now < self._not_before:
            return
        self._not_before = now + self._every
        with suppress(OSError):
            if self._is_due():
                self._sweep_runs()
                self._sweep_marks()

    def _is_due(self) -> bool:
        swept = f"{self._folder}/swept"
        try:
            os.mkdir(swept)
        except FileExistsError:
            # The time is in the future if the clock was set back: that is no reason to wait.
            if abs(time.time() - os.stat(swept).st_mtime) < self._every:
                return False
            os.utime(swept)
        return True

    def _sweep_runs(self) -> None:
        before = time.time() - self._runs_age
        with suppress(FileNotFoundError), os.scandir(f"{self._folder}/runs") as entries:
            for entry in entries:
                with suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_mtime < before:
                        self._remove_run(entry.path)

    def _sweep_marks(self) -> None:
        before = time.time() - self._marks_age
        ended = f"{self._folder}/ended"
        names = os.listdir(ended)
        if len(names) > MOST_MARKS:
            # Listing costs 0.3 µs a name, reading its time ten times as much. Random names need no cursor in the store.
            names = random.sample(names, MOST_MARKS)
        for name in names:
            with suppress(OSError):
                if os.lstat(f"{ended}/{name}").st_mtime < before:
                    os.unlink(f"{ended}/{name}")
