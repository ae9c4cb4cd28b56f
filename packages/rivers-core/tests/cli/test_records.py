"""`rivers runs`, `show`, `logs`, `watch` and `report`: what a record shows."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import rivers as rs
from rivers.cli.runs import parse_age, parse_size

sys.path.append(str(Path(__file__).parent))

from cli_project import Cli, program, run_program, write


@rs.Asset
def quiet() -> int:
    return 1


@rs.Asset
def loud(context: rs.AssetExecutionContext, quiet: int) -> int:
    print("printed")
    context.log.warning("logged\non two lines")
    if context.attempt == 1:
        raise ValueError("the first attempt")
    return quiet


@rs.Asset
def broken(loud: int) -> int:
    return loud["x"]


REPOSITORY = rs.CodeRepository([quiet, loud, broken], default_retry_policy=rs.RetryPolicy(1))


@pytest.fixture
def record(project: Path) -> Path:
    """The record of a failed run with a retry, in the home folder of the project."""
    result = REPOSITORY.materialize(record=project / ".rivers", raise_on_error=False, tags={"by": "me"})
    assert result.record is not None
    return result.record


def test_runs(project: Path, cli: Cli, record: Path) -> None:
    """Runs are listed with their status, the newest first; a run that was killed is lost."""
    assert "no recorded runs in" in cli("runs", "--home", "empty").out
    killed = project / ".rivers/runs" / ("0" * 32)
    killed.mkdir()
    (killed / "events.jsonl").write_text((record / "events.jsonl").read_text().splitlines()[0] + "\n")
    shutil.copy(record / "header.json", killed)
    os.utime(killed / "events.jsonl", (1, 1))
    found = json.loads(cli("runs", "--json").out)

    assert [("failure", 3), ("lost", 3)] == [(run["status"], run["steps"]) for run in found]
    table = cli("runs").out.splitlines()
    assert ["run", "status", "started", "took", "steps", "target"] == table[0].split()
    assert [record.name[:8], "failure"] == table[2].split()[:2]
    assert "… and 1 older ones" in cli("runs", "-n", "1").out


def test_prune(project: Path, cli: Cli, record: Path) -> None:
    """Records are deleted by number, age and size."""
    assert "deleted 0 records\n" == cli("runs", "prune").out
    assert "deleted 0 records\n" == cli("runs", "prune", "--older-than", "1h", "--max-size", "1GB").out
    assert "deleted 1 record\n" == cli("runs", "prune", "--keep", "0").out
    assert "error: invalid --older-than 'soon': expected a time" in cli("runs", "prune", "--older-than", "soon").err
    assert "error: invalid --keep -1" in cli("runs", "prune", "--keep", "-1").err


def test_units() -> None:
    """Times and sizes have units."""
    assert (604800, 5400, 90) == (parse_age("7d"), parse_age("1.5 h"), parse_age("90s"))
    assert (5, 1024, 500 * 2**20, 2**31) == (parse_size("5"), parse_size("1k"), parse_size("500MB"), parse_size("2GiB"))


def test_show(cli: Cli, record: Path) -> None:
    """A shown run has its failure with the user's own line, its retry and its circumstances."""
    ended = cli("show")

    assert (0, "") == (ended.code, ended.err)
    for text in (
        "Run " + record.name[:8] + " failed",
        'return loud["x"]',
        "2 attempts",
        "by=me",
        "Executor.InProcess()",
    ):
        assert text in ended.out
    assert "failure" == json.loads(cli("show", record.name[:6], "--json").out)["status"]
    assert "failed" in cli("show", str(record / "events.jsonl")).out
    assert "Traceback (most recent call last)" not in ended.out
    assert "broken:\nTraceback (most recent call last)" in cli("show", "--verbose").out


def test_narrow(cli: Cli, record: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 20 columns gets lines of 20 columns."""
    monkeypatch.setenv("COLUMNS", "20")

    assert max(map(len, cli("show").out.splitlines())) <= 20
    assert max(map(len, cli("runs").out.splitlines())) <= 20
    monkeypatch.setenv("COLUMNS", "60")
    _, row = [line for line in cli("runs").out.splitlines() if "─" not in line]
    assert record.name[:8] in row


def test_damaged(cli: Cli, record: Path) -> None:
    """Of a damaged record that is shown which can be read, and the numbers of the other lines."""
    events = record / "events.jsonl"
    lines = events.read_text().splitlines()
    events.write_text("\n".join([lines[0], "garbage", *lines[1:], '{"event": "Strange"}']) + "\n" + lines[-1][:20])
    ended = cli("show")

    assert 0 == ended.code
    assert "failed" in ended.out
    assert [2, len(lines) + 2, len(lines) + 3] == [int(line.split()[2]) for line in ended.err.splitlines()]


def test_damaged_header(project: Path, cli: Cli, record: Path) -> None:
    """Without its header a record is still shown, watched and drawn; the damage is named."""
    (record / "header.json").write_bytes(b"")
    for command in (["show"], ["report"], ["logs", "loud"]):
        ended = cli(*command)
        assert 0 == ended.code
        assert ended.err.startswith("warning: .rivers/runs/")
        assert "header.json is no header of a run: Input data was truncated" in ended.err
    assert "failed" in cli("watch").out


@pytest.mark.parametrize(
    ("run", "message"),
    [
        ("ffff", "no recorded run 'ffff' in .rivers/runs"),
        ("f" * 5000, "no recorded run 'fffff"),
        ("foreign.jsonl", "foreign.jsonl holds no event of a run: line 1: "),
        ("empty.jsonl", "empty.jsonl holds no event of a run: it is empty"),
    ],
)
def test_no_record(project: Path, cli: Cli, record: Path, run: str, message: str) -> None:
    """A record that is missing or foreign is refused in at most three lines."""
    (project / "empty.jsonl").touch()
    (project / "foreign.jsonl").write_text('{"kind": "other"}\n')
    for command in (["show", run], ["report", run], ["watch", run], ["logs", run, "x"]):
        ended = cli(*command)
        assert (2, f"error: {message}") == (ended.code, ended.err[: 7 + len(message)])
        assert len(ended.err.splitlines()) <= 3


def test_logs(cli: Cli, record: Path) -> None:
    """The logs of a step have every attempt; a wrong name gets the closest one."""
    ended = cli("logs", "loud")

    assert 0 == ended.code
    lines = [line.split(maxsplit=1)[1] for line in ended.out.splitlines()]
    first = ["stdout  printed", "warning logged", "warning on two lines"]
    assert [*first, "attempt 2 ──", *first] == [line.strip() for line in lines]
    assert ended.out == cli("logs", record.name[:8], "loud", "--follow").out
    assert "quiet has logged nothing\n" == cli("logs", "quiet").err
    assert "error: no step 'laud' in the run; did you mean 'loud'?" in cli("logs", "laud").err
    assert 2 == cli("logs", "a", "b", "c").code


def test_report(project: Path, cli: Cli, record: Path) -> None:
    """The picture of a run is an HTML file; one that cannot be written is an error with 3."""
    assert "Report: run.html\n" == cli("report").out
    assert "<html" in (project / "run.html").read_text()[:500]
    ended = cli("report", "-o", "shop.py/run.html")
    assert (3, True) == (ended.code, ended.err.startswith("error: cannot write the report shop.py/run.html: "))


WATCHED = """
import pathlib, time
import rivers as rs

@rs.Asset
def first() -> None:
    print("in first")

@rs.Asset
def second(first) -> None:
    while not pathlib.Path("go").exists():
        time.sleep(0.02)
    raise KeyError("second")

repo = rs.CodeRepository([first, second])
"""


@pytest.mark.parametrize("is_killed", [False, True])
def test_watch(tmp_path: Path, is_killed: bool) -> None:
    """A watched run is shown to its end; of one that is killed half-way it is said, with exit code 3."""
    write(tmp_path / "slow.py", WATCHED)
    with (
        subprocess.Popen(program("run", "slow", "-q"), cwd=tmp_path, stdout=subprocess.DEVNULL) as runner,
        subprocess.Popen(
            program("watch"), cwd=wait_for_record(tmp_path), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as watcher,
    ):
        assert watcher.stdout is not None
        # The first line shows that it is attached.
        begun = watcher.stdout.readline()
        if is_killed:
            runner.send_signal(signal.SIGKILL)
        (tmp_path / "go").touch()
        out, err = watcher.communicate(timeout=40)

    assert "2 steps" in begun
    if is_killed:
        assert 3 == watcher.returncode
        assert f"process {runner.pid} on " in err
        assert "was killed" in out
        assert "lost" in run_program("runs", folder=tmp_path).out
    else:
        assert 1 == watcher.returncode
        assert "KeyError: 'second'" in out


def wait_for_record(folder: Path) -> Path:
    deadline = time.monotonic() + 30
    while not list(folder.glob(".rivers/runs/*/events.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.02)
    return folder
