"""`rivers plan`, `rivers validate`, `rivers executors`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from cli_project import Cli, write

from rivers._executor.in_process import InProcessBackend


@pytest.mark.parametrize(
    ("form", "first"), [("text", "2 steps in 2 levels"), ("mermaid", "flowchart LR"), ("dot", "digraph plan {")]
)
def test_plan(project: Path, cli: Cli, form: str, first: str) -> None:
    """A plan is printed as text, Mermaid and Graphviz; nothing runs."""
    ended = cli("plan", "shop", "-s", "+total", "--format", form)

    assert (0, first) == (ended.code, ended.out.splitlines()[0])
    assert not (project / ".rivers").exists()


def test_plan_as_json(cli: Cli) -> None:
    """A plan is printed as JSON, with the executor of the command line."""
    plan = json.loads(cli("plan", "shop", "-j", "good", "-e", "parallel", "--set", "max_workers=3", "-f", "json").out)

    assert ["orders", "total"] == [step["key"] for step in plan["steps"]]
    assert "Executor.Parallel(max_workers=3)" == plan["executors"][0]["text"]


def test_prints_of_the_module(project: Path, cli: Cli) -> None:
    """What a module prints when it is imported is no part of a plan."""
    write(project / "loud.py", "print('hello')\nfrom shop import repo\n")

    assert 4 == len(json.loads(cli("plan", "loud", "-f", "json").out)["steps"])
    assert json.loads(cli("validate", "loud", "--json").out)["valid"]


def test_version(cli: Cli) -> None:
    """The version is that of the package."""
    assert cli("--version").out.startswith("rivers-core 0.")


def test_plan_refuses_what_a_run_refuses(project: Path, cli: Cli) -> None:
    """A plan for an executor that an IO handler does not reach is refused, and so is an unknown format."""
    write(
        project / "near.py",
        """
        import rivers as rs
        @rs.Asset(io_handler=rs.InMemoryIOHandler())
        def a(): ...
        repo = rs.CodeRepository([a])
        """,
    )
    ended = cli("plan", "near", "-e", "parallel")

    assert 2 == ended.code
    assert "whose values stay within this process" in ended.err
    assert "error: invalid --format 'svg': expected one of text" in cli("plan", "shop", "-f", "svg").err


def test_validate(project: Path, cli: Cli) -> None:
    """A valid repository ends with 0, another one with 2 and all its problems."""
    write(
        project / "bad.py",
        "import rivers as rs\n@rs.Asset(deps=['gone'])\ndef a(): ...\nrepo = rs.CodeRepository([a])\n",
    )

    assert (0, "valid: 4 assets, 4 steps\n") == cli("validate", "shop")[:2]
    assert json.loads(cli("validate", "shop", "--json").out)["valid"]
    ended = cli("validate", "bad")
    assert 2 == ended.code
    assert ended.err.startswith("error: asset 'a' (bad.py:2): ")
    ended = cli("validate", "bad", "--json")
    assert (2, "a") == (ended.code, json.loads(ended.out)["problems"][0]["asset"])


def test_executors(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Executors are listed with version and capabilities; one that is not installed with the way to install it."""
    monkeypatch.setenv("COLUMNS", "200")
    found = {one["kind"]: one for one in json.loads(cli("executors", "--json").out)}

    assert "rivers-executor-parallel" == found["parallel"]["package"]
    assert "process" == found["parallel"]["capabilities"]["isolation"]
    assert (
        f"Executor.Parallel(max_workers={found['parallel']['capabilities']['slots']})" == found["parallel"]["default"]
    )
    table = cli("executors").out
    assert "in_process   " in table
    monkeypatch.setattr("rivers._executor.registry.installed", dict)
    monkeypatch.setattr("rivers.cli.executors.installed", dict)
    assert "kubernetes   not installed   pip install 'rivers-core[kubernetes]'" in cli("executors").out


def test_narrow_table(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal of 20 columns gets lines of 20 columns."""
    monkeypatch.setenv("COLUMNS", "20")

    assert max(len(line) for line in cli("executors").out.splitlines()) <= 20


def test_check(cli: Cli) -> None:
    """A check prints each of its results and laws, and ends with 3 where steps cannot run."""
    good = cli("executors", "check", "in_process", "--law", "event-order", "--law", "cancel-kills")
    bad = cli("executors", "check", "scripted")

    assert 0 == good.code
    lines = [line.split() for line in good.out.splitlines()]
    assert ["loads", "value", "capabilities", "preflight", "run"] == [words[1] for words in lines[:5]]
    assert ["event-order", "cancel-kills"] == [words[1] for words in lines[5:7]]
    assert "needs Capabilities.timeout='kill'" in good.out
    assert "1 passed, 1 skipped" in good.out
    assert "one\n" not in good.out + good.err
    assert 3 == bad.code
    assert "its value cannot be loaded" in bad.out
    ended = cli("executors", "check", "paralel")
    assert (2, True) == (ended.code, "did you mean 'parallel'?" in ended.err)


def test_check_finds_a_violation(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken law is printed with what was seen, why it matters and its page, and the exit code is 1."""
    monkeypatch.setattr(InProcessBackend, "cancel", lambda *arguments: 1 / 0)
    ended = cli("executors", "check", "in_process", "--law", "cancel-after-end")

    assert 1 == ended.code, ended
    assert "ZeroDivisionError" in ended.out
    assert "docs/conformance.md#cancel-after-end" in ended.out
    assert "1 failed" in ended.out


def test_check_of_an_unknown_law(cli: Cli) -> None:
    """A law that does not exist is a usage error, with the closest one."""
    ended = cli("executors", "check", "in_process", "--law", "cancel-kill")

    assert (2, True) == (ended.code, "did you mean 'cancel-kills'?" in ended.err)


def test_check_of_workers(cli: Cli) -> None:
    """The two steps of a check run in worker processes."""
    ended = cli("executors", "check", "parallel", "--set", "max_workers=1", "--law", "one-result")

    assert 0 == ended.code, ended
    assert "Executor.Parallel(max_workers=1)" in ended.out


WHY = """
import rivers as rs
from pydantic import BaseModel


class Limits(BaseModel):
    most: int = 3


@rs.Asset
def orders() -> list[int]:
    return [3, 4]


@rs.Asset
def total(context: rs.AssetExecutionContext[Limits], orders: list[int]) -> int:
    return sum(orders) + context.config.most


repo = rs.CodeRepository([orders, total], default_io_handler=rs.PickleIOHandler("values"))
"""


def test_why(project: Path, cli: Cli) -> None:
    """A plan says of each step whether it is unchanged, and a run leaves those out."""
    write(project / "why.py", WHY)
    write(project / "config.yaml", "total:\n  most: 4\n")
    assert "not stored" in cli("plan", "why", "--why").out
    assert 0 == cli("run", "why", "--skip-unchanged").code

    assert "2 of 2 steps unchanged" in cli("plan", "why", "--why").out
    found = json.loads(cli("plan", "why", "--why", "--config", "config.yaml", "-f", "json").out)
    assert [[], ["config field `most`"]] == [step["reasons"] for step in found["steps"]]
    ended = cli("run", "why", "--skip-unchanged", "--config", "config.yaml")
    assert "1 succeeded" in ended.out
    assert "1 unchanged" in ended.out
    assert 2 == cli("plan", "why", "--why", "--format", "dot").code
