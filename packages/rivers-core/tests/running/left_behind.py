"""What a test has left behind: processes, found by a mark in their environment, threads, and what is open."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

__all__ = ["OF_GRPC", "marked", "open_files", "strangers", "wait_for_none"]

OF_GRPC = ("anon_inode:[eventpoll]", "anon_inode:[eventfd]")
"""gRPC opens and closes these in threads of its own, some time after they are of no use any more."""


def marked(mark: str) -> list[str]:
    """The command lines of the processes that carry this mark in their environment, but for this one and trackers."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and mark.encode() in (process / "environ").read_bytes():
                found.append(process.name + " " + (process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # it has ended meanwhile
    return [line for line in found if not line.startswith(f"{os.getpid()} ") and "resource_tracker" not in line]


def wait_for_none(find: Callable[[], list[Any]], patience: float = 5.0) -> list[Any]:
    """What is still found when the patience is over: nothing, as a rule at once."""
    until = time.monotonic() + patience
    while (left := find()) and time.monotonic() < until:
        time.sleep(0.02)
    return left


def strangers(known: set[threading.Thread]) -> list[threading.Thread]:
    """New threads, but for the one that grpc.aio keeps for as long as a process lives."""
    return [thread for thread in threading.enumerate() if thread not in known and "_poll_wrapper" not in thread.name]


def open_files(but: Collection[str] = ()) -> Counter[str]:
    """What descriptors lead to: `socket:[…]`, `pipe:[…]` and paths, but for these.

    To be compared by `-`: what earlier tests have left open is closed whenever that is collected.
    """
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return Counter(name for name in found if name not in but)
