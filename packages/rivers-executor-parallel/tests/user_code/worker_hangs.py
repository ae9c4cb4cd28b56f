"""Assets that hang: in C with the GIL, deaf to signals, in a deadlock, with processes that they have started."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import rivers as rs


def say(text: str) -> None:
    print(text, flush=True)


def note(text: str) -> None:
    with open(os.environ["RIVERS_TEST_NOTES"], "a") as notes:
        notes.write(f"{text}\n")


def hang_in_c() -> None:
    """Lock a C mutex twice with the GIL held: no Python runs any more in this process, and no signal ends it."""
    mutex = ctypes.create_string_buffer(64)
    lock = ctypes.PyDLL(None).pthread_mutex_lock
    lock(mutex)
    lock(mutex)


@rs.Asset(io_handler="store", timeout=0.3)
def overdue() -> int:
    time.sleep(60)
    return 1


@rs.Asset(io_handler="store", timeout=0.3)
def overdue_in_c() -> int:
    hang_in_c()
    return 1


@rs.Asset(io_handler="store", timeout=0.3)
def overdue_and_deaf() -> int:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(60)
    return 1


@rs.Asset(io_handler="store", timeout=0.3)
def overdue_in_a_deadlock() -> int:
    lock = threading.Lock()
    lock.acquire()
    lock.acquire()
    return 1


@rs.Asset(io_handler="store")
def hangs_in_c() -> int:
    say("asleep")
    hang_in_c()
    return 1


@rs.Asset(io_handler="store")
def stubborn() -> int:
    while True:
        try:
            say("asleep")
            time.sleep(60)
        except BaseException:
            continue


def start_sleepers() -> list[int]:
    """A child, one in a session of its own, and one that is a daemon: its parent has ended."""
    child = subprocess.Popen(["sleep", "600"])
    session = subprocess.Popen(["sleep", "600"], start_new_session=True)
    daemon = subprocess.run(
        [
            sys.executable,
            "-c",
            "import subprocess as s; print(s.Popen(['sleep', '600'], start_new_session=True, stdout=-3).pid)",
        ],
        stdout=subprocess.PIPE,
        check=True,
    )
    return [child.pid, session.pid, int(daemon.stdout)]


@rs.Asset(io_handler="store", timeout=2)
def overdue_with_processes() -> int:
    note(str(start_sleepers()))
    hang_in_c()
    return 1


@rs.Asset(io_handler="store")
def sleeps_with_processes() -> int:
    start_sleepers()
    say("asleep")
    time.sleep(60)
    return 1


@rs.Asset(io_handler="store")
def leaves_processes() -> list[int]:
    return start_sleepers()


@rs.Task(io_handler="store")
def thirty() -> Iterator[rs.DynamicOutput]:
    for number in range(30):
        yield rs.DynamicOutput(key=f"k{number:02}", value=number)


@rs.Task(io_handler="store")
def sleeping(number: int) -> int:
    note(f"{number}")
    say("asleep")
    time.sleep(60)
    return number


@rs.Task(io_handler="store")
def total(numbers: list[int]) -> int:
    return sum(numbers)


@rs.Asset.from_graph(io_handler="store")
def dormitory() -> int:
    return total(thirty().map(sleeping).collect())


@rs.Task(io_handler="store", timeout=0.3)
def slow_first(number: int) -> int:
    """The first one hangs, all others are quick."""
    if number == 0:
        time.sleep(60)
    return number


@rs.Asset.from_graph(io_handler="store")
def behind_a_slow_one() -> int:
    return total(thirty().map(slow_first).collect())
