"""Measure and print figures: the best of several rounds, the two sides of a ratio taking turns."""

from __future__ import annotations

import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROUNDS = 15
TMPFS = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())


class Table:
    """A printer of one line per figure: name, value, ratio, bar, verdict."""

    def __init__(self) -> None:
        print(f"{'figure':58} {'value':>14} {'ratio':>7}  bar")

    def line(self, what: str, value: str, ratio: float | None = None, bar: str = "", met: bool | None = None) -> None:
        verdict = "" if met is None else ("  met" if met else "  MISSED")
        shown = "" if ratio is None else f"{ratio:.2f} x"
        print(f"{what:58} {value:>14} {shown:>7}  {bar}{verdict}", flush=True)


def best(
    *sides: Callable[[], object], rounds: int = ROUNDS, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """Return the shortest time of each side in seconds, by default of the wall clock; the sides take turns."""
    found = [float("inf")] * len(sides)
    for _ in range(rounds):
        for index, side in enumerate(sides):
            gc.collect()
            start = clock()
            side()
            found[index] = min(found[index], clock() - start)
    return found


def micros(seconds: float, steps: int) -> float:
    return seconds / steps * 1e6
