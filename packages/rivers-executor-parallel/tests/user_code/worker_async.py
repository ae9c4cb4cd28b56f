"""Async steps, and steps of very different length, for the tests of how they share their places."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Iterator
from pathlib import Path

import worker_steps

import rivers as rs

FLIGHT = {"now": 0, "peak": 0, "all": 0}
"""Counted in the controller's process, where async bodies run."""


@rs.Task
def twelve() -> Iterator[rs.DynamicOutput]:
    for number in range(12):
        yield rs.DynamicOutput(key=f"k{number:02}", value=number)


@rs.Task
async def counted(number: int) -> int:
    FLIGHT["now"] += 1
    FLIGHT["all"] += 1
    FLIGHT["peak"] = max(FLIGHT["peak"], FLIGHT["now"])
    await asyncio.sleep(0.02)
    FLIGHT["now"] -= 1
    return os.getpid()


@rs.Task
def together(numbers: list[int]) -> list[int]:
    return numbers


@rs.Asset.from_graph
def many_async() -> list[int]:
    return together(twelve().map(counted).collect())


@rs.Task
def one_is_long(number: int) -> int:
    """The first one goes on until all others have ended; they may be handed to its worker while it runs."""
    worker_steps.note(f"{number}")
    notes = Path(os.environ["RIVERS_TEST_NOTES"])
    deadline = time.monotonic() + 30.0
    while number == 0 and len(notes.read_text().split()) < 12:
        if time.monotonic() > deadline:
            raise TimeoutError("others wait behind this one")
        time.sleep(0.01)
    return number


@rs.Asset.from_graph
def unequal() -> list[int]:
    return together(twelve().map(one_is_long).collect())


@rs.Asset(timeout=0.1)
async def overdue() -> int:
    await asyncio.sleep(60)
    return 1


@rs.Asset
async def blocks() -> int:
    time.sleep(2.5)  # noqa: ASYNC251 - what the test is about
    return 1


@rs.Asset
async def waits() -> int:
    print("waits")
    try:
        await asyncio.sleep(60)
    finally:
        worker_steps.note("ended")
    return 1


class SlowToPickle:
    """A value that takes longer to be stored than a body may hold the loop."""

    def __reduce__(self) -> tuple[type, tuple[()]]:
        time.sleep(3.0)
        return SlowToPickle, ()


@rs.Asset
async def stored_slowly() -> SlowToPickle:
    return SlowToPickle()


@rs.Asset
def after_stored_slowly(stored_slowly: SlowToPickle) -> str:
    return type(stored_slowly).__name__
