"""User code that workers can import, and the check that every test leaves nothing behind."""

from __future__ import annotations

import os
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import rivers as rs

CODE = Path(__file__).parent / "user_code"
# The user's modules; nothing tells the workers where they are but rivers.
sys.path.insert(0, str(CODE))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The package is found by its entry point, as a stranger's is: without being installed there is nothing to test."""
    if not any(point.name == "subprocess" for point in entry_points(group="rivers.executors")):
        for item in items:
            item.add_marker(pytest.mark.skip(reason="rivers-executor-subprocess is not installed"))


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """After each test there is no thread or file descriptor more than before, and 2 s later no process.

    Processes are found by what they have inherited, grandchildren and orphans included.
    """
    mark = uuid.uuid4().hex
    monkeypatch.setenv("RIVERS_TEST_MARK", mark)
    threads, files = set(threading.enumerate()), len(os.listdir("/proc/self/fd"))
    yield
    assert set() == set(threading.enumerate()) - threads
    assert files == len(os.listdir("/proc/self/fd"))
    until = time.monotonic() + 2.0
    while (left := marked(mark)) and time.monotonic() < until:
        time.sleep(0.02)
    assert [] == left


def marked(mark: str) -> list[str]:
    """The command lines of the processes that carry this mark in their environment: workers and what they started."""
    found = []
    for process in Path("/proc").iterdir():
        try:
            if process.name.isdigit() and mark.encode() in (process / "environ").read_bytes():
                found.append((process / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue  # it has ended meanwhile
    return found


@pytest.fixture
def store(tmp_path: Path) -> rs.PickleIOHandler:
    return rs.PickleIOHandler(tmp_path / "store")


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """What bodies have noted down (`steps.note`), a line each: it outlives whoever wrote it."""
    path = tmp_path / "notes"
    path.touch()
    monkeypatch.setenv("RIVERS_TEST_NOTES", str(path))
    return lambda: path.read_text().splitlines()
