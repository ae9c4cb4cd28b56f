"""Retries and resumed runs of code, or with a config, that is not what the run was begun with."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from rivers._record.header import RunHeader
from rivers._record.reader import read_header

sys.path.append(str(Path(__file__).parent))

from cli_project import Cli, run_program, write

TAXED = """
import os, pathlib, signal
import rivers as rs
from pydantic import BaseModel

class Least(BaseModel):
    minimum: int = 0

def note(name):
    with open("bodies", "a") as file:
        file.write(f"{name} ")

def with_tax(amount):
    return amount * 9

@rs.Asset
def orders() -> list[int]:
    note("orders")
    return [1, 2, 3]

@rs.Asset
def customers(context: rs.AssetExecutionContext[Least]) -> int:
    note("customers")
    return context.config.minimum

@rs.Task
def split(orders) -> list[rs.DynamicOutput]:
    return [rs.DynamicOutput(key=str(number), value=number) for number in orders]

@rs.Task
def priced(number) -> int:
    note(f"priced{number}")
    if number == 3 and pathlib.Path("kill").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    return with_tax(number)

@rs.Task
def add(numbers) -> int:
    return sum(numbers)

@rs.Asset.from_graph
def revenue(orders) -> object:
    return add(split(orders).map(priced).collect())

@rs.Asset
def report(revenue, customers) -> str:
    note("report")
    if pathlib.Path("fail").exists():
        raise ValueError("not yet")
    text = f"{revenue} from {customers}"
    pathlib.Path("report").write_text(text)
    return text

repo = rs.CodeRepository([orders, customers, revenue, report], default_io_handler=rs.PickleIOHandler("values"))
"""
RATED = TAXED.replace("amount * 9", "amount * 1000")


@pytest.fixture
def failed(project: Path, cli: Cli) -> str:
    """The id of a run of which only the last step has failed."""
    write(project / "taxed.py", TAXED)
    (project / "fail").touch()
    facts = json.loads(cli("run", "taxed", "--json").out)
    assert "failure" == facts["status"]
    (project / "fail").unlink()
    (project / "bodies").unlink()
    return str(facts["run_id"])


@pytest.fixture
def killed(project: Path) -> str:
    """The id of a run that was killed in the third of three instances."""
    write(project / "taxed.py", TAXED)
    (project / "kill").touch()
    assert -signal.SIGKILL == run_program("run", "taxed", folder=project).code
    (project / "kill").unlink()
    (project / "bodies").unlink()
    (record,) = (project / ".rivers/runs").iterdir()
    return record.name


def bodies(project: Path) -> set[str]:
    return set((project / "bodies").read_text().split())


def header_of(project: Path, run_id: str) -> RunHeader:
    header = read_header(project / ".rivers/runs" / run_id)
    assert header is not None
    return header


def facts_of(cli: Cli, *arguments: str) -> dict[str, Any]:
    ended = cli(*arguments, "--json")
    assert 0 == ended.code, ended.err
    facts: dict[str, Any] = json.loads(ended.out)
    return facts


def test_retry_of_edited_code(project: Path, cli: Cli, failed: str) -> None:
    """A step whose helper was edited runs again in a retry, with what is made of it, and a warning names it."""
    write(project / "taxed.py", RATED)
    facts = facts_of(cli, "run", "taxed", "--retry-failed")

    assert {"priced1", "priced2", "priced3", "report"} == bodies(project)
    assert "6000 from 0" == (project / "report").read_text()
    assert ["'revenue/priced' runs again: its code, or a value that it uses, has changed"] == facts["warnings"]


def test_retry_of_cosmetic_edits(project: Path, cli: Cli, failed: str) -> None:
    """Comments and annotations are no other code."""
    write(
        project / "taxed.py", TAXED.replace("def with_tax(amount):", "# of 1900 %\ndef with_tax(amount: int) -> int:")
    )

    assert [] == facts_of(cli, "run", "taxed", "--retry-failed")["warnings"]
    assert {"report"} == bodies(project)


def test_resume_of_edited_code(project: Path, cli: Cli, killed: str) -> None:
    """A resumed run keeps what other code has made and says so; a retry of it makes all of that with one version."""
    write(project / "taxed.py", RATED)
    (project / "fail").touch()
    ended = cli("run", "taxed", "--resume-if-interrupted")
    assert "the run goes on with values that other code has made, of 'revenue/priced'" in ended.out
    assert {"priced3", "report"} == bodies(project)
    (project / "fail").unlink()
    # Once more: the record still knows that the instances are of two versions.
    facts = facts_of(cli, "resume")
    assert killed == facts["run_id"]
    assert any("other code has made, of 'revenue/priced'" in text for text in facts["warnings"])
    assert "3027 from 0" == (project / "report").read_text()

    (project / "bodies").unlink()
    facts_of(cli, "run", "taxed", "--retry-failed")
    assert {"priced1", "priced2", "priced3", "report"} == bodies(project)
    assert "6000 from 0" == (project / "report").read_text()


def test_resume_of_the_same_code(project: Path, cli: Cli, killed: str) -> None:
    """Where nothing was edited nothing is said."""
    assert [] == facts_of(cli, "resume")["warnings"]


def test_retry_with_another_config(project: Path, cli: Cli, failed: str) -> None:
    """A step whose config is another one runs again in a retry."""
    write(project / "c.yaml", "customers: {minimum: 20}\n")
    facts = facts_of(cli, "run", "taxed", "--retry-failed", "-c", "c.yaml")

    assert {"customers", "report"} == bodies(project)
    assert "54 from 20" == (project / "report").read_text()
    assert ["'customers' runs again: the config of 'customers' is another one, in `minimum`"] == facts["warnings"]


def test_resume_with_another_config(project: Path, cli: Cli, killed: str) -> None:
    """A run does not go on with another config for what it has made, and its record keeps the one of then."""
    write(project / "c.yaml", "customers: {minimum: 20}\n")
    ended = cli("resume", "-c", "c.yaml")
    assert 2 == ended.code
    assert "the config of 'customers' is another one, in `minimum`, and what it has made counts" in ended.err
    assert {} == header_of(project, killed).configs

    ended = cli("run", "taxed", "-q", "--resume-if-interrupted", "-c", "c.yaml")
    assert (0, True) == (ended.code, f"warning: run {killed[:8]} is not resumed: " in ended.err)
    assert "54 from 20" == (project / "report").read_text()


def test_late_import(project: Path, cli: Cli) -> None:
    """A recorded run imports nothing to compare code; whether another package is loaded yet is no difference."""
    write(
        project / "late.py",
        """
        import pathlib
        import rivers as rs

        @rs.Asset
        def own() -> int:
            import heavy
            return heavy.number

        @rs.Asset
        def foreign() -> str:
            import this as zen
            return zen.s

        @rs.Asset
        def broken(own, foreign) -> int:
            if pathlib.Path("fail").exists():
                raise ValueError("not yet")
            return 1

        repo = rs.CodeRepository([own, foreign, broken], default_io_handler=rs.PickleIOHandler("values"))
        """,
    )
    write(project / "heavy.py", "number = 1\n")
    (project / "fail").touch()
    # The imports of the bodies are still there in the second of two runs of this process.
    first = json.loads(cli("run", "late", "--json").out)["run_id"]
    (project / "fail").unlink()
    facts = facts_of(cli, "run", "late", "--retry-failed")

    assert ["broken"] == [step["key"] for step in facts["steps"] if step["attempts"]]
    assert {"own": "", "foreign": True, "broken": True} == {
        step.key: step.code and True for step in header_of(project, first).steps
    }
