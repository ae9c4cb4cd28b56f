"""A Dask cluster of real processes, user code that its workers can import, and the check that nothing is left."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import distributed.utils
import pytest

import rivers as rs

CODE = Path(__file__).parent / "user_code"
sys.path.insert(0, str(CODE))
sys.path.append(str(Path(__file__).parents[3] / "packages" / "rivers-core" / "tests"))

from dask_processes import ClusterProcesses  # noqa: E402 - found by the lines above
from running.left_behind import nothing_left  # noqa: E402


@pytest.fixture
def make_cluster(tmp_path: Path) -> Iterator[Callable[..., ClusterProcesses]]:
    """Return a function that starts a cluster, which ends with the test."""
    made: list[ClusterProcesses] = []

    def make(*, workers: int = 1, **environment: str) -> ClusterProcesses:
        folder = tmp_path / f"cluster-{len(made)}"
        folder.mkdir()
        made.append(ClusterProcesses(folder, **environment))
        for _ in range(workers):
            made[-1].add_worker()
        return made[-1]

    yield make
    for cluster in made:
        cluster.close()


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterProcesses]:
    """A cluster that no test breaks: one worker with two threads, a GPU and 8 GB, and one with a thread alone."""
    cluster = ClusterProcesses(tmp_path_factory.mktemp("cluster"))
    cluster.add_worker("--resources", "GPU=1 MEMORY=8e9")
    cluster.add_worker(threads=1)
    yield cluster
    cluster.close()


@pytest.fixture(scope="session", autouse=True)
def offload_thread() -> None:
    """Start the one thread that distributed keeps for as long as a process lives."""
    distributed.utils._offload_executor.submit(int).result()


@pytest.fixture(autouse=True)
def nothing_is_left(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """After each test there is no thread more than before, and 2 s later no process that this one has started."""
    with nothing_left(monkeypatch) as mark:
        yield mark


@pytest.fixture
def store(tmp_path: Path) -> rs.PickleIOHandler:
    return rs.PickleIOHandler(tmp_path / "store", shared=True)


@pytest.fixture
def notes(tmp_path: Path) -> Path:
    """A file for what bodies do, which the config of their assets names."""
    path = tmp_path / "notes"
    path.touch()
    return path
