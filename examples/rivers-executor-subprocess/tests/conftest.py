"""User code that workers can import, and the check that every test leaves nothing behind."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import rivers as rs

CODE = Path(__file__).parent / "user_code"
# The user's modules; nothing tells the workers where they are but rivers.
sys.path.insert(0, str(CODE))
sys.path.append(str(Path(__file__).parents[3] / "packages" / "rivers-core" / "tests"))

from running.left_behind import nothing_left  # noqa: E402 - found by the line above


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The package is found by its entry point, as a stranger's is: without being installed there is nothing to test."""
    if not any(point.name == "subprocess" for point in entry_points(group="rivers.executors")):
        for item in items:
            item.add_marker(pytest.mark.skip(reason="rivers-executor-subprocess is not installed"))


@pytest.fixture(autouse=True)
def nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """After each test there is no thread or file descriptor more than before, and 2 s later no process.

    Processes are found by what they have inherited, grandchildren and orphans included.
    """
    with nothing_left(monkeypatch, files=True) as mark:
        yield mark


@pytest.fixture
def store(tmp_path: Path) -> rs.PickleIOHandler:
    return rs.PickleIOHandler(tmp_path / "store")


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Return the lines that bodies have noted (`steps.note`); they outlive their writers."""
    path = tmp_path / "notes"
    path.touch()
    monkeypatch.setenv("RIVERS_TEST_NOTES", str(path))
    return lambda: path.read_text().splitlines()
