"""Check that a test leaves nothing behind: processes with its mark in their environment, threads, open files.

The one home of this for all packages' tests. It is no part of `rivers.testing`: users' tests need none of it.
"""

from __future__ import annotations

import contextlib
import gc
import os
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from typing import Any

import pytest

from rivers_process.processes import command_line, find_marked_processes

__all__ = ["OF_GRPC", "VARIABLE", "marked", "new_threads", "nothing_left", "open_files", "wait_for_none"]

VARIABLE = "RIVERS_TEST_MARK"
OF_GRPC = ("anon_inode:[eventpoll]", "anon_inode:[eventfd]")
"""gRPC opens and closes these in threads of its own, some time after they are of no use any more."""


@contextlib.contextmanager
def nothing_left(monkeypatch: pytest.MonkeyPatch, *, files: bool = False) -> Iterator[str]:
    """Fail unless all threads and processes of this block end soon, and with `files` all that it opens is closed.

    Its value is the mark that processes inherit, grandchildren and orphans included.
    """
    mark = uuid.uuid4().hex
    monkeypatch.setenv(VARIABLE, mark)
    threads, opened = set(threading.enumerate()), open_files()
    yield mark
    # pytest does not rewrite this module's assertions, so that each has its message.
    left: Any = wait_for_none(lambda: new_threads(threads))
    assert not left, f"left threads: {left}"
    # What earlier tests have left is closed whenever that is collected, so that less may be open than before.
    # A multiprocessing.Pool that was left holds its pipes in a cycle, until the next collection.
    gc.collect()
    left = open_files() - opened
    assert not files or not left, f"left open files: {left}"
    left = wait_for_none(lambda: marked(mark))
    assert not left, f"left processes: {left}"


def marked(mark: str) -> list[str]:
    """Return pid and command of the processes that carry this mark, but for this one and trackers."""
    lines = [f"{pid} {command_line(pid)}" for pid in find_marked_processes(f"{VARIABLE}={mark}")]
    # A process that has ended meanwhile has no command line.
    return [line for line in lines if not line.endswith(" ") and "resource_tracker" not in line]


def wait_for_none(find: Callable[[], list[Any]], patience: float = 5.0) -> list[Any]:
    """Return what is still found when the patience is over: nothing, as a rule at once."""
    until = time.monotonic() + patience
    while (left := find()) and time.monotonic() < until:
        time.sleep(0.02)
    return left


def new_threads(known: set[threading.Thread]) -> list[threading.Thread]:
    """Return new threads, but for the one that grpc.aio keeps for as long as a process lives."""
    return [thread for thread in threading.enumerate() if thread not in known and "_poll_wrapper" not in thread.name]


def open_files(but: Collection[str] = ()) -> Counter[str]:
    """Count what descriptors lead to: `socket:[…]`, `pipe:[…]` and paths, but for these.

    Compare counts by `-`: what earlier tests have left open is closed whenever that is collected.
    """
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):  # that of the listing itself
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return Counter(name for name in found if name not in but)
