"""What a test has left behind: processes, found by a mark in their environment, and threads."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

__all__ = ["marked", "strangers", "wait_for_none"]


def marked(mark: str) -> list[str]:
    """The command lines of the processes that carry this mark in their environment, but for this one."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and mark.encode() in (process / "environ").read_bytes():
                found.append(process.name + " " + (process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # it has ended meanwhile
    return [line for line in found if not line.startswith(f"{os.getpid()} ")]


def wait_for_none(find: Callable[[], list[Any]], patience: float = 5.0) -> list[Any]:
    """What is still found when the patience is over: nothing, as a rule at once."""
    until = time.monotonic() + patience
    while (left := find()) and time.monotonic() < until:
        time.sleep(0.02)
    return left


def strangers(known: set[threading.Thread]) -> list[threading.Thread]:
    """New threads, but for the one that grpc.aio keeps for as long as a process lives."""
    return [thread for thread in threading.enumerate() if thread not in known and "_poll_wrapper" not in thread.name]
