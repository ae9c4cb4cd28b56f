"""Kill busy workers at random while a pipeline runs: `python torture/kill_workers.py --seed N`.

10,000 steps in runs of 500 on warm workers, every other run with a listener; 500 SIGKILLs of busy workers and some of
others. Then these invariants have to hold: every step has succeeded; only attempts that ran in a killed worker are
charged, once per kill; no attempt has begun twice; one attempt per step has committed, and its value loads and is
right; nothing is left.

Prints the seed, the counts and each broken invariant, and exits with 1 if there is one.
"""

from __future__ import annotations

import argparse
import faulthandler
import os
import random
import sys
import tempfile
import time
from pathlib import Path
from typing import TextIO

import facts
import journal
import work
from killer import WorkerKiller
from leftovers import Holdings, find_leftovers
from surroundings import grounds

import rivers as rs
from rivers_process.processes import find_marked_processes, kill_processes

LONGEST = 3600.0
"""Seconds after which a torture that hangs ends, with all threads' tracebacks."""
SHOWN = 20
"""Lines of what is wrong that are printed, of each kind."""
KEYS_OF = 0.26
"""Mapping keys per step of a run: three steps each, the rest are single assets."""


def torture(folder: Path, seed: int, runs: int, steps: int, kills: int, workers: int, out: TextIO) -> list[str]:
    """Run one torture in an empty folder; return broken invariants."""
    keys = int(steps * KEYS_OF)
    singles = steps - 3 * keys - 2
    killer = WorkerKiller(folder, seed, runs * steps, kills)
    numbers = work.steps_of(keys, singles)
    results: list[rs.RunResult] = []
    wrong: list[str] = []
    killer.start()
    with work.repository(folder, keys, singles, workers) as repo:
        for n in range(runs):
            listener = rs.ListSink() if n % 2 else None
            result = repo.materialize(raise_on_error=False, config=work.config(singles), on_event=listener)
            results.append(result)
            wrong += [f"run {n}, {what}" for what in facts.find_wrong_steps(result, numbers)]
            wrong += [f"run {n}, value of {what}" for what in work.find_wrong_values(repo, result, numbers)]
        killer.stop()
    wrong += facts.find_wrong_entries(killer.entries)
    more, early = facts.find_wrong_charges(killer.entries, results, killer.killed)
    if killer.busy < kills:
        wrong.append(f"only {killer.busy} of {kills} busy workers could be killed")
    charges = sum(len(facts.charges_of(result)) for result in results)
    print(
        f"{runs * steps} steps in {runs} runs on {workers} workers; {killer.busy} busy workers killed and "
        f"{killer.killed.total() - killer.busy} others; "
        f"{charges} attempts charged, {early} of them before their first line",
        file=out,
    )
    return wrong + more


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=None, help="default: a random one, which is printed")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--steps", type=int, default=500, help="of each run")
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--workers", type=int, default=3)
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if given.seed is None else given.seed
    # What bodies print goes where this process prints, and is not what is to be read here.
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC), 1)
    faulthandler.dump_traceback_later(LONGEST, exit=True)
    with grounds() as ground:
        # Once without kills, so that what a process starts once and keeps (loky's resource tracker) is there before.
        os.environ.update(ground.environment(ground.root / "before", seed))
        tempfile.tempdir = str(ground.temporary)
        wrong = torture(ground.root / "before", seed, 1, 20, 0, given.workers, out)
        folder = ground.root / "after"
        os.environ.update(ground.environment(folder, seed))
        before = Holdings.now()
        print(f"seed {seed}", file=out)
        start = time.monotonic()
        wrong += torture(folder, seed, given.runs, given.steps, given.kills, given.workers, out)
        print(f"{time.monotonic() - start:.0f} s", file=out)
        mark = f"{journal.FOLDER}={folder}"
        left = find_leftovers(before, mark) + ground.leftovers()
        left += [str(path) for path in (folder / "values" / ".rivers" / "runs").rglob("*")]
        wrong += [f"left behind: {what}" for what in left]
        kill_processes(find_marked_processes(mark))
    for line in wrong[:SHOWN]:
        print(f"WRONG: {line}", file=out)
    if len(wrong) > SHOWN:
        print(f"WRONG: and {len(wrong) - SHOWN} more", file=out)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
