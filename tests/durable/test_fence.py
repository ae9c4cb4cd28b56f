"""A worker that outlives its killed controller and commits late: of each step the values of one attempt stay."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[2] / "packages/rivers-core/tests/io"))

import fence_run
from local_s3 import serve_s3

HERE = Path(__file__).parent
DEADLINE = 40.0


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """The argument `store` of PickleIOHandler."""
    if request.param == "folder":
        yield str(tmp_path / "values")
        return
    pytest.importorskip("obstore")
    with serve_s3() as server:
        yield server.store()


def until(condition: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.01)


def state_of(pid: int) -> str:
    """Return the state of a process as the kernel names it, "Z" for one that has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


class Fence:
    """The processes of a run whose first worker has stopped before its commit."""

    def __init__(self, folder: Path, store: Any, step: str) -> None:
        self.folder, self.store = folder, store
        (folder / f"stop-{step}").touch()
        controller = self.start("new")
        until((folder / "pid").exists, "the worker does not stop")
        until(lambda: bool((folder / "pid").read_text()), "the worker does not stop")
        self.old = int((folder / "pid").read_text())
        controller.kill()
        controller.wait(DEADLINE)
        until(lambda: state_of(self.old) == "T", "the worker does not stop")
        (self.record,) = (folder / "home/runs").iterdir()

    def start(self, run: str) -> subprocess.Popen[bytes]:
        """Start a controller."""
        command = [sys.executable, str(HERE / "fence_run.py"), json.dumps(self.store), str(self.folder / "home"), run]
        environment = {**os.environ, "FENCE_FOLDER": str(self.folder), "PYTHONPATH": str(HERE)}
        return subprocess.Popen(command, env=environment)

    def wake(self) -> None:
        """Let the old worker go on to its end."""
        os.kill(self.old, signal.SIGCONT)
        until(lambda: state_of(self.old) == "Z", "the old worker does not end")

    def check(self, step: str, *, is_old: bool) -> None:
        """Check that the values are those of one attempt, that of the old worker or another, as the record says."""
        repository = fence_run.make_repository(self.store)
        one, low, high = repository.load_node("last")
        assert (one, low, high) == tuple(repository.load_node(name) for name in ("one", "low", "high"))
        assert low == high
        assert is_old == (self.old == {"one": one, "pair": low}[step])
        events = [json.loads(line) for line in (self.record / "events.jsonl").read_text().splitlines()]
        stored = [event for event in events if event["event"] in ("StepSucceeded", "StepReused")]
        ended = {event["step"]: event["attempt_id"] for event in stored}
        handler = repository.io_handler_for_output("one")
        for name, key in (("one", "one"), ("pair", "low"), ("pair", "high"), ("last", "last")):
            memo = handler.read_memo(key)
            assert memo is not None
            assert memo.attempt_id == ended[name], name
        assert ended[step].endswith("-0.0" if is_old else "-1.0"), ended
        assert "success" == events[-1]["status"]


CASES = [
    ("folder", "pair", "before"),
    ("folder", "one", "after"),
    ("folder", "pair", "ended"),
    ("bucket", "one", "before"),
    ("bucket", "pair", "after"),
    ("bucket", "one", "ended"),
]


@pytest.mark.parametrize(("store", "step", "moment"), CASES, indirect=["store"])
def test_old_worker(tmp_path: Path, store: Any, step: str, moment: str) -> None:
    """The old worker commits before the new attempt does, after it, or once the run is over."""
    fence = Fence(tmp_path, store, step)
    place = {"before": step, "after": "last"}.get(moment)
    if place is not None:
        (tmp_path / f"wait-{place}").touch()
    resumed = fence.start(fence.record.name)
    if place is not None:
        until((tmp_path / f"at-{place}").exists, "the resumed run does not get there")
        fence.wake()
        (tmp_path / f"go-{place}").touch()
    assert 0 == resumed.wait(DEADLINE)
    if moment == "ended":
        fence.wake()

    fence.check(step, is_old=moment == "before")
    assert 2 == (tmp_path / "bodies").read_text().split().count(step)
    if isinstance(store, str):
        assert [] == [path for path in Path(store).rglob("*") if "~" in path.name]
