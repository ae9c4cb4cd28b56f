"""`rivers run --retry-failed`, and selections whose inputs are gone."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from rivers_cli.arguments import expand_arguments

sys.path.append(str(Path(__file__).parent))

from cli_project import Cli, write

KEPT = """
import pathlib
import rivers as rs

store = rs.PickleIOHandler("values")

@rs.Asset(io_handler=store)
def orders() -> list[int]:
    return [0, 1]

@rs.Asset(io_handler=store)
def broken(orders) -> int:
    if not pathlib.Path("mended").exists():
        raise ValueError("broken")
    return 1

@rs.Asset(io_handler=store)
def after(broken) -> int:
    return broken

@rs.Asset(io_handler=store)
def other(orders) -> int:
    return 2

@rs.Task
def split(orders) -> list[rs.DynamicOutput]:
    return [rs.DynamicOutput(key=str(number), value=number) for number in orders]

@rs.Task
def check(number) -> int:
    if number and not pathlib.Path("mended").exists():
        raise ValueError("one of them")
    return number

@rs.Task
def add(numbers) -> int:
    return sum(numbers)

@rs.Asset.from_graph(io_handler=store)
def total(orders) -> object:
    return add(split(orders).map(check).collect())

repo = rs.CodeRepository([orders, broken, after, other, total], jobs=[rs.Job("some", [orders, broken])])
"""


def steps_of(cli: Cli, *arguments: str) -> set[str]:
    return {step["key"] for step in json.loads(cli("run", "kept", "--json", *arguments).out)["steps"]}


def test_retry_failed(project: Path, cli: Cli) -> None:
    """What failed and what was skipped runs again, a graph asset as a whole; values of the rest are loaded."""
    write(project / "kept.py", KEPT)
    first = json.loads(cli("run", "kept", "--json").out)
    assert {"failed": 2, "skipped": 2, "succeeded": 4} == first["counts"]
    (project / "mended").touch()

    again = {"broken", "after", "total/split", "total/check[0]", "total/check[1]", "total/add"}
    assert again == steps_of(cli, "--retry-failed", first["run_id"][:6])
    retried = json.loads((next(project.glob(".rivers/runs/*/header.json"))).read_text())
    assert retried.get("retry_of", first["run_id"]) == first["run_id"]
    assert "nothing to retry: every step of run" in cli("run", "kept", "--retry-failed").out


def test_retry_of_the_same_target(project: Path, cli: Cli) -> None:
    """Without a run it is the newest one of the same target, with its job; selectors choose of it."""
    write(project / "kept.py", KEPT)
    cli("run", "kept", "--job", "some")
    cli("run", "shop", "-q")

    assert {"broken"} == steps_of(cli, "--retry-failed")
    assert "nothing to retry" in cli("run", "kept", "--retry-failed", "-s", "orders").out
    write(
        project / "alien.py", "import rivers as rs\n@rs.Asset\ndef alien(): 1 / 0\nrepo = rs.CodeRepository([alien])\n"
    )
    alien = json.loads(cli("run", "alien", "--json").out)["run_id"]
    ended = cli("run", "kept", "--retry-failed", alien)
    assert "error: the repository has none of the steps that did not succeed in run" in ended.err


def test_lost_run(project: Path, cli: Cli) -> None:
    """Of a run that was killed everything that had not succeeded runs again."""
    write(project / "kept.py", KEPT)
    cli("run", "kept", "-q")
    (record,) = (project / ".rivers/runs").iterdir()
    lines = (record / "events.jsonl").read_text().splitlines(keepends=True)
    end = next(number for number, line in enumerate(lines) if '"StepSucceeded"' in line and '"orders"' in line)
    (record / "events.jsonl").write_text("".join(lines[: end + 1]))

    assert {"broken", "after", "other"} < steps_of(cli, "--retry-failed")


def test_values_that_are_gone(cli: Cli) -> None:
    """Values in memory ended with their process: a retry or a selection that needs them is refused, with the remedy."""
    cli("run", "shop", "-q")
    for options, remedy in (
        (["--retry-failed"], "too: without --retry-failed: --select +broken"),
        (["-s", "broken"], "too: --select +broken"),
    ):
        ended = cli("run", "shop", *options)
        assert 2 == ended.code
        assert ended.err.startswith("error: the stored values of 'orders', which 'broken' needs, are gone: ")
        assert remedy in ended.err


@pytest.mark.parametrize(
    ("arguments", "expanded"),
    [
        (["--retry-failed"], ["--retry-failed=latest"]),
        (["--retry-failed", "shop:repo"], ["--retry-failed=latest", "shop:repo"]),
        (["--retry-failed", "-q"], ["--retry-failed=latest", "-q"]),
        (["--retry-failed", "0123abcd", "shop"], ["--retry-failed", "0123abcd", "shop"]),
        (["--retry-failed", "latest"], ["--retry-failed", "latest"]),
        (["--retry-failed=abcd"], ["--retry-failed=abcd"]),
    ],
)
def test_optional_value(arguments: list[str], expanded: list[str]) -> None:
    """`--retry-failed` takes the following argument only if it names a run."""
    assert expanded == expand_arguments(arguments)
