"""`rivers run --retry-failed`, and selections whose inputs are gone."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from rivers._record.header import RunHeader
from rivers._record.journal import RunJournal
from rivers._record.reader import read_header
from rivers_cli.arguments import expand_arguments

sys.path.append(str(Path(__file__).parent))

from cli_project import Cli, write

KEPT = """
import pathlib
import rivers as rs

store = rs.PickleIOHandler("values")

def note(name):
    with open("bodies", "a") as file:
        file.write(f"{name} ")

@rs.Asset(io_handler=store)
def orders() -> list[int]:
    note("orders")
    return [0, 1]

@rs.Asset(io_handler=store)
def broken(orders) -> int:
    note("broken")
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
    note(f"check{number}")
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


class Facts(NamedTuple):
    """What `--json` and the header say of a run; the state of a step without an attempt is `reused`."""

    states: dict[str, str]
    warnings: list[str]
    header: RunHeader


def retry(cli: Cli, *arguments: str) -> Facts:
    ended = cli("run", "kept", "--json", *arguments)
    facts = json.loads(ended.out)
    header = read_header(Path(facts["record"]))
    assert header is not None
    states = {step["key"]: step["state"] if step["attempts"] else "reused" for step in facts["steps"]}
    return Facts(states, facts["warnings"], header)


def fail(project: Path, cli: Cli, *arguments: str) -> str:
    """Run everything while two bodies fail, and return the run's id; then they are mended, and bodies forgotten."""
    write(project / "kept.py", KEPT)
    first = json.loads(cli("run", "kept", "--json", *arguments).out)
    assert "failure" == first["status"]
    (project / "mended").touch()
    (project / "bodies").unlink()
    return str(first["run_id"])


def test_retry_failed(project: Path, cli: Cli) -> None:
    """What failed and was skipped runs in a new run, each instance by itself; the rest is reused."""
    first = fail(project, cli, "--tag", "by=me")
    retried = retry(cli, "--retry-failed", first[:6])

    assert {"broken", "check1"} == set((project / "bodies").read_text().split())
    ran = {"broken", "after", "total/check[1]", "total/add"}
    assert ran == {key for key, state in retried.states.items() if state == "succeeded"}
    assert {"reused"} == {state for key, state in retried.states.items() if key not in ran}
    assert (first, {"by": "me"}, None) == (retried.header.retry_of, retried.header.tags, retried.header.selection)


def test_nothing_to_retry(project: Path, cli: Cli) -> None:
    """Where everything is made already nothing starts, and no record is written."""
    first = fail(project, cli)
    assert "nothing to retry: every step of run" in cli("run", "kept", "--retry-failed", "-s", "orders").out
    assert 0 == cli("run", "kept", "-q", "--retry-failed").code
    ended = cli("run", "kept", "--retry-failed")

    assert "  Reused      orders, other, total/split, total/check[0]" in cli("show").out
    assert (0, 2) == (ended.code, len(list(project.glob(".rivers/runs/*"))))
    assert "nothing to retry: every step of run" in ended.out
    # The older run, too, has had its values replaced since; of the new one nothing is left to do.
    facts = json.loads(cli("run", "kept", "--retry-failed", "--json").out)
    assert ("success", []) == (facts["status"], facts["steps"])
    assert facts["retry_of"] != first


def test_smaller_run_since(project: Path, cli: Cli) -> None:
    """Where the newest run has succeeded but an older one has not, that is named; not if all of it was made since."""
    first = fail(project, cli)
    assert 0 == cli("run", "kept", "-q", "-s", "orders").code
    ended = cli("run", "kept", "--retry-failed")
    assert (0, True) == (ended.code, "nothing to retry: every step of run" in ended.out)
    assert f"did not succeed: rivers run kept --retry-failed {first[:8]}" in ended.out

    assert 0 == cli("run", "kept", "-q").code
    assert "did not succeed" not in cli("run", "kept", "--retry-failed").out


def test_replaced_since(project: Path, cli: Cli) -> None:
    """A value that another run has replaced is made again, and a warning names that run."""
    first = fail(project, cli)
    other = json.loads(cli("run", "kept", "--json", "-s", "orders").out)["run_id"]
    retried = retry(cli, "--retry-failed", first)

    assert {"succeeded"} == {state for key, state in retried.states.items() if key != "other"}
    message = f"'orders' runs again: another run has replaced its value, in attempt {other}"
    assert any(text.startswith(message) for text in retried.warnings)


def test_changed_plan(project: Path, cli: Cli) -> None:
    """What is defined otherwise by now runs again, with what is made of it; a step that is gone is left out."""
    first = fail(project, cli)
    changed = KEPT.replace(
        "@rs.Asset(io_handler=store)\ndef broken", '@rs.Asset(io_handler=store, code_version="2")\ndef broken'
    )
    write(
        project / "kept.py", changed.replace("[orders, broken, after, other, total]", "[orders, broken, after, total]")
    )
    retried = retry(cli, "--retry-failed", first)

    assert {"broken", "check1"} == set((project / "bodies").read_text().split())
    assert "other" not in retried.states


def test_options_count_before_the_record(project: Path, cli: Cli) -> None:
    """Job, executor and its settings are those of the run that is retried, unless the options name others."""
    fail(project, cli, "--job", "some", "-e", "parallel", "--set", "max_workers=1")
    retried = retry(cli, "--retry-failed")
    assert ("some", "parallel", ("max_workers=1",)) == (
        retried.header.job,
        retried.header.executor,
        retried.header.settings,
    )
    assert {"orders": "reused", "broken": "succeeded"} == retried.states

    again = retry(cli, "--retry-failed", retried.header.retry_of or "", "-e", "in_process", "-s", "broken")
    assert ({"broken": "succeeded"}, "in_process") == (again.states, again.header.executor)


def test_unchanged_steps_are_reused(project: Path, cli: Cli) -> None:
    """What an earlier run had made and the retried one left alone, as nothing had changed, is not made again."""
    write(project / "kept.py", KEPT)
    cli("run", "kept", "-q", "--skip-unchanged")
    first = fail(project, cli, "--skip-unchanged")

    retried = retry(cli, "--retry-failed", first)
    assert ("reused", "reused") == (retried.states["orders"], retried.states["other"])
    assert {"broken", "check1"} == set((project / "bodies").read_text().split())


def test_interrupted_retry_is_resumed(project: Path, cli: Cli) -> None:
    """A scheduled run carries on a retry of the same choice that was killed."""
    fail(project, cli)
    second = retry(cli, "--retry-failed").header.run_id
    events = project / ".rivers/runs" / second / "events.jsonl"
    events.write_text("".join(events.read_text().splitlines(keepends=True)[:-1]))
    (project / "bodies").unlink()

    assert second == retry(cli, "--resume-if-interrupted").header.run_id
    assert not (project / "bodies").exists()


def test_which_run(project: Path, cli: Cli) -> None:
    """Without an id it is the newest run of the same target; one that goes on, or of another repository, is refused."""
    first = fail(project, cli)
    cli("run", "shop", "-q")
    assert first == retry(cli, "--retry-failed", "-s", "broken").header.retry_of
    write(
        project / "alien.py", "import rivers as rs\n@rs.Asset\ndef alien(): 1 / 0\nrepo = rs.CodeRepository([alien])\n"
    )
    ended = cli("run", "alien", "--retry-failed")
    assert "error: no recorded run of alien:repo in .rivers/runs" in ended.err
    alien = json.loads(cli("run", "alien", "--json").out)["run_id"]
    ended = cli("run", "kept", "--retry-failed", alien)
    assert (2, True) == (ended.code, f"run {alien[:8]} is one of another repository" in ended.err)
    journal = RunJournal(project / ".rivers/runs" / first)
    try:
        ended = cli("run", "kept", "--retry-failed", first)
    finally:
        journal.close()
    assert (2, True) == (ended.code, f"run {first[:8]} still goes on in process" in ended.err)
    ended = cli("run", "kept", "--retry-failed", "--resume-if-interrupted")
    assert (2, True) == (ended.code, "expected one of them" in ended.err)


@pytest.mark.parametrize("target", ["kept.py", "./kept.py:repo", "{folder}/kept.py"])
def test_all_names_of_a_target(project: Path, cli: Cli, target: str) -> None:
    """A run of the module is retried by the name of its file, too; a module of that name elsewhere is another one."""
    first = fail(project, cli)
    write(project / "other/kept.py", KEPT)
    ended = cli("run", "other/kept.py", "--retry-failed")
    assert (2, True) == (ended.code, "no recorded run of other/kept.py:repo" in ended.err)
    facts = json.loads(cli("run", target.format(folder=project), "--retry-failed", "--json").out)
    header = read_header(Path(facts["record"]))
    assert header is not None
    assert first == header.retry_of


def test_lost_run(project: Path, cli: Cli) -> None:
    """Of a run that was killed everything runs again of which its record has no success."""
    write(project / "kept.py", KEPT)
    cli("run", "kept", "-q")
    (record,) = (project / ".rivers/runs").iterdir()
    lines = (record / "events.jsonl").read_text().splitlines(keepends=True)
    end = next(number for number, line in enumerate(lines) if '"StepSucceeded"' in line and '"orders"' in line)
    (record / "events.jsonl").write_text("".join(lines[: end + 1]))

    states = retry(cli, "--retry-failed").states
    assert ("reused", "succeeded") == (states["orders"], states["other"])


def test_values_that_are_gone(project: Path, cli: Cli) -> None:
    """Values in memory ended with their process: a retry makes them again, a selection that needs them is refused."""
    cli("run", "shop", "-q")
    ended = cli("run", "shop", "-s", "broken", "--retry-failed")
    assert 2 == ended.code
    assert ended.err.startswith("error: the stored values of 'orders', which 'broken' needs, are gone: ")
    assert "too: --select +broken" in ended.err
    facts = json.loads(cli("run", "shop", "--json", "--retry-failed").out)

    assert {"failed": 1, "skipped": 1, "succeeded": 2} == facts["counts"]
    assert "'orders' runs again: its store does not tell which attempt has stored its value" in facts["warnings"]


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
