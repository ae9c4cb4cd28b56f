"""Attempts that an earlier controller has left open: which of them are adopted, and what core makes of that."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import rivers as rs
from rivers.events import StepStarted
from rivers.exceptions import ConfigurationError
from rivers.spi import Capabilities, OpenAttempt, Reach
from rivers.testing import Attempt, Script

sys.path.append(str(Path(__file__).parent))

from adopt_repo import ADOPTS, make_repo


def interrupt(folder: Path, number: int = signal.SIGKILL, *more: str) -> subprocess.CompletedProcess[str]:
    """Run a durable run whose controller gets a signal while `b` runs."""
    program = Path(__file__).with_name("adopt_repo.py")
    command = [sys.executable, str(program), str(folder), str(int(number)), *more]
    return subprocess.run(command, check=False, timeout=60, capture_output=True, text=True)


def run_id_of(folder: Path) -> str:
    [record] = (folder / "runs").iterdir()
    return record.name


def recorded(folder: Path, kind: str) -> list[dict[str, Any]]:
    lines = (folder / "runs" / run_id_of(folder) / "events.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == kind]


def bodies(folder: Path) -> list[str]:
    return (folder / "bodies").read_text().splitlines()


def resume(folder: Path, script: Script) -> rs.RunResult:
    return make_repo(folder, script).resume(run_id_of(folder), record=folder, raise_on_error=False)


def test_open_attempt_is_adopted(tmp_path: Path) -> None:
    """The backend gets the attempt with what the record has of it, and the attempt is neither noted nor told again."""
    interrupt(tmp_path)
    seen: list[OpenAttempt] = []

    def finish(attempt: Attempt) -> None:
        seen.append(attempt._run.open_attempts[attempt.spec.attempt_id])
        assert attempt._run.folder is not None
        assert (attempt._run.folder / "key").read_bytes() == attempt._run.key
        attempt.run_aside()

    script = Script({"b": finish}, capabilities=ADOPTS)
    sink = rs.ListSink()
    result = make_repo(tmp_path, script).resume(run_id_of(tmp_path), record=tmp_path, on_event=sink)

    assert result.success
    assert [("adopt", "b")] == [call for call in script.calls if call[-1] in ("a", "b")]
    [submitted] = [event for event in recorded(tmp_path, "StepSubmitted") if event["step"] == "b"]
    [started] = [event for event in recorded(tmp_path, "StepStarted") if event["step"] == "b"]
    expected = OpenAttempt(attempt_id=submitted["attempt_id"], worker="scripted", started=started["time"], seq=7)
    assert [expected] == seen
    # Who watches this process has not seen it.
    assert [started["time"]] == [one.time for one in sink.events if isinstance(one, StepStarted) and one.step == "b"]
    assert ["a", "b"] == bodies(tmp_path)
    assert not (tmp_path / "runs" / run_id_of(tmp_path) / "private").exists()


def test_nothing_is_left(tmp_path: Path) -> None:
    """A new attempt is submitted where the backend finds nothing; it does not count as a retry."""
    interrupt(tmp_path)
    script = Script({"b": [Attempt.not_started, Attempt.run_aside]}, capabilities=ADOPTS)
    result = resume(tmp_path, script)

    assert result.success
    assert [("adopt", "b"), ("submit", "b")] == [call for call in script.calls if call[-1] == "b"]
    assert 1 == result.steps["b"].attempts
    ids = [event["attempt_id"] for event in recorded(tmp_path, "StepSubmitted")]
    assert len(ids) == len(set(ids)) == 3


def test_other_executors_run_it_again(tmp_path: Path) -> None:
    """An executor that does not adopt gets a new attempt."""
    interrupt(tmp_path)
    script = Script({"b": Attempt.run_aside}, capabilities=replace(ADOPTS, adopts=False))

    assert resume(tmp_path, script).success
    assert [("submit", "b")] == [call for call in script.calls if call[-1] == "b"]


def test_upstream_that_is_lost(tmp_path: Path) -> None:
    """An attempt that has read a value which is gone is not adopted: it belongs to other data."""
    interrupt(tmp_path)
    for file in (tmp_path / "data" / ".rivers" / "runs" / run_id_of(tmp_path)).iterdir():
        file.unlink()
    script = Script({"a": Attempt.run_aside, "b": Attempt.run_aside}, capabilities=ADOPTS)

    assert resume(tmp_path, script).success
    assert [("submit", "a"), ("submit", "b")] == [call for call in script.calls if call[-1] in ("a", "b")]


def test_committed_but_not_recorded(tmp_path: Path) -> None:
    """An attempt that has committed is adopted for its result; where nothing is left of it, it has succeeded."""
    interrupt(tmp_path, signal.SIGKILL, "commits")
    script = Script({"b": Attempt.not_started}, capabilities=ADOPTS)

    assert resume(tmp_path, script).success
    assert [("adopt", "b")] == [call for call in script.calls if call[-1] in ("a", "b")]
    assert ["a", "b"] == bodies(tmp_path)


def test_another_attempt_has_committed(tmp_path: Path) -> None:
    """An open attempt is not adopted, if another one has committed the step."""
    interrupt(tmp_path, signal.SIGKILL, "commits")
    run_id = run_id_of(tmp_path)
    events = tmp_path / "runs" / run_id / "events.jsonl"
    # As if the record were that of a retry, and the attempt before had committed late.
    events.write_text(events.read_text().replace(f"{run_id}-1-0.0", f"{run_id}-1-0.9"))
    script = Script(capabilities=ADOPTS)

    assert resume(tmp_path, script).success
    assert [] == [call for call in script.calls if call[-1] in ("a", "b")]
    assert ["a", "b"] == bodies(tmp_path)


def test_sigterm(tmp_path: Path) -> None:
    """SIGTERM ends the controller of a durable run at once; nothing is cancelled, and the run is resumed."""
    ended = interrupt(tmp_path, signal.SIGTERM)

    assert 128 + signal.SIGTERM == ended.returncode
    assert "cancelled" not in ended.stdout
    assert [] == recorded(tmp_path, "RunFinished")
    assert resume(tmp_path, Script({"b": Attempt.run_aside}, capabilities=ADOPTS)).success


def test_ctrl_c_cancels(tmp_path: Path) -> None:
    """Ctrl-C cancels a durable run, as any other, and nothing is kept for a later controller."""
    ended = interrupt(tmp_path, signal.SIGINT)

    assert "cancelled" in ended.stdout
    assert not (tmp_path / "runs" / run_id_of(tmp_path) / "private").exists()


def test_needs_a_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run without a record cannot be durable, and `durable` is a bool."""
    monkeypatch.delenv("RIVERS_HOME", raising=False)
    repo = make_repo(tmp_path, Script(capabilities=Capabilities(reach=Reach.PROCESS, closures="local")))

    with pytest.raises(ConfigurationError, match="expected a run that is recorded"):
        repo.materialize(durable=True)
    with pytest.raises(ConfigurationError, match="expected True or False"):
        repo.materialize(durable="yes", record=tmp_path)  # type: ignore[arg-type]
