"""Stores to test on, one of them a real HTTP server that speaks enough S3; and a writer process to be killed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rivers._io.shared.default_store import DefaultStore
from rivers.io_handlers import AtomicIOHandler, InMemoryIOHandler, InputContext, OutputContext, PickleIOHandler

sys.path.append(str(Path(__file__).parent))

from local_s3 import S3Server, serve_s3


def worker_store(folder: Path) -> DefaultStore:
    """The default store as a worker has it: all it knows is the folder."""
    folder.mkdir(mode=0o700, exist_ok=True)
    return DefaultStore(folder=str(folder))


WRITER = Path(__file__).parent / "writer.py"


@pytest.fixture
def s3() -> Iterator[S3Server]:
    with serve_s3() as server:
        yield server


def _local(tmp_path: Path, request: pytest.FixtureRequest) -> AtomicIOHandler:
    return PickleIOHandler(f"file://{tmp_path}/values")


def _obstore_local(tmp_path: Path, request: pytest.FixtureRequest) -> AtomicIOHandler:
    store = pytest.importorskip("obstore.store")
    return PickleIOHandler(store.LocalStore(tmp_path), prefix="values")


def _memory(tmp_path: Path, request: pytest.FixtureRequest) -> AtomicIOHandler:
    return InMemoryIOHandler()


def _obstore_memory(tmp_path: Path, request: pytest.FixtureRequest) -> AtomicIOHandler:
    store = pytest.importorskip("obstore.store")
    return PickleIOHandler(store.MemoryStore(), prefix="values")


def _memory_url(tmp_path: Path, request: pytest.FixtureRequest) -> AtomicIOHandler:
    pytest.importorskip("obstore")
    return PickleIOHandler("memory://")


def _s3(tmp_path: Path, request: pytest.FixtureRequest) -> AtomicIOHandler:
    pytest.importorskip("obstore")
    return PickleIOHandler(request.getfixturevalue("s3").store())


def _default_store(tmp_path: Path, request: pytest.FixtureRequest) -> AtomicIOHandler:
    return worker_store(tmp_path / "values")


ALL = {"default-store": _default_store}
ALL |= {"memory": _memory, "local": _local, "obstore-local": _obstore_local}
ALL |= {"obstore-memory": _obstore_memory, "memory-url": _memory_url, "s3": _s3}


@pytest.fixture(params=ALL)
def handler(request: pytest.FixtureRequest, tmp_path: Path) -> AtomicIOHandler:
    """Each handler and store in turn, empty."""
    make: Callable[[Path, pytest.FixtureRequest], AtomicIOHandler] = ALL[request.param]
    return make(tmp_path, request)


@pytest.fixture
def writer() -> Callable[..., subprocess.Popen[str]]:
    """Start writer.py in a process of its own with these arguments."""

    def start(*arguments: object, under: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        command = [*under, sys.executable, str(WRITER), *map(str, arguments)]
        return subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    return start


@pytest.fixture
def out() -> Callable[..., OutputContext]:
    """Make the context of an output; the step has the key's name by default."""

    def make(key: str, run_id: str = "run1", attempt_id: str = "a1", step: str | None = None) -> OutputContext:
        return OutputContext(key, run_id=run_id, step=key if step is None else step, attempt_id=attempt_id)

    return make


@pytest.fixture
def load() -> Callable[..., Any]:
    """Load a key: a run's version, or the latest."""

    def read(handler: AtomicIOHandler, key: str, run_id: str | None = None) -> Any:
        return handler.load_input(InputContext(key, "reader", run_id=run_id))

    return read
