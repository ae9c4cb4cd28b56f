"""Hosts on loopback, user code that workers can import, and the check that nothing is left on any host."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import entry_points
from pathlib import Path

import pytest

import rivers as rs

HERE = Path(__file__).parent
CODE = HERE / "user_code"
sys.path[:0] = [str(CODE), str(HERE)]
sys.path.append(str(HERE.parents[1] / "rivers-core" / "tests"))

from host_run import HostRun  # noqa: E402 - found by the line above
from loopback import Loopback, LoopbackHost, missing_program, wait_for  # noqa: E402 - the same
from running.left_behind import nothing_left  # noqa: E402 - the same

from rivers_executor_ssh import SshExecutor  # noqa: E402 - after the check of what is installed


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without the package's entry point, or without sshd, there is nothing to test."""
    installed = any(point.name == "ssh" for point in entry_points(group="rivers.executors"))
    reason = missing_program() if installed else "rivers-executor-ssh is not installed"
    for item in items:
        if HERE in item.path.parents and (
            not installed or (reason and "loopback" in getattr(item, "fixturenames", ()))
        ):
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture
def loopback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    """Hosts that a test adds; at its end nothing is left on them, nor of the controller's own."""
    temporary = tmp_path / "t"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "ssh").mkdir()
    hosts = Loopback(tmp_path / "ssh")
    try:
        with nothing_left(monkeypatch, files=True):
            yield hosts
            left = [
                line for host in hosts.hosts if not wait_for(lambda host=host: not host.left()) for line in host.left()
            ]
            for host in hosts.hosts:
                host.stop()
        assert [] == left
    finally:
        hosts.close()


@pytest.fixture
def two(loopback: Loopback) -> tuple[LoopbackHost, LoopbackHost]:
    """Two hosts, `a` and `b`."""
    return loopback.add("a"), loopback.add("b")


@pytest.fixture
def executor(loopback: Loopback) -> Callable[..., SshExecutor]:
    """Make an executor for the hosts that are there, with two slots each."""

    def make(*hosts: object, **given: object) -> SshExecutor:
        settings: dict[str, object] = {
            "python": sys.executable, "cwd": str(CODE), "config": loopback.config, "max_workers_per_host": 2,
            "grace": 1, "orphan_ttl": 20,
        }  # fmt: skip
        return SshExecutor(hosts or [host.address for host in loopback.hosts], **{**settings, **given})  # type: ignore[arg-type]

    return make


@pytest.fixture
def store(tmp_path: Path) -> rs.PickleIOHandler:
    return rs.PickleIOHandler(tmp_path / "store", shared=True)


@pytest.fixture
def start(loopback: Loopback, executor: Callable[..., SshExecutor], tmp_path: Path) -> Callable[..., HostRun]:
    """Start a run on the hosts that are there."""

    def begin(*assets: rs.Asset, hosts: Sequence[object] = (), **given: object) -> HostRun:
        return HostRun(list(assets), executor(*hosts, **given), tmp_path)

    return begin
