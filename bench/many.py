"""Assets for the figures of the parallel executor: all at module scope when it is imported, where workers find them.

RIVERS_BENCH_STORE is the folder for values: `<folder>/rivers` for the assets, `<folder>/loky` for the work by hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from typing import Any

import numpy as np

import rivers as rs

FOLDER = os.environ["RIVERS_BENCH_STORE"]
STORE = rs.PickleIOHandler(f"{FOLDER}/rivers")
BY_HAND = rs.PickleIOHandler(f"{FOLDER}/loky")


def make_asset(
    name: str, body: str, upstream: str = "", handler: rs.BaseIOHandler | None = None, head: str = "def"
) -> Any:
    """Return an asset with this name, one upstream and one line of a body."""
    scope: dict[str, Any] = {}
    exec(f"{head} {name}({upstream}): {body}", globals(), scope)
    return globals().setdefault(name, rs.Asset(scope[name], name=name, io_handler=handler))


def burn(seconds: float) -> None:
    """Use this much CPU time."""
    end = time.process_time() + seconds
    while time.process_time() < end:
        continue


async def fly() -> None:
    """Wait until all steps are in flight."""
    FLIGHT["now"] += 1
    FLIGHT["peak"] = max(FLIGHT["peak"], FLIGHT["now"])
    if FLIGHT["now"] == FLIGHT["wanted"]:
        ALL_IN_THE_AIR.set()
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(ALL_IN_THE_AIR.wait(), 5.0)
    FLIGHT["now"] -= 1


ALL_IN_THE_AIR = asyncio.Event()
SOURCES = [np.random.default_rng(seed).random(1_250_000) for seed in range(10)]
FLIGHT = {"now": 0, "peak": 0, "wanted": 10_000}
FAN_OUT = [make_asset("source", "return 1", "", STORE)]
FAN_OUT += [make_asset(f"fan_{i}", "return source", "source", STORE) for i in range(1000)]
CHAIN = [make_asset("link_0", "return 1", "", STORE)]
CHAIN += [make_asset(f"link_{i}", f"return link_{i - 1}", f"link_{i - 1}", STORE) for i in range(1, 200)]
WARM_UP = [make_asset(f"warm_{i}", "time.sleep(0.2)") for i in range(2)]
BURNERS = [make_asset(f"burn_{i}", "burn(0.1)") for i in range(32)]
LEFT = [make_asset("left_0", "time.sleep(0.3)")]
LEFT += [make_asset(f"left_{i}", f"time.sleep({0.1 if i % 2 else 0.3})", f"left_{i - 1}") for i in range(1, 8)]
RIGHT = [make_asset("right_0", "time.sleep(0.1)")]
RIGHT += [make_asset(f"right_{i}", f"time.sleep({0.3 if i % 2 else 0.1})", f"right_{i - 1}") for i in range(1, 8)]
ARRAYS = [make_asset(f"array_{i}", f"return SOURCES[{i % 10}]") for i in range(100)]
ARRAYS += [make_asset(f"looks_at_{i}", f"return float(array_{i}[::512].sum())", f"array_{i}") for i in range(100)]
SLEEPERS = [make_asset(f"sleep_{i}", "await asyncio.sleep(0.05)", head="async def") for i in range(1000)]


def flyers() -> list[rs.Asset]:
    """Return that many async steps; made on demand, as workers need none of them."""
    return [make_asset(f"fly_{i}", "await fly()", head="async def") for i in range(FLIGHT["wanted"])]


def by_hand(run: str, key: str) -> None:
    """Do the work of a step of FAN_OUT and CHAIN: load what a source has stored, and store it."""
    value = BY_HAND.load_input(rs.InputContext("source", key, run_id=run))
    BY_HAND.handle_output(rs.OutputContext(key, run_id=run, step=key, attempt_id=f"{run}-{key}"), value)


class Runs:
    """Run ids for work by hand: each has its source stored, and its predecessor is removed."""

    def __init__(self) -> None:
        self._count = 0

    def next(self) -> str:
        """Begin another run."""
        BY_HAND.end_run(f"run{self._count}")
        self._count += 1
        run = f"run{self._count}"
        BY_HAND.handle_output(rs.OutputContext("source", run_id=run, step="source", attempt_id="source"), 1)
        return run
