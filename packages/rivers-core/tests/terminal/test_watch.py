"""Watch a run of another process, on a terminal and in lines."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from terminal import run_program

from rivers._record.runs import RunRecords
from rivers._terminal.watch import watch
from rivers.exceptions import RecordError

HERE = Path(__file__).parent


@contextmanager
def recorded_run(home: Path, go: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the repository of `programs.py` in another process, with a record."""
    code = f"import programs; programs.recorded({str(home)!r})"
    environment = {"PYTHONPATH": str(HERE), "RIVERS_TEST_GO": str(go)}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=-3, stderr=-3) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize("is_killed", [True, False])
def test_another_process(tmp_path: Path, is_killed: bool) -> None:
    """The screen follows a run of another process, and says when that was killed."""
    home, go = tmp_path / "home", tmp_path / "go"
    with recorded_run(home, go) as process, run_program("watching", str(home)) as terminal:
        screen = terminal.wait_for("● noisy")
        assert "✗ broken  ValueError" in screen
        assert f"pid {process.pid}" in screen
        if is_killed:
            process.send_signal(signal.SIGKILL)
        else:
            go.touch()
        assert 0 == terminal.finish()
        text = "\n".join(terminal.scrollback)
    if is_killed:
        assert "was killed after" in text
        assert "  Lost        noisy" in text
        assert "status lost" in text
    else:
        assert "status failure" in text


def test_ctrl_c_ends_the_watching_alone(tmp_path: Path) -> None:
    """Ctrl-C leaves the run as it is, and the terminal as it was."""
    home, go = tmp_path / "home", tmp_path / "go"
    with recorded_run(home, go) as process, run_program("watching", str(home)) as terminal:
        terminal.wait_for("● noisy")
        terminal.interrupt()
        terminal.finish()
        assert "● noisy" not in "\n".join(terminal.scrollback)
        assert process.poll() is None
        go.touch()
        assert 0 == process.wait(20)


def test_an_ended_run_with_damage(tmp_path: Path) -> None:
    """A run that is over is shown at once, with what cannot be read of it."""
    home, go = tmp_path / "home", tmp_path / "go"
    go.touch()
    with recorded_run(home, go) as process:
        assert 0 == process.wait(20)
    folder = RunRecords(home).find()
    events = folder / "events.jsonl"
    lines = events.read_bytes().splitlines(keepends=True)
    events.write_bytes(b"".join([lines[0], b"{not json\n", *lines[1:]]))
    shown = io.StringIO()
    assert "failure" == watch(folder, shown).status
    text = shown.getvalue()
    assert "! line 2 of the record cannot be read" in text
    assert "✗ broken  ValueError: invalid literal for int() with base 10: 'many'" in text
    assert "✗ Run" in text
    with pytest.raises(RecordError, match="cannot read the events"):
        watch(tmp_path / "none", shown)
