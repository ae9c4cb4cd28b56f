"""Two writers at once: one wins a step, each run has its own values (faults O4, O5)."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from rivers.exceptions import OutputCommitError
from rivers.io_handlers import AtomicIOHandler, InputContext, OutputContext, PickleIOHandler

Writer = Callable[..., "subprocess.Popen[str]"]


def test_same_step(tmp_path: Path, writer: Writer) -> None:
    """Of two processes that commit the same step at once exactly one wins, 200 times, and its value is visible."""
    process = writer("races", tmp_path, 200)
    said, errors = process.communicate(timeout=55)

    assert 0 == process.returncode, errors
    assert 200 == sum(int(line.split()[1]) for line in said.splitlines())


def test_different_runs(tmp_path: Path, writer: Writer) -> None:
    """Two runs that store the same keys at once each read their own; the latest value is one of the two, whole."""
    process = writer("runs", tmp_path, 200)
    said, errors = process.communicate(timeout=55)

    assert 0 == process.returncode, errors
    assert {"left 200", "right 200"} == set(said.splitlines())


@pytest.mark.parametrize("several", [False, True])
def test_threads(handler: AtomicIOHandler, several: bool) -> None:
    """Of eight threads that commit the same step through one handler exactly one wins, on every store."""
    start, won = threading.Barrier(8), []

    def attempt(name: str) -> None:
        start.wait(10)
        try:
            if several:
                for key in ("x", "y"):
                    handler.stage(OutputContext(key, run_id="r", step="multi", attempt_id=name), name)
                handler.commit("r", "multi", name, ("x", "y"))
            else:
                handler.handle_output(OutputContext("x", run_id="r", step="x", attempt_id=name), name)
        except OutputCommitError as error:
            if error.retryable:
                raise
        else:
            won.append(name)

    threads = [threading.Thread(target=attempt, args=(f"t{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert 1 == len(won)
    assert won[0] == handler.committed("r", "multi" if several else "x")
    assert {won[0]} == {handler.load_input(InputContext("x", run_id=run)) for run in ("r", None)}


@pytest.mark.parametrize("ended", [False, True])
def test_zombie(tmp_path: Path, writer: Writer, ended: bool) -> None:
    """An attempt stopped before its commit and woken after its successor's, or after the run's end, is refused."""
    zombie = writer("stop", tmp_path)
    os.waitid(os.P_PID, zombie.pid, os.WSTOPPED)
    handler = PickleIOHandler(tmp_path)
    handler.handle_output(OutputContext("k", run_id="run1", step="k", attempt_id="a2"), "successor")
    if ended:
        handler.end_run("run1")
    zombie.send_signal(signal.SIGCONT)
    said, errors = zombie.communicate(timeout=20)

    assert "retryable=False" in said, said + errors
    assert ("the run has ended" if ended else "'a2' has committed") in said
    assert "successor" == handler.load_input(InputContext("k", run_id="run1"))
    assert [] == [path for path in tmp_path.rglob("*") if "~" in path.name]
