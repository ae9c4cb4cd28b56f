"""User code that workers can import, runs to watch, and the check that every test leaves nothing behind."""

from __future__ import annotations

import contextlib
import multiprocessing.resource_tracker
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import loky.backend.resource_tracker
import pytest

import rivers as rs

CODE = Path(__file__).parent / "user_code"
# The user's modules; nothing tells the workers where they are but rivers.
sys.path.insert(0, str(CODE))
sys.path.append(str(Path(__file__).parents[2] / "rivers-core" / "tests"))

from running.going import Going  # noqa: E402 - found by the line above
from running.left_behind import marked, nothing_left, wait_for_none  # noqa: E402 - the same


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The package is found by its entry point, as a stranger's is: without being installed there is nothing to test."""
    if not any(point.name == "parallel" for point in entry_points(group="rivers.executors")):
        for item in items:
            if CODE.parent in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="rivers-executor-parallel is not installed"))


@pytest.fixture(scope="session")
def trackers() -> None:
    """The two resource trackers that loky starts with its first process; they live as long as this process."""
    multiprocessing.resource_tracker.ensure_running()
    loky.backend.resource_tracker.ensure_running()


@pytest.fixture(autouse=True)
def nothing_is_left(trackers: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """After each test there is no thread, file descriptor, shared memory or temporary file more, and soon no process.

    Processes are found by what they have inherited, grandchildren and orphans included. Its value is this mark.
    """
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", None)
    with nothing_left(monkeypatch, files=True) as mark:
        yield mark
    assert [] == [name for name in os.listdir("/dev/shm") if str(os.getpid()) in name]
    assert [] == os.listdir(temporary)


@pytest.fixture
def processes(nothing_is_left: str) -> Callable[[], list[str]]:
    """The processes that this test has started and that are not gone after some seconds."""
    return lambda: wait_for_none(lambda: marked(nothing_is_left))


@pytest.fixture
def store(tmp_path: Path) -> rs.PickleIOHandler:
    return rs.PickleIOHandler(tmp_path / "store")


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[str]]:
    """Return the lines that bodies have noted (`worker_steps.note`); they outlive their writers."""
    path = tmp_path / "notes"
    path.touch()
    monkeypatch.setenv("RIVERS_TEST_NOTES", str(path))
    return lambda: path.read_text().splitlines()


@pytest.fixture
def repository(store: rs.PickleIOHandler) -> Iterator[Callable[..., rs.CodeRepository]]:
    """Makes repositories with a store and a parallel executor; they are shut down at the test's end."""
    with contextlib.ExitStack() as opened:

        def make(*assets: rs.Asset, workers: int = 2, **resources: Any) -> rs.CodeRepository:
            executor = rs.Executor.parallel(max_workers=workers)
            repo = rs.CodeRepository(list(assets), resources={"store": store, **resources}, default_executor=executor)
            return opened.enter_context(repo)

        yield make


@pytest.fixture
def start(repository: Callable[..., rs.CodeRepository]) -> Iterator[Callable[..., Going]]:
    """Start a run of assets with a short grace; what still goes on at the test's end is cancelled."""
    runs: list[Going] = []

    def start(
        *assets: rs.Asset, grace: float = 0.3, workers: int = 2, retry: rs.RetryPolicy | None = None, **resources: Any
    ) -> Going:
        going = Going(repository(*assets, workers=workers, **resources), grace, retry)
        runs.append(going)
        return going

    yield start
    for going in runs:
        going.cancel()
        going.thread.join(40)
