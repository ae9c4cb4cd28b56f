"""A short form of `nox -s torture`: random SIGKILLs, of workers and of controllers, with a fixed seed.

And what it once found, for itself: children in sessions of their own lived on.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import worker_orphans

import rivers as rs
from rivers_process.processes import kill_processes

TORTURE = Path(__file__).resolve().parents[3] / "torture"
CONTROLLER = """
import os, sys, time
import worker_orphans, rivers as rs
def fork(event):
    if sys.argv[2] and type(event).__name__ == "StepStarted" and (pid := os.fork()):
        print(pid, flush=True)
    elif sys.argv[2] and type(event).__name__ == "StepStarted":
        time.sleep(60)
store = rs.PickleIOHandler(sys.argv[1])
rs.CodeRepository([worker_orphans.sleeps_beside_its_own], resources={"store": store}).materialize(
    executor=rs.Executor.parallel(max_workers=1), on_event=fork
)
"""


def verdict(script: str, *arguments: str) -> str:
    """Run a torture script and return the invariants it found broken."""
    command = [sys.executable, str(TORTURE / script), *arguments]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return "" if ended.returncode == 0 else f"{ended.stdout}{ended.stderr}"


def survivors(pids: list[int], patience: float = 10.0) -> list[int]:
    """Those of these processes that do not end."""
    left = []
    for pid in pids:
        try:
            descriptor = os.pidfd_open(pid)
        except ProcessLookupError:
            continue
        if not select.select([descriptor], [], [], patience)[0]:
            left.append(pid)
        os.close(descriptor)
    return left


def test_killed_workers() -> None:
    """20 busy workers are killed over 300 steps: all succeed, only who ran is charged, nothing is lost or left."""
    assert "" == verdict("kill_workers.py", "--seed", "1", "--runs", "2", "--steps", "150", "--kills", "20")


def test_killed_controllers() -> None:
    """3 controllers are killed: 2 s later nothing of them lives or lies around, and nothing was committed since."""
    assert "" == verdict("kill_controller.py", "--seed", "1", "--kills", "3")


def test_what_a_killed_worker_has_started(
    repository: Callable[..., rs.CodeRepository], notes: Callable[[], list[str]]
) -> None:
    """When somebody else kills a worker, its children and daemons end, too, and not only when the repository closes."""
    repository(worker_orphans.orphans_its_own).materialize(raise_on_error=False)
    pids = [int(pid) for pid in notes()[0].split()]

    assert 3 == len(pids)
    assert [] == survivors(pids)


@pytest.mark.parametrize("forks", ["", "forks"])
def test_what_the_workers_of_a_killed_controller_have_started(tmp_path: Path, forks: str) -> None:
    """When the controller is killed, the children and daemons of its workers end, though a fork of it lives on."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    surroundings = {"RIVERS_TEST_NOTES": str(fifo), "PYTHONPATH": str(Path(__file__).parent / "user_code")}
    command = [sys.executable, "-c", CONTROLLER, str(tmp_path / "store"), forks]
    with subprocess.Popen(command, env={**os.environ, **surroundings}, stdout=subprocess.PIPE) as controller:
        assert controller.stdout is not None
        forked = [int(controller.stdout.readline())] if forks else []
        pids = [int(pid) for pid in fifo.read_text().split()]
        controller.kill()

    assert 3 == len(pids)
    assert [] == survivors(pids)
    assert forked == survivors(forked, 0)
    kill_processes(forked)
