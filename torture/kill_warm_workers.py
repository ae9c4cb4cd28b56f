"""Kill warm workers and their children at random while they run steps: `python torture/kill_warm_workers.py --seed N`.

3,000 steps on 6 workers, which are processes of this machine in a pool; 300 SIGKILLs of children, most of them busy,
and 60 of servers. A step is repeated in an attempt of its own until one succeeds. Then these invariants have to hold:
every step has succeeded; no attempt has begun twice; only attempts that a kill has hit have failed; no attempt has seen
what another one has left; no process, thread, descriptor or file is left.

Prints the seed, the counts and each broken invariant, and exits with 1 if there is one.
"""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import os
import random
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import facts
import journal
from killer import kill_child
from leftovers import Holdings, find_leftovers
from surroundings import grounds
from warm_workers import LocalAttempt, LocalWorkers, kill, spec_of

from rivers_process.processes import child_processes, find_marked_processes, kill_processes
from rivers_worker.errors import WorkerError
from rivers_worker.pool import WorkerRequest

LONGEST = 3600.0
"""Seconds after which a torture that hangs ends, with all threads' tracebacks."""
SHOWN = 20
MOST = 40
"""Attempts of one step."""
AT_ONCE = 2
"""Steps that run or wait, for each worker."""
LOOK = 0.001
"""Seconds between two looks at the journal."""
ANY = 0.2
"""The share of the children's kills that hit whichever child: one that waits for a spec, a fork server, a daemon."""


@dataclass(frozen=True)
class Kill:
    """A kill of a server, or of a child of it, `time` in `time.monotonic`; `attempt_id` is that of a busy child."""

    server: int
    time: float
    kind: str
    attempt_id: str = ""

    def has_hit(self, attempt: LocalAttempt) -> bool:
        """Return whether the attempt may have failed for it."""
        if self.attempt_id:
            return self.attempt_id == attempt.attempt_id
        return self.server == attempt.server and self.time <= attempt.end


class WarmKiller:
    """A task that kills `children` children and `servers` servers, each after a random number of begun attempts."""

    def __init__(self, folder: Path, workers: LocalWorkers, seed: int, steps: int, children: int, servers: int) -> None:
        self._draw = random.Random(seed)
        self._journal = journal.StepJournal(folder)
        self._workers = workers
        others = round(ANY * children)
        kinds = ["busy"] * (children - others) + ["other"] * others + ["server"] * servers
        self._draw.shuffle(kinds)
        self.due = sorted((self._draw.randrange(steps * 9 // 10 + 1), kind) for kind in kinds)
        self._busy: dict[int, str] = {}
        self.entries: list[journal.JournalEntry] = []
        self.kills: list[Kill] = []

    async def run(self) -> None:
        """Kill until all kills are done."""
        while self.due:
            await asyncio.sleep(LOOK)
            self.look()
            begun, kind = self.due[0]
            if begun <= sum(entry.what == "begin" for entry in self.entries) and self._kill(kind):
                self.due.pop(0)
                await asyncio.sleep(self._draw.uniform(0.0, 0.02))

    def look(self) -> None:
        """Read the news of the journal."""
        for entry in self._journal.news():
            self.entries.append(entry)
            if entry.what == "begin":
                self._busy[entry.pid] = entry.who
            else:
                self._busy.pop(entry.pid, None)

    def _kill(self, kind: str) -> bool:
        if kind == "busy":
            return any(self._kill_busy(pid) for pid in self._draw.sample(sorted(self._busy), len(self._busy)))
        if not self._workers.running:
            return False
        server = self._draw.choice(sorted(self._workers.running))
        if kind == "server":
            kill(self._workers.running[server].process)
            self.kills.append(Kill(server, time.monotonic(), kind))
            return True
        children = [child.pid for child in child_processes(server) if child.state != "Z"]
        return bool(children) and self._kill_child(self._draw.choice(children), server)

    def _kill_busy(self, pid: int) -> bool:
        attempt_id = self._busy.pop(pid)
        return any(self._kill_child(pid, server, attempt_id) for server in self._workers.running)

    def _kill_child(self, pid: int, server: int, attempt_id: str = "") -> bool:
        # Read before the kill: its effect may be seen at once.
        now = time.monotonic()
        if not kill_child(pid, server):
            return False
        self.kills.append(Kill(server, now, "busy" if attempt_id else "other", attempt_id))
        return True


async def run_step(workers: LocalWorkers, step: str, attempts: list[LocalAttempt]) -> None:
    """Run attempts of a step until one succeeds; add each to `attempts`."""
    for number in range(1, MOST + 1):
        spec = spec_of(step, number)
        request = WorkerRequest(shape="local", modules=frozenset({"warm_body"}))
        async with workers.pool.lease(request) as lease:
            attempt, answer = await lease.worker.run(spec)
            attempts.append(attempt)
            workers.reasons += [answer.retires] if answer.retires else []
            if answer.ready:
                lease.keep()
        if attempt.has_succeeded:
            return


async def torture(
    folder: Path, seed: int, steps: int, limit: int, children: int, servers: int
) -> tuple[list[str], str]:
    """Run one torture in an empty folder; return broken invariants, and a line with its counts."""
    workers = LocalWorkers(limit)
    killer = WarmKiller(folder, workers, seed, steps, children, servers)
    attempts: list[LocalAttempt] = []
    names = iter([f"step{number}" for number in range(steps)])
    wrong: list[str] = []

    async def run_steps() -> None:
        for name in names:
            try:
                await run_step(workers, name, attempts)
            except WorkerError as error:
                wrong.append(f"{name}: {error}")

    killing = asyncio.create_task(killer.run())
    await asyncio.gather(*(run_steps() for _ in range(AT_ONCE * limit)))
    killing.cancel()
    await asyncio.wait((killing,))
    wrong += [f"worker {late.process.pid} does not end" for late in await workers.close()]
    killer.look()
    if killer.due:
        wrong.append(f"{len(killer.due)} kills were not done")
    charged = [attempt for attempt in attempts if not attempt.has_succeeded]
    kinds = Counter(kill.kind for kill in killer.kills)
    return wrong + find_wrong_attempts(steps, attempts, charged, killer), (
        f"{steps} steps in {len(attempts)} attempts on {limit} workers, of which {workers.started} were started; "
        f"{kinds['busy']} busy children, {kinds['other']} other children and {kinds['server']} servers killed; "
        f"{len(charged)} attempts charged; {len(workers.reasons)} workers have retired with a reason"
    )


def find_wrong_attempts(
    steps: int, attempts: list[LocalAttempt], charged: list[LocalAttempt], killer: WarmKiller
) -> list[str]:
    """Describe steps that have not succeeded, attempts that ran twice or not at all, and innocent ones."""
    succeeded = {attempt.attempt_id for attempt in attempts if attempt.has_succeeded}
    ended = {entry.who for entry in killer.entries if entry.what == "end"}
    wrong = facts.find_wrong_entries(killer.entries)
    if len(succeeded) != steps:
        wrong.append(f"{len(succeeded)} of {steps} steps have succeeded")
    wrong += [f"{attempt_id} has succeeded, and has not ended" for attempt_id in succeeded - ended]
    wrong += [
        f"{attempt.attempt_id} was charged, and no kill has hit it: {attempt.result and attempt.result.failure}"
        for attempt in charged
        if not any(kill.has_hit(attempt) for kill in killer.kills)
    ]
    return wrong


async def run(ground: Path, given: argparse.Namespace, seed: int, before: list[Holdings]) -> list[str]:
    """Run a torture without kills, so that what a process starts once and keeps is there before, and then the real one.

    gRPC needs one loop for both.
    """
    wrong, line = [], ""
    for name, counts in (
        ("before", (2, 1, 0, 0)),
        ("after", (given.steps, given.workers, given.children, given.servers)),
    ):
        os.environ[journal.FOLDER] = str(ground / name)
        before.append(Holdings.now())
        found, line = await torture(ground / name, seed, *counts)
        wrong += found
    print(line)
    return wrong


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=None, help="default: a random one, which is printed")
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--workers", type=int, default=6)
    parser.add_argument("--children", type=int, default=300, help="kills of children")
    parser.add_argument("--servers", type=int, default=60, help="kills of servers")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if given.seed is None else given.seed
    faulthandler.dump_traceback_later(LONGEST, exit=True)
    print(f"seed {seed}", flush=True)
    start = time.monotonic()
    with grounds() as ground:
        for name in ("before", "after"):
            os.environ.update(ground.environment(ground.root / name, seed))
        tempfile.tempdir = str(ground.temporary)
        before: list[Holdings] = []
        wrong = asyncio.run(run(ground.root, given, seed, before))
        mark = f"{journal.FOLDER}={ground.root}/"
        wrong += [f"left behind: {what}" for what in find_leftovers(before[-1], mark) + ground.leftovers()]
        kill_processes(find_marked_processes(mark))
    print(f"{time.monotonic() - start:.0f} s")
    for line in wrong[:SHOWN]:
        print(f"WRONG: {line}")
    if len(wrong) > SHOWN:
        print(f"WRONG: and {len(wrong) - SHOWN} more")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
