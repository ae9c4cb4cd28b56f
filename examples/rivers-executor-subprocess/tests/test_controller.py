"""A controller that is killed takes its workers with it."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

CODE = Path(__file__).parent / "user_code"
PROGRAM = """
import sys
import rivers as rs, user_steps as steps
from rivers_executor_subprocess import SubprocessExecutor
store = rs.PickleIOHandler(sys.argv[1])
repo = rs.CodeRepository([getattr(steps, name) for name in sys.argv[2:]], resources={"store": store})
repo.materialize(executor=SubprocessExecutor(max_workers=2))
"""


def controller(tmp_path: Path, *assets: str, waits: bool = True) -> subprocess.Popen[bytes]:
    """A controller in a process of its own; with `waits` its workers are asleep in their bodies."""
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, str(tmp_path), *assets],
        env={**os.environ, "PYTHONPATH": str(CODE)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
    )
    assert process.stdout is not None
    for _ in assets if waits else ():
        assert b"asleep\n" == process.stdout.readline()
    return process


@pytest.mark.parametrize("asset", ["stubborn", "holds_the_gil"])
def test_no_worker_outlives_a_killed_controller(tmp_path: Path, asset: str) -> None:
    """2 s after the controller's SIGKILL no worker is left, also none that ignores signals or holds the GIL."""
    with controller(tmp_path, asset) as process:
        assert process.stdout is not None
        process.kill()
        # Workers hold the same stdout: its end is the end of the last of them.
        ended, _, _ = select.select([process.stdout], [], [], 2.0)

        assert [process.stdout] == ended
        assert b"" == process.stdout.read()


def test_no_bash_task_outlives_a_killed_controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """2 s after the controller's SIGKILL the command of a bash task is gone, too, with all that it had started."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    monkeypatch.setenv("RIVERS_TEST_FIFO", str(fifo))
    with controller(tmp_path, "sleeps_in_bash", waits=False) as process, open(fifo, "rb", buffering=0) as reported:
        assert b"asleep\n" == reported.readline()
        process.kill()
        ended, _, _ = select.select([reported], [], [], 2.0)

        assert [reported] == ended
        assert b"" == reported.read()


def test_ctrl_c_ends_the_workers(tmp_path: Path) -> None:
    """SIGINT to the controller stops the workers, whose bodies clean up, and ends it with KeyboardInterrupt."""
    notes = tmp_path / "notes"
    notes.touch()
    os.environ["RIVERS_TEST_NOTES"] = str(notes)
    try:
        process = controller(tmp_path, "says_and_sleeps")
    finally:
        del os.environ["RIVERS_TEST_NOTES"]
    with process:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()

    assert b"KeyboardInterrupt" in errors.splitlines()[-1]
    assert ["cleaned up"] == notes.read_text().splitlines()
