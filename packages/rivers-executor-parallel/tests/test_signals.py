"""The controller is killed or interrupted: nothing outlives it, is stored after it, or is printed twice."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import worker_steps as steps

import rivers as rs

CODE = Path(__file__).parent / "user_code"
PROGRAM = """
import sys
import worker_hangs, worker_steps
import rivers as rs

store = rs.PickleIOHandler(sys.argv[1])
assets = [getattr(worker_steps, name, None) or getattr(worker_hangs, name) for name in sys.argv[2:]]
executor = rs.Executor.parallel(max_workers=2)
repo = rs.CodeRepository(assets, resources={"store": store}, default_executor=executor)
repo.materialize()
"""


@contextlib.contextmanager
def controller(tmp_path: Path, *assets: str) -> Iterator[subprocess.Popen[bytes]]:
    """A controller in a process and a session of its own, whose workers are at work."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "store"), *assets],
        env={**os.environ, "PYTHONPATH": str(CODE)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    )
    with process:
        assert process.stdout is not None
        said = b""
        while said.count(b"asleep") < len(assets):  # what two of them say at once may lie in one line
            said += process.stdout.read(1) or pytest.fail("it ended before its steps had begun")
        yield process
        process.kill()


@pytest.mark.parametrize("asset", ["stubborn", "hangs_in_c", "sleeps"])
def test_no_worker_outlives_a_killed_controller(tmp_path: Path, processes: Callable[[], list[str]], asset: str) -> None:
    """Soon after the controller's SIGKILL no worker is left, also none that is deaf or holds the GIL (L23, P8)."""
    with controller(tmp_path, asset) as process:
        process.kill()
        process.communicate(timeout=5)  # workers have the same stdout: its end is the end of the last of them
    assert [] == processes()


def test_what_bodies_started_does_not_outlive_a_killed_controller(
    tmp_path: Path, processes: Callable[[], list[str]], notes: Callable[[], list[str]]
) -> None:
    """Processes of bodies end with a killed controller, also daemons and those in sessions of their own."""
    with controller(tmp_path, "sleeps_with_processes") as process:
        process.kill()
    assert [] == processes()


def test_nothing_is_stored_after_the_controller(
    tmp_path: Path,
    store: rs.PickleIOHandler,
    processes: Callable[[], list[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A step whose body would end after the controller's death stores nothing (L23)."""
    monkeypatch.setenv("RIVERS_TEST_GO", str(tmp_path / "go"))
    with controller(tmp_path, "waits_for_go") as process:
        process.kill()
        process.wait()
        (tmp_path / "go").touch()
    assert [] == processes()

    with pytest.raises(rs.exceptions.InputLoadError):
        rs.CodeRepository([steps.waits_for_go], resources={"store": store}).load_node("waits_for_go")


@pytest.mark.parametrize("everybody", [False, True], ids=["controller", "process group"])
def test_ctrl_c(tmp_path: Path, processes: Callable[[], list[str]], everybody: bool) -> None:
    """Ctrl-C, which a terminal sends to the process group, ends in one KeyboardInterrupt; bodies clean up (L24)."""
    with controller(tmp_path, "sleeps", "sleeps_too") as process:
        if everybody:
            os.killpg(process.pid, signal.SIGINT)
        else:
            process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=30)

    assert b"KeyboardInterrupt" == errors.splitlines()[-1]
    assert 1 == errors.count(b"Traceback")
    assert 2 == out.count(b"cleaned up")
    assert [] == processes()


def test_ctrl_c_with_a_body_that_is_deaf(tmp_path: Path, processes: Callable[[], list[str]]) -> None:
    """A second Ctrl-C ends a controller whose bodies hear nothing at once; its workers go with it (I2)."""
    with controller(tmp_path, "stubborn") as process:
        process.send_signal(signal.SIGINT)
        with pytest.raises(subprocess.TimeoutExpired):  # it waits for the grace
            process.communicate(timeout=1)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=8)

    assert 0 != process.returncode
    assert [] == processes()


def test_sigterm(tmp_path: Path, processes: Callable[[], list[str]]) -> None:
    """SIGTERM cancels the run, whose bodies clean up, and ends the controller with 143 (L24)."""
    with controller(tmp_path, "sleeps", "sleeps_too") as process:
        process.terminate()
        out, errors = process.communicate(timeout=30)

    assert (143, 2, b"") == (process.returncode, out.count(b"cleaned up"), errors)
    assert [] == processes()


def test_a_controller_that_is_killed_while_workers_start(tmp_path: Path, processes: Callable[[], list[str]]) -> None:
    """Whenever the controller is killed, also while its workers are only just starting, nothing stays."""
    for after in range(5):
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, str(tmp_path / "store"), "sleeps", "sleeps_too"],
            env={**os.environ, "PYTHONPATH": str(CODE)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(0.25 + 0.06 * after)
        process.kill()
        process.wait()
        assert [] == processes()
