"""Hand on 100 arrays of 10 MB through the default store and through pickle files, in MB/s.

Both sides do the same, on the same file system in memory: each array is written under a name of its own, loaded again,
and every page of it is looked at. `measure_collected` keeps all that was loaded, as a step does that gets 100 results;
`measure_one_by_one` drops each before the next, so that the memory of a pickle that was read is used again by malloc.

    python bench/store.py
"""

from __future__ import annotations

import pickle
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from rivers._io.shared.default_store import DefaultStore
from rivers.io_handlers import InputContext, OutputContext

COUNT = 100
SIZE = 10_000_000
SOURCES = 10  # different arrays, so that what is written does not come from the cache of the CPU
PAGE = 4096 // 8
TMPFS = Path("/dev/shm") if Path("/dev/shm").is_dir() else Path(tempfile.gettempdir())

HandOn = Callable[[int, Any], Any]
"""Write the array under the name of that number and return it as it was loaded."""


class Rates(NamedTuple):
    """MB/s of the default store and of a pickle file, and their ratio."""

    store: float
    pickle: float

    @property
    def ratio(self) -> float:
        return self.store / self.pickle


@contextmanager
def through_the_store() -> Iterator[HandOn]:
    """Write by one store and read by another, as two workers do."""
    owner = DefaultStore()
    owner.share("run")
    writer, reader = (DefaultStore(folder=owner.folder, beside=owner.beside) for _ in range(2))

    def hand_on(number: int, value: Any) -> Any:
        key = f"array{number}"
        writer.handle_output(OutputContext(key, run_id="run", step=key, attempt_id=f"a{number}"), value)
        return reader.load_input(InputContext(key, run_id="run"))

    try:
        yield hand_on
    finally:
        owner.close()


@contextmanager
def through_pickle_files() -> Iterator[HandOn]:
    """Write and read pickle files, as without a store."""
    folder = Path(tempfile.mkdtemp(dir=TMPFS))

    def hand_on(number: int, value: Any) -> Any:
        path = folder / f"array{number}.pkl"
        with open(path, "wb") as file:
            pickle.dump(value, file)
        with open(path, "rb") as file:
            return pickle.load(file)

    try:
        yield hand_on
    finally:
        shutil.rmtree(folder)


def seconds(side: Callable[[], Any], keep: bool) -> float:
    """Measure handing on all arrays and reading one number of each page."""
    arrays = [np.random.default_rng(seed).random(SIZE // 8) for seed in range(SOURCES)]
    kept = []
    with side() as hand_on:
        start = time.perf_counter()
        for number in range(COUNT):
            got = hand_on(number, arrays[number % SOURCES])
            got[::PAGE].sum()
            if keep:
                kept.append(got)
            del got
        return time.perf_counter() - start


def rates(keep: bool, rounds: int = 5) -> Rates:
    """Return the best of several rounds; the two sides take turns."""
    best = [float("inf")] * 2
    for _ in range(rounds):
        for index, side in enumerate((through_the_store, through_pickle_files)):
            best[index] = min(best[index], seconds(side, keep))
    return Rates(*(COUNT * SIZE / 1e6 / took for took in best))


def measure_collected() -> Rates:
    """Keep all loaded arrays until the end; the bar is 3 times a pickle file."""
    return rates(keep=True)


def measure_one_by_one() -> Rates:
    """Drop each array before the next."""
    return rates(keep=False)


if __name__ == "__main__":
    for name, found in (("collected", measure_collected()), ("one by one", measure_one_by_one())):
        print(f"{name:12} {found.store:6.0f} MB/s, pickle file {found.pickle:6.0f} MB/s: {found.ratio:.2f} x")
