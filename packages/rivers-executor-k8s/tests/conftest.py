"""A cluster without a cluster, runs to watch in it, and the check that every test leaves nothing behind."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest

import rivers as rs

# Bodies that fork run in this process, too, to be compared. gRPC's handlers of a fork abort the child now and then if
# another thread forks at the same time.
os.environ.setdefault("GRPC_ENABLE_FORK_SUPPORT", "0")
HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE / "user_code"), str(HERE.parents[1] / "rivers-core" / "tests")]

from anywhere import SharedFolder  # noqa: E402 - found by the line above
from running.going import Going  # noqa: E402
from running.left_behind import nothing_left  # noqa: E402

from rivers_k8s_testing import FakeCluster  # noqa: E402


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The package is found by its entry point, as a stranger's is: without being installed there is nothing to test."""
    if not any(point.name == "kubernetes" for point in entry_points(group="rivers.executors")):
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.skip(reason="rivers-executor-k8s is not installed"))


@pytest.fixture
def nothing_is_left(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """After the test there is no thread and no process more. Its value marks the processes that the test starts."""
    with nothing_left(monkeypatch) as mark:
        yield mark


@pytest.fixture
def fake(nothing_is_left: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    """A FakeCluster that `rs.Executor.kubernetes()` finds."""
    with FakeCluster() as cluster:
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        yield cluster


@pytest.fixture
def store(tmp_path: Path) -> SharedFolder:
    return SharedFolder(tmp_path / "store")


@pytest.fixture
def notes(tmp_path: Path) -> Callable[[], list[str]]:
    """What bodies have noted down (`pod_steps.note`), a line each."""
    path = tmp_path / "notes"
    path.touch()
    return lambda: path.read_text().splitlines()


@pytest.fixture
def pods(tmp_path: Path, notes: Callable[[], list[str]], nothing_is_left: str) -> Callable[..., rs.Executor]:
    """An executor whose bodies note down where `notes` looks; takes what `rs.Executor.kubernetes` takes."""

    def pods(image: str = "test:1", *, env: dict[str, str] | None = None, **settings: Any) -> rs.Executor:
        own = {"RIVERS_TEST_NOTES": str(tmp_path / "notes"), "RIVERS_TEST_MARK": nothing_is_left}
        return rs.Executor.kubernetes(image, env={**own, **(env or {})}, **settings)

    return pods


@pytest.fixture
def repository(store: SharedFolder, pods: Callable[..., rs.Executor]) -> Iterator[Callable[..., rs.CodeRepository]]:
    """Makes repositories whose steps run in pods; they are shut down at the test's end."""
    with contextlib.ExitStack() as opened:

        def make(*assets: rs.Asset, executor: rs.Executor | None = None, **more: Any) -> rs.CodeRepository:
            repo = rs.CodeRepository(
                list(assets), default_executor=executor or pods(), default_io_handler=store, **more
            )
            return opened.enter_context(repo)

        yield make


@pytest.fixture
def start(repository: Callable[..., rs.CodeRepository]) -> Iterator[Callable[..., Going]]:
    """Start a run of assets; what still goes on at the test's end is cancelled."""
    runs: list[Going] = []

    def start(*assets: rs.Asset, grace: float = 0.3, retry: rs.RetryPolicy | None = None, **more: Any) -> Going:
        going = Going(repository(*assets, **more), grace, retry)
        runs.append(going)
        return going

    yield start
    for going in runs:
        going.cancel()
        going.thread.join(40)
