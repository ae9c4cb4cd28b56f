"""Bodies for the client's tests, as a worker imports them; each records that it ran."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import time

LINES = 40
log = logging.getLogger("steps")


def note(text: str) -> None:
    with open(os.environ["RIVERS_TEST_NOTES"], "a") as notes:
        notes.write(f"{text}\n")


def quick() -> None:
    note("quick")


def speaks() -> None:
    """Logs numbered lines, some at a time."""
    note("speaks")
    for number in range(LINES):
        log.warning("line %d", number)
        if number % 4 == 0:
            time.sleep(0.01)


def speaks_slowly() -> None:
    """Logs numbered lines for more than a second."""
    note("speaks_slowly")
    for number in range(LINES):
        log.warning("line %d", number)
        time.sleep(0.03)


def floods() -> None:
    """Logs far more than a worker keeps, faster than a slow controller fetches."""
    note("floods")
    for number in range(1500):
        log.warning("line %d %s", number, "x" * 8000)
    note("flooded")


def waits() -> None:
    """Waits until it is cancelled."""
    note("waits")
    log.warning("waiting")
    time.sleep(60)


def dies() -> None:
    note("dies")
    log.warning("dying")
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGKILL)


def misses_a_file() -> None:
    with open("/nowhere/2024.csv"):
        pass


async def swallows_cancellation() -> None:
    note("swallows_cancellation")
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(60)
