"""Kill the controller at random moments: `python torture/kill_controller.py --seed N`.

A controller runs three pipelines with two workers and closes; 40 times it is SIGKILLed, at moments drawn evenly from
its life, start-up and closing included. 2 s later these invariants have to hold: no process that bears its mark lives,
be it a worker, the guard, loky's resource tracker or what bodies have started, also in sessions of their own; nothing
of it is in /dev/shm or among the temporary files, but for its default store's folder, which the next start removes;
nothing was committed after its death.

Prints the seed, how long the last process lived on and each broken invariant, and exits with 1 if there is one.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import subprocess
import sys
import time
from pathlib import Path

import journal
from surroundings import Grounds, grounds

from rivers_process.processes import command_line, find_marked_processes, kill_processes

CONTROLLER = Path(__file__).with_name("controller.py")
RUNS = 3
PATIENCE = 2.0
"""Seconds after its death within which everything has to be gone."""
UNDER_WAY = 0.25
"""Seconds that a worker's last system call, which the kernel carries through, may be late on a busy machine."""
STORE = re.compile(r"/rivers-\d+-[0-9a-f]{32}$")
"""A folder of the default store, which may stay until the next start."""
LIFE = 60.0
"""Seconds within which a controller that nobody kills has to end."""


def start_controller(ground: Grounds, folder: Path, seed: int) -> subprocess.Popen[bytes]:
    """Start a controller with an empty folder of its own."""
    return subprocess.Popen(
        [sys.executable, str(CONTROLLER), str(folder), str(RUNS)],
        env={**os.environ, **ground.environment(folder, seed)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def measure_life(ground: Grounds, name: str, seed: int) -> float:
    """Measure the life of a controller that nobody kills, in seconds."""
    start = time.monotonic()
    with start_controller(ground, ground.root / name, seed) as controller:
        if controller.wait(LIFE) != 0:
            raise SystemExit(f"a controller that nobody has killed ended with {controller.returncode}")
    return time.monotonic() - start


def kill_at(ground: Grounds, folder: Path, seed: int, moment: float) -> tuple[list[str], float]:
    """Kill a controller `moment` seconds after its start; return broken invariants, and how long a process lived on."""
    shared = set(os.listdir("/dev/shm"))
    controller = start_controller(ground, folder, seed)
    time.sleep(moment)
    controller.kill()
    controller.wait(LIFE)
    death = time.time()
    mark = f"{journal.FOLDER}={folder}"
    while (left := find_marked_processes(mark)) and time.time() < death + PATIENCE:
        time.sleep(0.01)
    lived_on = time.time() - death
    wrong = [f"lives {PATIENCE:.0f} s later: {pid} {command_line(pid)}" for pid in left]
    kill_processes(left)
    ours = [name for name in set(os.listdir("/dev/shm")) - shared if str(controller.pid) in name]
    wrong += [f"left behind: /dev/shm/{name}" for name in ours]
    wrong += [f"left behind: {path}" for path in ground.leftovers() if not STORE.search(path)]
    wrong += [
        f"written {path.stat().st_ctime - death:.3f} s after the death: {path}"
        for path in (folder / "values").rglob("*")
        if path.is_file() and path.stat().st_ctime > death + UNDER_WAY
    ]
    return wrong, lived_on


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=None, help="default: a random one, which is printed")
    parser.add_argument("--kills", type=int, default=40)
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if given.seed is None else given.seed
    print(f"seed {seed}")
    draw = random.Random(seed)
    violations = 0
    slowest = 0.0
    start = time.monotonic()
    with grounds() as ground:
        whole = measure_life(ground, "first", seed)
        for n in range(given.kills):
            moment = draw.uniform(0.0, whole)
            wrong, lived_on = kill_at(ground, ground.root / str(n), seed + n, moment)
            slowest = max(slowest, lived_on)
            violations += len(wrong)
            for line in wrong:
                print(f"WRONG: killed at {moment:.3f} s: {line}")
        stores = len(ground.leftovers())
        measure_life(ground, "last", seed)
        for path in ground.leftovers():
            violations += 1
            print(f"WRONG: not removed by the next start: {path}")
    print(f"killed {given.kills} times within {whole:.1f} s of life; the last process was gone after {slowest:.2f} s")
    print(f"the last one left {stores} folders of its default store; the next start has removed them")
    print(f"{time.monotonic() - start:.0f} s")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
