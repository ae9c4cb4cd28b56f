"""`rivers run`: selections, executors, config, output and exit codes."""

from __future__ import annotations

import json
import os
import sys
import warnings
from pathlib import Path

import pytest

from rivers._executor.in_process import InProcessBackend
from rivers._record.reader import read_run
from rivers.exceptions import Problem

sys.path.append(str(Path(__file__).parent))

from cli_project import Cli, write


def record_of(folder: Path) -> Path:
    (record,) = (folder / "runs").iterdir()
    return record


EMPTY = "repo = rs.CodeRepository([])\n"


def test_good_run(project: Path, cli: Cli) -> None:
    """A run of good assets ends with 0, prints its steps, and leaves a record in .rivers."""
    ended = cli("run", "shop", "--job", "good", "--tag", "by=me")

    assert 0 == ended.code
    assert "orders" in ended.out
    assert "" == ended.err
    view, damaged = read_run(record_of(project / ".rivers"))
    assert [] == damaged
    assert view.header is not None
    assert ("shop:repo", "good", {"kind": "nightly", "by": "me"}) == (
        view.header.repository,
        view.header.job,
        view.header.tags,
    )


def test_failed_run(project: Path, cli: Cli) -> None:
    """A failed step ends with 1, also with --quiet, which shows nothing else."""
    ended = cli("run", "shop", "--home", "elsewhere")

    assert 1 == ended.code
    assert "TypeError: list indices must be integers" in ended.out
    assert "failure" == read_run(record_of(project / "elsewhere"))[0].status
    assert "" == cli("run", "shop", "-q", "-s", "orders").out
    assert "broken" in cli("run", "shop", "-q").out


def test_json(project: Path, cli: Cli) -> None:
    """`--json` prints one object on standard output, whatever modules and bodies print."""
    ended = cli("run", "shop", "--json", "--events", "all.jsonl")
    run = json.loads(ended.out)

    assert 1 == ended.code
    assert {"succeeded": 2, "failed": 1, "skipped": 1} == run["counts"]
    assert ["orders", "total", "broken", "after"] == [step["key"] for step in run["steps"]]
    assert "error" == run["steps"][2]["failure"]["reason"]
    assert run["run_id"] == read_run(project / "all.jsonl")[0].run_id


def test_secrets_are_masked(project: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """No secret of the environment reaches the screen or the events file."""
    monkeypatch.setenv("SHOP_TOKEN", "very-secret")
    write(
        project / "leak.py", "import rivers as rs, os\n@rs.Asset\ndef a(): raise ValueError(os.environ['SHOP_TOKEN'])\n"
    )
    write(project / "leaky.py", "import rivers as rs\nfrom leak import a\nrepo = rs.CodeRepository([a])\n")
    ended = cli("run", "leaky", "--events", "all.jsonl")

    assert "ValueError: ***" in ended.out
    assert "very-secret" not in ended.out + (project / "all.jsonl").read_text()


@pytest.mark.parametrize(
    ("options", "steps"),
    [
        (["--select", "orders"], ["orders"]),
        (["-s", "+total"], ["orders", "total"]),
        (["-s", "tag:daily"], ["orders", "total"]),
        (["-s", "group:source,o*"], ["orders"]),
        (["-j", "good", "-s", "*"], ["orders", "total"]),
    ],
)
def test_select(cli: Cli, options: list[str], steps: list[str]) -> None:
    """Selectors choose the steps of a run."""
    assert steps == [step["key"] for step in json.loads(cli("run", "shop", "--json", *options).out)["steps"]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["-s", "totl"], "no asset 'totl' in the repository; did you mean 'total'?"),
        (["-j", "goood"], "no job 'goood' in the repository; did you mean 'good'?"),
        (["-j", "good", "-s", "broken"], "'broken' is not part of the job"),
        (["-e", "paralel"], "invalid --executor 'paralel': expected one of"),
        (["-e", "parallel", "--set", "max_worker=2"], "invalid --set max_worker: the executor 'parallel' has no such"),
        (["-e", "parallel", "--set", "max_workers=two"], "invalid --set max_workers='two': expected a whole number"),
        (["-e", "parallel", "--set", "max_workers=0"], "invalid max_workers=0: expected a whole number of at least 1"),
        (["-e", "parallel", "--set", "max_workers"], "invalid --set 'max_workers': expected name=value"),
        (["--set", "max_workers=2"], "invalid --set max_workers: the executor 'in_process' has no such field"),
        (["--tag", "x"], "invalid --tag 'x': expected name=value"),
        (["--log-level", "loud"], "invalid --log-level 'loud': expected one of debug, info, warning, error"),
        (["--env-file", "none"], "cannot read --env-file none: No such file or directory"),
        (["--config", "none"], "cannot read --config none: No such file or directory"),
        (["--events", "no/such/folder"], "cannot write --events no/such/folder: No such file or directory"),
    ],
)
def test_wrong_options(project: Path, cli: Cli, options: list[str], message: str) -> None:
    """A wrong option ends with 2 before anything runs, in at most three lines."""
    ended = cli("run", "shop", *options)

    assert 2 == ended.code
    assert ended.err.startswith(f"error: {message}")
    assert len(ended.err.splitlines()) <= 3
    assert "dataclasses.py" not in ended.err
    assert "pathlib.py" not in cli("validate", "x" * 300 + ".py").err
    assert not (project / ".rivers").exists()


def test_invalid_repository(project: Path, cli: Cli) -> None:
    """All problems of a repository are shown, one a line."""
    write(
        project / "bad.py",
        """
        import rivers as rs
        @rs.Asset(deps=["nothing"])
        def first(): ...
        @rs.Asset(deps=["nowhere"])
        def second(): ...
        repo = rs.CodeRepository([first, second])
        """,
    )
    ended = cli("run", "bad")

    assert 2 == ended.code
    assert "error: 2 problems in the repository" == ended.err.splitlines()[0]
    assert "asset 'first' (" in ended.err
    assert 3 == len(ended.err.splitlines())


CONFIGURED = """
import enum
import pydantic
import rivers as rs

class Settings(pydantic.BaseModel):
    limit: int = 10
    mode: enum.StrEnum("Mode", {"FAST": "fast", "SLOW": "slow"}) = "fast"
    inner: dict[str, int] = {}

@rs.Asset
def orders(context: rs.AssetExecutionContext[Settings]) -> int:
    print("limit", context.config.limit)
    return context.config.limit

@rs.Asset
def free(context: rs.AssetExecutionContext) -> None:
    print("free", context.config)

repo = rs.CodeRepository([orders, free])
"""


def test_config(project: Path, cli: Cli) -> None:
    """The config of a YAML or JSON file reaches the bodies."""
    write(project / "configured.py", CONFIGURED)
    write(project / "a.yaml", "orders:\n  limit: 3\nfree: {x: [1]}\n")
    write(project / "a.json", '{"orders": {"limit": 4}}')

    printed = cli("run", "configured", "-c", "a.yaml").out
    assert "limit 3" in printed
    assert "free {'x': [1]}" in printed
    assert "limit 4" in cli("run", "configured", "-c", "a.json").out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ordrs: {limit: 3}", "c.yaml: ordrs: no such asset; did you mean 'orders'?"),
        ("orders: {limitt: 3}", "c.yaml: orders.limitt: Settings has no such field; did you mean 'limit'?"),
        ("orders: {limit: x}", "c.yaml: orders.limit: expected a valid integer"),
        ("orders: {mode: fats}", "c.yaml: orders.mode: expected 'fast' or 'slow', not 'fats'; did you mean 'fast'?"),
        ("orders: {inner: {a: x}}", "c.yaml: orders.inner.a: expected a valid integer"),
        ("orders: 3", "c.yaml: orders: expected a mapping of fields, not 3"),
        ("[1]", "c.yaml: expected a mapping of asset names, not [1]"),
        ("1: {}", "c.yaml: invalid name 1: expected the name of an asset in quotes"),
        ("orders: {limit: 3\nx", "c.yaml:2: invalid YAML: "),
        ("[" * 3000, "c.yaml: expected a mapping of asset names: it is nested too deeply"),
    ],
)
def test_wrong_config(project: Path, cli: Cli, text: str, message: str) -> None:
    """A wrong config file is refused with the path in it, what is expected and the closest name."""
    write(project / "configured.py", CONFIGURED)
    write(project / "c.yaml", text)
    ended = cli("run", "configured", "-c", "c.yaml")

    assert 2 == ended.code
    assert ended.err.startswith(f"error: {message}")
    assert len(ended.err.splitlines()) <= 3


def test_env_file(project: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables of an --env-file are set before the target is imported, and the environment's own win."""
    monkeypatch.setenv("SHOP_A", "mine")
    monkeypatch.setenv("SHOP_B", "")
    monkeypatch.delenv("SHOP_B")
    write(project / "env", "SHOP_A=theirs\nexport SHOP_B='b c'  # comment\n")
    write(
        project / "reads.py",
        "import os, rivers as rs\nprint(os.environ['SHOP_A'], os.environ['SHOP_B'])\nrepo = rs.CodeRepository([])\n",
    )
    assert "mine b c\n" in cli("run", "reads", "--env-file", "env").out
    assert "b c" == os.environ.pop("SHOP_B")


@pytest.mark.parametrize("line", ["not a variable?", "=3", 'A="no end', "A=a\0b"])
def test_wrong_env_file(project: Path, cli: Cli, line: str) -> None:
    """A line of an --env-file that is no variable is refused with its number, and is not shown."""
    write(project / "env", f"SHOP_A=1\n{line}\n")
    ended = cli("run", "shop", "--env-file", "env")

    assert (2, "error: env:2: expected NAME=value\n") == (ended.code, ended.err)
    assert "SHOP_A" not in os.environ


def test_no_frame_of_a_library(cli: Cli) -> None:
    """An error of rivers without the user's own code has no frame: the standard library's would mislead."""
    ended = cli("run", "shop", "-e", "parallel", "--set", "max_workers=0")

    assert "dataclasses.py" not in ended.err
    assert "pathlib.py" not in cli("validate", "x" * 300 + ".py").err


def test_errors_and_warnings_are_masked(project: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message of an error and of a warning has no secrets and no control characters, an error's also one line."""
    monkeypatch.setenv("SHOP_TOKEN", "hush-hush")
    text = "'\\x1b[31mred ' + os.environ['SHOP_TOKEN'] + '\\nmore' * 50"
    write(project / "raises.py", f"import os\nraise ValueError({text})\n")
    write(project / "warns.py", f"import os, warnings\nimport rivers as rs\nwarnings.warn({text})\n{EMPTY}")
    ended = cli("run", "raises")

    assert "error: cannot import raises: ValueError: red *** …" == ended.err.splitlines()[0]
    assert len(ended.err.splitlines()) <= 3
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert cli("run", "warns").err.startswith("warning: red ***\nmore")
    assert "hush" not in cli("run", "raises", "--verbose").err


def test_report(project: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """The picture of a run is written after it, also of one that failed, and opened if asked for."""
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    ended = cli("run", "shop", "--report", "deep/run.html", "--open")

    assert 1 == ended.code
    assert "Report: deep/run.html" in ended.out
    assert "printed by orders" in (project / "deep/run.html").read_text()
    assert [(project / "deep/run.html").as_uri()] == opened
    refused = cli("run", "shop", "-s", "orders", "--report", "shop.py/x")
    assert (3, True) == (refused.code, refused.err.startswith("error: cannot write the report shop.py/x: "))
    assert 1 == cli("run", "shop", "--report", "shop.py/x").code


def test_refused_by_the_executor(project: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that an executor's preflight refuses ends with 3 and leaves no record, as nothing was started."""
    problem = Problem("the cluster cannot be reached")
    monkeypatch.setattr(InProcessBackend, "preflight", lambda self, specs: [problem])
    ended = cli("run", "shop")

    assert (3, "error: the cluster cannot be reached\n") == (ended.code, ended.err)
    assert [] == list(project.glob(".rivers/runs/*"))


def test_cancelled_by_the_executor(project: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that ends as cancelled without a signal ends with 4."""
    write(
        project / "scripted.py",
        """
        import rivers as rs
        from rivers.testing import Attempt, Script, ScriptedExecutor

        @rs.Asset
        def a() -> int:
            return 1

        repo = rs.CodeRepository([a], default_executor=ScriptedExecutor(Script({"a": Attempt.cancel})))
        """,
    )
    assert 4 == cli("run", "scripted").code
