"""Workers as real processes, and the check that every test leaves none behind."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE / "user_code")]

from served_worker import Served  # noqa: E402 - found by the line above


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


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """After each test there is no thread and no process more. Its value marks the processes that the test starts."""
    mark = uuid.uuid4().hex
    monkeypatch.setenv("RIVERS_TEST_MARK", mark)
    threads = set(threading.enumerate())
    yield mark
    assert [] == wait_for_none(lambda: strangers(threads))
    assert [] == wait_for_none(lambda: marked(mark))


@pytest.fixture
def serve(tmp_path: Path, nothing_is_left: str) -> Iterator[Callable[..., Served]]:
    """Starts workers and, unless one `announces` nothing, waits until they can be called; kills them at the end."""
    with contextlib.ExitStack() as started:

        def serve(*arguments: str, announces: bool = True, **given: Any) -> Served:
            folder = tmp_path / f"worker {len(list(tmp_path.iterdir()))}"
            folder.mkdir()
            worker = Served(folder, *arguments, **given)
            started.callback(worker.close)
            return worker.announced() if announces else worker

        yield serve
