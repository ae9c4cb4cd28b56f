"""User code that workers can import, and the check that every test leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
import time
import uuid
from collections import Counter
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
    threads, files = set(threading.enumerate()), open_files()
    yield
    assert set() == set(threading.enumerate()) - threads
    left_open = open_files() - files  # what earlier tests have left is closed whenever that is collected
    assert not left_open, left_open
    until = time.monotonic() + 2.0
    while (left := marked(mark)) and time.monotonic() < until:
        time.sleep(0.02)
    assert [] == left


def open_files() -> Counter[str]:
    """What this process has open, but for the folder that is read for it."""
    names = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            names.append(os.readlink(f"/proc/self/fd/{name}"))
    return Counter(names)


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
