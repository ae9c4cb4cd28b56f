"""A larger run whose steps take milliseconds, for kills of its controller at any moment, on every executor.

DURABLE_STORE is a folder or the URL of a bucket. Bodies note each call there, beside the values: in the file `bodies`
of a folder, or as an object each.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import rivers as rs

STORE, ELEMENTS = "DURABLE_STORE", "DURABLE_ELEMENTS"
"""The names of the variables that bodies read."""


def is_bucket(store: str) -> bool:
    """Return whether a store is no folder."""
    return "://" in store


def note(name: str) -> None:
    """Note the name of a body that runs, with one write."""
    store = os.environ[STORE]
    if is_bucket(store):
        import obstore

        obstore.put(obstore.store.from_url(store), f"bodies/{time.time_ns()}~{name.replace('/', '%2F')}", b"")
    else:
        file = os.open(Path(store, "bodies"), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{name}\n".encode())
        os.close(file)
    time.sleep(0.004)


def names_in(store: str, folder: str) -> Iterator[str]:
    """Yield the names of what is in a folder of the store, below it, too."""
    if is_bucket(store):
        import obstore

        for found in obstore.store.from_url(store).list(folder + "/"):
            yield from (str(one["path"]).removeprefix(folder + "/") for one in found)
    else:
        yield from (str(path.relative_to(Path(store, folder))) for path in Path(store, folder).rglob("*"))


def notes(store: str) -> list[str]:
    """Return the names of the bodies that have run, in order."""
    if is_bucket(store):
        names = sorted(names_in(store, "bodies"))
        return [name.partition("~")[2].replace("%2F", "/") for name in names]
    path = Path(store, "bodies")
    return path.read_text().splitlines() if path.exists() else []


@rs.Asset
def base() -> int:
    note("base")
    return 1


@rs.Asset
def second(base: int) -> int:
    note("second")
    return base + 1


@rs.Asset
def third(second: int, base: int) -> int:
    note("third")
    return second + base


@rs.Task
def split(third: int) -> list[rs.DynamicOutput]:
    note("fan/split")
    return [rs.DynamicOutput(key=f"k{number}", value=number + third) for number in range(int(os.environ[ELEMENTS]))]


@rs.Task
def double(part: int) -> int:
    note(f"fan/double[k{part - 3}]")
    return part * 2


@rs.Task
def inc(part: int) -> int:
    note(f"fan/inc[k{part // 2 - 3}]")
    return part + 1


@rs.Task
def add(parts: list[int]) -> int:
    note("fan/add")
    return sum(parts)


@rs.Asset.from_graph
def fan(third: int) -> object:
    return add(split(third).map(double).map(inc).collect())


@rs.Asset
async def late(fan: int) -> int:
    note("late")
    return fan + 1


def expected() -> int:
    """Return the value of `late` of a whole run."""
    return sum(2 * (number + 3) + 1 for number in range(int(os.environ[ELEMENTS]))) + 1


def make_repository() -> rs.CodeRepository:
    """Return the repository whose values are in the store."""
    store = os.environ[STORE]
    handler = rs.PickleIOHandler(store) if is_bucket(store) else rs.PickleIOHandler(store, fsync=False, shared=True)
    return rs.CodeRepository([base, second, third, fan, late], default_io_handler=handler)
