"""Bodies for the server's tests, as a worker imports them."""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import ctypes
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import rivers as rs

log = logging.getLogger("steps")


def note(text: object) -> None:
    """Tell the test something by a file, which outlives whoever wrote it."""
    with open(os.environ["RIVERS_TEST_NOTES"], "a") as notes:
        notes.write(f"{text}\n")


def quick() -> int:
    note("quick")
    return 7


def speaks() -> None:
    print("printed")
    print("shouted", file=sys.stderr)
    log.warning("logged")
    subprocess.run(["echo", "from a child"], check=True)


def leaves_an_alarm() -> None:
    signal.signal(signal.SIGALRM, lambda *_: None)
    signal.alarm(1000)


def fails() -> None:
    raise ValueError("no such thing")


def environment() -> None:
    note(sorted(name for name in os.environ if name.startswith("RIVERS_")))


# ── cancelled ──


def waits() -> None:
    note("waits")
    try:
        time.sleep(60)
    finally:
        note("cleaned up")


def ignores() -> None:
    """Will not stop."""
    note("ignores")
    while True:
        try:
            time.sleep(60)
        except BaseException:
            note("asked")


async def awaits() -> int:
    note("awaits")
    try:
        await asyncio.sleep(60)
    finally:
        note("cleaned up")
    return 1


async def soon() -> int:
    await asyncio.sleep(0.01)
    return 3


def hogs() -> None:
    """Holds the GIL in native code, for ever: the second lock of a plain mutex waits for its unlock."""
    note("hogs")
    libc, mutex = ctypes.PyDLL(None), ctypes.create_string_buffer(256)
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)


# ── dying ──


def leaves() -> None:
    log.warning("leaving")
    os._exit(3)


def leaves_well() -> None:
    os._exit(0)


def killed() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def crashes() -> None:
    ctypes.string_at(0)


def babbles() -> None:
    """Writes into the pipe to the server, and into whatever else it finds, what is no frame."""
    for fd in range(3, 100):
        with contextlib.suppress(OSError):
            os.write(fd, b"\xff" * 64)
    time.sleep(60)


def interrupted() -> None:
    raise KeyboardInterrupt("by the body itself")


def exits() -> None:
    raise SystemExit(3)


# ── processes and ports ──


def leaves_processes() -> None:
    """One child in its group, one in a session of its own, and one of that one's; none is waited for."""
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    note(subprocess.Popen(sleep).pid)
    note(subprocess.Popen(sleep, start_new_session=True).pid)
    twice = f"import os, subprocess; os.setsid(); subprocess.Popen({sleep!r}); os._exit(0)"
    subprocess.run([sys.executable, "-c", twice], check=True)


def leaves_processes_and_dies() -> None:
    leaves_processes()
    os.kill(os.getpid(), signal.SIGKILL)


def leaves_an_executor() -> None:
    atexit.register(note, "left")
    concurrent.futures.ProcessPoolExecutor(1).submit(abs, -1).result()


def leaves_orphans() -> None:
    """Twenty processes that end at once, without a parent that would bury them."""
    orphan = "import os, subprocess; [subprocess.Popen(['true']) for _ in range(20)]; os._exit(0)"
    subprocess.run([sys.executable, "-c", orphan], check=True)
    time.sleep(0.5)
    note("orphaned")
    time.sleep(60)


def forks() -> int:
    """Its fork prints, and comes out of the body like itself."""
    child = os.fork()
    if child == 0:
        print("from the fork", flush=True)
        raise RuntimeError("the fork has failed")
    os.waitpid(child, 0)
    time.sleep(0.1)
    return 5


def binds() -> None:
    """Tries to listen where its server does."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        listening.bind(("127.0.0.1", int(os.environ["TEST_PORT"])))
        note("bound")
    except OSError as error:
        note(type(error).__name__ + " " + os.strerror(error.errno))


def descriptors() -> None:
    """What it has open beyond what any process has."""
    open_files = [fd.resolve() for fd in Path("/proc/self/fd").iterdir()]
    note([file.name.partition(":")[0] for file in open_files].count("socket"))


# ── logs ──


def floods() -> None:
    """More than a worker keeps."""
    for number in range(2500):
        log.warning("line %d %s", number, "x" * 4000)
    note("flooded")


# ── results ──


def too_much() -> Any:
    return rs.Output(1, data_version="x" * 300_000)


def long_failure() -> None:
    raise ValueError("y" * 20_000)


# ── a graph's tasks ──


def numbers() -> list[int]:
    note("numbers")
    return [1, 2, 3]


def doubled(number: int) -> int:
    note(f"doubled {number}")
    return 2 * number


def total(values: list[int]) -> int:
    return sum(values)


def never_ends(values: list[int]) -> int:
    note("never ends")
    time.sleep(60)
    return 0


def streams() -> Iterator[int]:
    yield from (1, 2)
