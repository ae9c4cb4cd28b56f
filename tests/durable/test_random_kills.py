"""Controllers that are killed at any moment, on several executors: a resumed run ends with the same values."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from rivers._io.files.key import flat_name

LARGE = Path(__file__).with_name("large.py")
ENDED = 30.0
"""Seconds within which workers must be gone after the kill of their controller."""


def controller(folder: Path, elements: int, *arguments: str) -> subprocess.Popen[bytes]:
    """Start a controller; what it and its workers are started with names the folder."""
    environment = {**os.environ, "DURABLE_FOLDER": str(folder), "DURABLE_ELEMENTS": str(elements)}
    command = [sys.executable, str(LARGE), *arguments]
    # No pipe: workers hold it for longer than their controller lives.
    with (folder / "errors").open("wb") as errors:
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=errors)


def bodies(folder: Path) -> list[str]:
    """Return the bodies that have run."""
    path = folder / "bodies"
    return path.read_text().splitlines() if path.exists() else []


def committed(folder: Path, run_id: str, names: set[str]) -> set[str]:
    """Return those bodies whose outputs the store has, by the files of the run."""
    files = {path.name for path in (folder / "data/.rivers/runs" / run_id).glob("*") if "~" not in path.name}
    return {name for name in names if {f"{flat_name(name)}.pkl", f"{flat_name(name)}.commit"} & files}


def processes_of(folder: Path) -> list[int]:
    """Return the processes that were started with the folder in their environment."""
    wanted, found = f"DURABLE_FOLDER={folder}".encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
            except OSError:
                continue
    return found


def kill_somewhere(process: subprocess.Popen[bytes], seconds: float, errors: Path) -> bool:
    """Kill a controller after so many seconds; return False if it had ended, without an error."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait(10) == -signal.SIGKILL
    # The kill before this one may have come after the last line of the record.
    text = errors.read_text()
    assert 0 == process.returncode or "the run has succeeded" in text, text
    return False


def check_kills(folder: Path, kind: str, elements: int, fate: random.Random, longest: float) -> int:
    """Kill a run and whoever resumes it at random moments until one comes to its end; return the number of kills."""
    folder.mkdir()
    kills = 0
    run_id = ""
    while True:
        records = list((folder / "runs").iterdir()) if (folder / "runs").exists() else []
        run_id = records[0].name if records and (records[0] / "events.jsonl").exists() else ""
        kept, before = committed(folder, run_id, set(bodies(folder))), len(bodies(folder))
        # The last attempt is left alone, so that the run ends however slow the machine is.
        seconds = fate.uniform(0.2, longest) if kills < 3 else 150.0
        arguments = (kind, run_id) if run_id else (kind,)
        is_killed = kill_somewhere(controller(folder, elements, *arguments), seconds, folder / "errors")
        assert not kept & set(bodies(folder)[before:]), "a body that had committed ran again"
        if not is_killed:
            break
        kills += 1
        if not run_id:
            # It may have been killed before it had begun; then nothing has run.
            for record in (folder / "runs").glob("*"):
                if not (record / "events.jsonl").exists():
                    (record / "header.json").unlink(missing_ok=True)
                    for path in record.iterdir():
                        path.unlink()
                    record.rmdir()
    (record,) = (folder / "runs").iterdir()
    lines = [json.loads(line) for line in (record / "events.jsonl").read_bytes().splitlines()]
    ids = Counter(line["attempt_id"] for line in lines if line["event"] == "StepSubmitted")
    assert {1} == set(ids.values()), ids
    assert "success" == lines[-1]["status"]
    assert not list((folder / "data/.rivers/runs").rglob("*"))
    deadline = time.monotonic() + ENDED
    while left := processes_of(folder):
        assert time.monotonic() < deadline, left
        time.sleep(0.1)
    return kills


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("kind", "elements", "longest"), [("in_process", 30, 1.5), ("parallel", 30, 2.5), ("subprocess", 2, 3.0)]
)
def test_random_kills(kind: str, elements: int, longest: float, tmp_path: Path) -> None:
    """Killed up to three times at random moments, a run ends with the values of a whole one, and leaves nothing.

    No body that had committed runs again, and no attempt id is given twice.
    """
    # Seeded by its name, so that a failure can be had again, as far as the machine allows.
    assert check_kills(tmp_path / "run", kind, elements, random.Random(kind), longest) >= 0


@pytest.mark.long
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    ("kind", "elements", "longest", "runs"),
    [("in_process", 30, 1.5, 50), ("parallel", 30, 2.5, 35), ("subprocess", 2, 3.0, 15)],
)
def test_many_random_kills(kind: str, elements: int, longest: float, runs: int, tmp_path: Path) -> None:
    """The same at about 300 moments in all."""
    fate = random.Random(f"many {kind}")
    kills = sum(check_kills(tmp_path / str(number), kind, elements, fate, longest) for number in range(runs))
    assert kills > runs
