"""Figures of the parallel executor against raw loky doing the same work, in the same run.

Bodies do nothing unless the figure is about what they do. Workers are warm on both sides; what starting them costs is a
figure of its own.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import store
from figures import TMPFS, Table, best, micros
from loky import ProcessPoolExecutor

import rivers as rs

TWO = rs.Executor.parallel(max_workers=2)


def parallel(table: Table) -> None:
    """Measure all figures."""
    folder = tempfile.mkdtemp(dir=TMPFS, prefix="rivers-bench-")
    os.environ["RIVERS_BENCH_STORE"] = folder
    import many

    try:
        small_steps(table, many)
    finally:
        shutil.rmtree(folder)
    scheduling(table, many)
    arrays(table, many)
    async_steps(table, many)
    first_result(table)


def small_steps(table: Table, many: ModuleType) -> None:
    """Measure a fan-out of 1,000, all submitted at once, and a chain of 200, one at a time."""
    runs = many.Runs()

    def fan_out_by_hand() -> None:
        run = runs.next()
        for future in [loky.submit(many.by_hand, run, f"fan_{i}") for i in range(1000)]:
            future.result()

    def chain_by_hand() -> None:
        run = runs.next()
        for i in range(200):
            loky.submit(many.by_hand, run, f"link_{i}").result()

    with ProcessPoolExecutor(2) as loky:
        compare(table, "fan-out of 1,000", many.FAN_OUT, fan_out_by_hand, 0.4)
        compare(table, "chain of 200", many.CHAIN, chain_by_hand, 0.5)


def compare(table: Table, what: str, assets: list[rs.Asset], by_hand: Callable[[], object], bar: float) -> None:
    """Compare the same steps by raw loky and by rivers, and the cost of a step to the controller."""
    steps = len(assets)
    with rs.CodeRepository(assets, default_executor=TWO) as repository:
        repository.materialize()
        by_hand()
        cpu = time.process_time()
        repository.materialize()
        cpu = time.process_time() - cpu
        theirs, ours = best(by_hand, repository.materialize, rounds=11)
    ratio = ours / theirs
    table.line(f"raw loky, {what}, PickleIOHandler on tmpfs", f"{micros(theirs, steps):.1f} us/step", 1.0)
    table.line(f"  parallel(2), {what}", f"{micros(ours, steps):.1f} us/step", ratio, f"<= {bar} x", ratio <= bar)
    table.line("  CPU of the controller", f"{micros(cpu, steps):.1f} us/step")


def scheduling(table: Table, many: ModuleType) -> None:
    """Measure 32 bodies of 100 ms of CPU time, and two chains that a barrier per level would slow."""
    with rs.CodeRepository([*many.WARM_UP, *many.BURNERS, *many.LEFT, *many.RIGHT], default_executor=TWO) as repository:
        repository.materialize(many.WARM_UP)
        burning = best(lambda: repository.materialize(many.BURNERS), rounds=3)[0]
        waiting = best(lambda: repository.materialize([*many.LEFT, *many.RIGHT]), rounds=3)[0]
    table.line(
        "32 x 100 ms of CPU on 2 workers", f"{burning:.3f} s", 1.6 / burning, ">= 0.97 of ideal", burning <= 1.6 / 0.97
    )
    table.line(
        "two branches whose long steps alternate",
        f"{waiting:.3f} s",
        waiting / 1.6,
        "<= 1.02 x ideal",
        waiting <= 1.6 * 1.02,
    )


def arrays(table: Table, many: ModuleType) -> None:
    """Measure 100 arrays of 10 MB, each made by one step and read, one number of each page, by another."""
    kept, freed = store.measure_collected(), store.measure_one_by_one()
    with rs.CodeRepository(many.ARRAYS, default_executor=TWO) as repository:
        repository.materialize()
        ours = 1000 / best(repository.materialize, rounds=7)[0]
    table.line("pickle file on tmpfs, 100 x 10 MB written and read", f"{kept.pickle:,.0f} MB/s", 1.0)
    table.line("  each let go before the next", f"{freed.pickle:,.0f} MB/s", freed.pickle / kept.pickle)
    table.line("  DefaultStore by itself, in one process", f"{kept.store:,.0f} MB/s", kept.ratio)
    ratio = ours / kept.pickle
    table.line("  handed on by steps of parallel(2)", f"{ours:,.0f} MB/s", ratio, ">= 3 x", ratio >= 3)


def async_steps(table: Table, many: ModuleType) -> None:
    """Measure 1,000 async steps of 50 ms beside bare asyncio, and 10,000 that wait for each other."""

    async def bare() -> None:
        await asyncio.gather(*(asyncio.sleep(0.05) for _ in range(1000)))

    with rs.CodeRepository(many.SLEEPERS, default_executor=TWO) as repository:
        theirs, ours = best(lambda: asyncio.run(bare()), repository.materialize, rounds=7)
    table.line("bare asyncio, 1,000 x 50 ms", f"{theirs * 1e3:.0f} ms", theirs / 0.05)
    table.line("  1,000 async steps of 50 ms", f"{ours * 1e3:.0f} ms", ours / 0.05, "<= 2 x ideal", ours <= 0.1)
    with rs.CodeRepository(many.flyers(), default_executor=TWO) as repository:
        repository.materialize()
    peak, wanted = many.FLIGHT["peak"], many.FLIGHT["wanted"]
    table.line("  async steps in flight at once", f"{peak:,}", None, f"{wanted:,}", peak == wanted)


def first_result(table: Table) -> None:
    """Measure the time from the start of an interpreter to the first result, with the same imports on both sides."""

    def run(name: str) -> None:
        command = [sys.executable, str(Path(__file__).with_name(name))]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)

    theirs, ours = best(lambda: run("first_loky.py"), lambda: run("first_rivers.py"), rounds=9)
    ratio = ours / theirs
    table.line("fresh process to raw loky's first result", f"{theirs * 1e3:.0f} ms", 1.0)
    table.line("  to the first parallel result", f"{ours * 1e3:.0f} ms", ratio, "<= 1.3 x", ratio <= 1.3)
