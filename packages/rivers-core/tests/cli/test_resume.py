"""`rivers resume`, and `rivers run --resume-if-interrupted`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rivers._record.journal import RunJournal
from rivers._record.reader import read_header

sys.path.append(str(Path(__file__).parent))

from cli_project import Cli, program, run_program, write

KEPT = """
import os, signal
from pathlib import Path
import rivers as rs

repo = None

@rs.Asset(code_version="{version}")
def orders() -> int:
    with open("bodies", "a") as file:
        file.write("orders\\n")
    return 7

@rs.Asset
def total(orders: int) -> int:
    with open("bodies", "a") as file:
        file.write("total\\n")
    if Path("kill").exists():
        os.kill(os.getpid(), signal.{signal})
    return orders

repo = rs.CodeRepository([orders, total], default_io_handler=rs.PickleIOHandler("data"))
"""


@pytest.fixture
def killed(project: Path) -> str:
    """The id of a run that was killed in its second step."""
    write(project / "kept.py", KEPT.format(version=1, signal="SIGKILL"))
    (project / "kill").touch()
    assert -signal.SIGKILL == run_program("run", "kept", "--tag", "by=me", folder=project).code
    (project / "kill").unlink()
    (record,) = (project / ".rivers/runs").iterdir()
    return record.name


def bodies(project: Path) -> list[str]:
    return (project / "bodies").read_text().split()


def test_resume(project: Path, cli: Cli, killed: str) -> None:
    """A killed run goes on by its id or without one, with its target and its tags, and is then over."""
    ended = cli("resume", "--json")
    assert 0 == ended.code, ended.err
    facts = json.loads(ended.out)
    assert (killed, "success") == (facts["run_id"], facts["status"])
    assert ["orders", "total", "total"] == bodies(project)
    header = read_header(project / ".rivers/runs" / killed)
    assert header is not None
    assert ("kept:repo", {"by": "me"}) == (header.repository, header.tags)

    again = cli("resume", killed[:8])
    assert 2 == again.code
    assert f"run {killed[:8]} has succeeded: there is nothing to resume" in again.err
    assert "  Resumed   1 time; " in cli("show", killed).out
    assert "has succeeded or still goes on" in cli("resume").err


def test_changed_plan(project: Path, cli: Cli, killed: str) -> None:
    """A plan that has changed is refused with 2, and the record stays for the old one."""
    write(project / "kept.py", KEPT.format(version=22, signal="SIGKILL"))
    ended = cli("resume")
    assert 2 == ended.code
    assert "code_version is '22', it was '1'" in ended.err
    write(project / "kept.py", KEPT.format(version=1, signal="SIGKILL"))

    assert 0 == cli("resume", killed).code


def test_refused_by_preflight(project: Path, cli: Cli, killed: str) -> None:
    """The record of a run that an executor refuses stays."""
    ended = cli("resume", "--executor", "kubernetes", "--set", "context=nowhere")
    assert 0 != ended.code

    assert 0 == cli("resume").code


def test_resume_if_interrupted(project: Path, cli: Cli, killed: str) -> None:
    """A scheduled run carries on the last one if that was killed, and begins a new one if it was not."""
    assert 0 == cli("run", "kept", "-q", "--resume-if-interrupted").code
    assert ["orders", "total", "total"] == bodies(project)
    assert [killed] == [record.name for record in (project / ".rivers/runs").iterdir()]

    assert 0 == cli("run", "kept", "-q", "--resume-if-interrupted").code
    assert ["orders", "total"] == bodies(project)[3:]


def test_another_choice_is_not_resumed(project: Path, cli: Cli, killed: str) -> None:
    """A run of another selection is another one, and so is one whose plan has changed since; the latter is said."""
    assert 0 == cli("run", "kept", "-q", "-s", "orders", "--resume-if-interrupted").code
    write(project / "kept.py", KEPT.format(version=22, signal="SIGKILL"))
    ended = cli("run", "kept", "-q", "--resume-if-interrupted")

    assert 0 == ended.code
    assert f"warning: run {killed[:8]} is not resumed: the plan has changed" in ended.err
    assert ["orders", "orders", "total"] == bodies(project)[2:]


def test_evicted(project: Path, cli: Cli) -> None:
    """A run that ends by the SIGTERM of an eviction is interrupted, too."""
    write(project / "kept.py", KEPT.format(version=1, signal="SIGTERM"))
    (project / "kill").touch()
    assert run_program("run", "kept", folder=project).code in (4, -signal.SIGTERM)
    (project / "kill").unlink()

    assert 0 == cli("run", "kept", "-q", "--resume-if-interrupted").code
    assert 1 == bodies(project).count("orders")


def test_running_elsewhere(project: Path, cli: Cli, killed: str) -> None:
    """While another process carries the run on, a scheduled one is refused and starts nothing."""
    journal = RunJournal(project / ".rivers/runs" / killed)
    try:
        ended = cli("run", "kept", "--resume-if-interrupted")
    finally:
        journal.close()

    assert 2 == ended.code
    assert "still goes on in process" in ended.err
    assert ["orders", "total"] == bodies(project)


def test_durability(project: Path, cli: Cli) -> None:
    """`--durability` takes one of two words."""
    assert 0 == cli("run", "shop", "--job", "good", "-q", "--durability", "power").code
    ended = cli("run", "shop", "--job", "good", "--durability", "disk")

    assert 2 == ended.code
    assert "invalid --durability 'disk': expected 'process' or 'power'" in ended.err


def test_retried_since(project: Path, cli: Cli, killed: str) -> None:
    """A run that was retried with success is not taken for one to resume; a retry of a part of it changes nothing."""
    assert 0 == cli("run", "kept", "-q", "--retry-failed", "-s", "orders").code
    write(project / "kept.py", KEPT.format(version=1, signal="SIGKILL").replace("return orders", "return 1 / 0"))
    assert 1 == cli("run", "kept", "-q", "--retry-failed", killed).code
    write(project / "kept.py", KEPT.format(version=1, signal="SIGKILL"))
    retry = json.loads(cli("run", "kept", "--json", "--retry-failed").out)["run_id"]
    before = bodies(project)

    ended = cli("resume")
    assert (2, before) == (ended.code, bodies(project))
    assert "nothing to resume: run " in ended.err
    assert f" was retried by run {retry[:8]}, which succeeded" in ended.err


def test_another_run_has_made_what_failed(project: Path, cli: Cli, killed: str) -> None:
    """A step that a later run has made since is not made by the older one; the remedy is one of the command line."""
    assert 0 == cli("run", "kept", "-q", "-s", "total").code
    ended = cli("resume")

    assert 2 == ended.code
    assert f"error: run {killed[:8]} cannot be resumed:" in ended.err
    assert "a later run has stored 'total' since" in ended.err
    assert f"run what did not succeed in a new run: rivers run kept:repo --retry-failed {killed[:8]}" in ended.err


def test_value_of_an_earlier_run(project: Path, cli: Cli) -> None:
    """The value of an earlier run that a run has not come to replace is no reason against it."""
    write(project / "kept.py", KEPT.format(version=1, signal="SIGKILL"))
    assert 0 == cli("run", "kept", "-q").code
    (project / "kill").touch()
    assert -signal.SIGKILL == run_program("run", "kept", folder=project).code
    (project / "kill").unlink()

    assert 0 == cli("resume").code


def test_nothing_recorded(project: Path, cli: Cli) -> None:
    """A folder without records is said to be one."""
    ended = cli("resume")

    assert (2, True) == (ended.code, ended.err.startswith("error: no recorded run in .rivers/runs"))


def test_end_of_the_other_process(project: Path, killed: str) -> None:
    """A run that another process ends while a scheduled one prepares to carry it on is not run a second time."""
    os.mkfifo(project / "c.yaml")
    late = subprocess.Popen(
        program("run", "kept", "--resume-if-interrupted", "-c", "c.yaml"),
        cwd=project,
        stderr=subprocess.PIPE,
        text=True,
    )
    # It has chosen the run once it reads the config, and then waits for the text.
    with (project / "c.yaml").open("w") as config:
        assert 0 == run_program("resume", folder=project).code
        config.write("{}")
    _, error = late.communicate(timeout=50)

    assert (2, 1) == (late.returncode, len(list((project / ".rivers/runs").iterdir()))), error
    assert f"error: run {killed[:8]} has succeeded" in error
    assert ["orders", "total", "total"] == bodies(project)


def test_executor_of_the_record(project: Path, cli: Cli) -> None:
    """A scheduled run goes on with the executor that it was begun with."""
    write(project / "kept.py", KEPT.format(version=1, signal="SIGKILL"))
    assert 0 == cli("run", "kept", "-e", "parallel", "--set", "max_workers=1").code
    (events,) = project.glob(".rivers/runs/*/events.jsonl")
    events.write_text("".join(events.read_text().splitlines(keepends=True)[:-1]))

    ended = cli("run", "kept", "--resume-if-interrupted")
    assert 0 == ended.code, ended.err
    assert "resumed: 2 steps  parallel" in ended.out


def test_durable_in_this_process(project: Path, cli: Cli) -> None:
    """A durable run warns of steps that end with it."""
    write(project / "kept.py", KEPT.format(version=1, signal="SIGKILL"))
    facts = json.loads(cli("run", "kept", "--json", "--durable").out)

    assert ["steps on Executor.InProcess() end with this process, also in a durable run"] == facts["warnings"]
