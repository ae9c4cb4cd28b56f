"""Bodies of the tests, run in jobs."""

import os
import signal
import time
from pathlib import Path

import rivers as rs

NOTES = Path(os.environ.get("RIVERS_SLURM_NOTES", "."))
"""A folder in which bodies leave files."""


def note(name: str) -> None:
    (NOTES / f"{name}-{os.getpid()}-{time.monotonic_ns()}").write_text(os.environ.get("SLURM_JOB_ID", ""))


def job() -> dict[str, str]:
    """The environment of the job, as far as Slurm has made it."""
    return {name: value for name, value in os.environ.items() if name.startswith(("SLURM_", "MY_", "RIVERS_"))}


def one() -> dict[str, str]:
    print("hello from a job")
    return job()


def add(one: dict[str, str]) -> int:
    return len(one)


@rs.Task
def keys() -> list[rs.DynamicOutput]:
    return [rs.DynamicOutput(f"k{n}", n) for n in range(6)]


@rs.Task
def mapped(n: int) -> dict[str, str]:
    return job()


@rs.Task
def gather(values: list[dict[str, str]]) -> list[str]:
    return [value["SLURM_JOB_ID"] for value in values]


def sleeps() -> None:
    note("begun")
    time.sleep(300)


def stubborn() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    note("begun")
    until = time.monotonic() + 300
    while time.monotonic() < until:
        try:
            time.sleep(1)
        except BaseException:
            pass


def kills_worker() -> None:
    """Kill the worker that supervises this body."""
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(300)


def hungry() -> int:
    """Take 500 MB for some seconds."""
    block = bytearray(500 << 20)
    time.sleep(4)
    return len(block)


def naps() -> int:
    note("napping")
    time.sleep(4)
    return 1


def after_nap(naps: int) -> int:
    return naps + 1


def sleeps_first() -> int:
    """Sleep in the first attempt alone."""
    if not list(NOTES.glob("begun-*")):
        note("begun")
        time.sleep(300)
    return 1
