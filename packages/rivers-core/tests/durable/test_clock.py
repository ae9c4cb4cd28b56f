"""Runs after the clock was set back: nothing is lost, and nothing is refused for it.

The clock of a controller is set forward by an offset on `time` in its process, as a test cannot set the machine's.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import pytest

import rivers as rs
from rivers._record import recorder
from rivers._record.reader import read_run
from rivers._terminal.summary import summary

sys.path.append(str(Path(__file__).parent))

from kills import begin, in_child
from small_run import EXPECTED, make_repository, note, notes

HOUR = 3600


def set_forward(seconds: int = HOUR) -> None:
    """Let the clock of this process be ahead."""
    real, real_ns = time.time, time.time_ns
    time.time = lambda: real() + seconds
    time.time_ns = lambda: real_ns() + seconds * 10**9


def repository(folder: Path) -> rs.CodeRepository:
    """Return a repository of one asset, whose value is the number of the run."""

    @rs.Asset
    def made() -> int:
        note(folder, "made")
        return len(notes(folder))

    return rs.CodeRepository([made], default_io_handler=rs.PickleIOHandler(folder / "data", fsync=False))


def die_at_publication(folder: Path) -> None:
    """Run, and be killed between the commit and the rename that publishes the value."""

    def rename(*arguments: Any, **options: Any) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    os.rename = rename
    repository(folder).materialize(record=folder)


def test_value_of_the_future(tmp_path: Path) -> None:
    """A value from before the clock was set back does not hide the one that a killed run has committed after that."""

    def ahead() -> None:
        set_forward()
        repository(tmp_path).materialize(record=False)

    assert 0 == in_child(ahead)
    assert -signal.SIGKILL == in_child(lambda: die_at_publication(tmp_path))
    (record,) = (tmp_path / "runs").iterdir()
    repo = repository(tmp_path)

    assert repo.resume(record.name, record=tmp_path).success
    assert (2, ["made", "made"]) == (repo.load_node("made"), notes(tmp_path))


@pytest.mark.parametrize("limit", [2500, 4500])
def test_record_that_goes_back(tmp_path: Path, limit: int) -> None:
    """A run that was killed before the clock was set back goes on, and its record can be shown."""

    def ahead() -> None:
        set_forward()
        begin(tmp_path, "in_process", limit)

    assert -signal.SIGKILL == in_child(ahead)
    (record,) = (tmp_path / "runs").iterdir()
    repo = make_repository(tmp_path)
    result = repo.resume(record.name, record=tmp_path)

    assert result.success
    assert all(repo.load_node(name) == value for name, value in EXPECTED.items())
    assert len(notes(tmp_path)) <= 7
    text = summary(read_run(record)[0])
    assert " succeeded in " in text
    assert "-" not in text.splitlines()[0]
    assert result.report(tmp_path / "run.html").is_file()
    assert recorder.os is os
