"""`--partition` of `rivers run` and `rivers plan`, and the partition in lists and summaries."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parent))

from cli_project import Cli, run_program, write

DAYS = """
import os, signal
from pathlib import Path
import rivers as rs

days = rs.Partitions.daily("2026-11-01", "2026-11-05")

@rs.Asset(partitions=days)
def orders(context: rs.AssetExecutionContext) -> str:
    with open("bodies", "a") as file:
        file.write(f"orders@{context.partition}\\n")
    return context.partition

@rs.Asset(partitions=days)
def total(context: rs.AssetExecutionContext, orders: str) -> str:
    with open("bodies", "a") as file:
        file.write(f"total@{context.partition}\\n")
    if Path(f"kill-{context.partition}").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    if Path(f"fail-{context.partition}").exists():
        raise ValueError("no data")
    return orders

repo = rs.CodeRepository([orders, total], default_io_handler=rs.PickleIOHandler("data"))
"""


@pytest.fixture
def days(project: Path) -> Path:
    """A module `days` with two partitioned assets."""
    write(project / "days.py", DAYS)
    return project


def bodies(project: Path) -> list[str]:
    return (project / "bodies").read_text().split()


def test_a_partition_is_run_and_shown(days: Path, cli: Cli) -> None:
    """The key is in the lines of the run, in the lists, in the summary and in what programs read."""
    ended = cli("run", "days", "--partition", "2026-11-02")
    assert 0 == ended.code, ended.err
    assert bodies(days) == ["orders@2026-11-02", "total@2026-11-02"]
    assert "of partition 2026-11-02 started" in ended.out
    assert "of partition 2026-11-02 succeeded" in ended.out
    assert "days:repo 2026-11-02" in cli("runs").out
    shown = cli("show").out
    assert "of partition 2026-11-02 succeeded" in shown
    assert "Partition 2026-11-02" in shown
    assert "2026-11-02" == json.loads(cli("show", "--json").out)["partition"]
    assert "2026-11-02" == json.loads(cli("runs", "--json").out)[0]["partition"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "'orders', 'total' need a partition"),
        (("--partition", "2026-11-09"), "did you mean '2026-11-05'?"),
    ],
)
def test_a_run_without_a_valid_partition_is_refused(
    days: Path, cli: Cli, options: tuple[str, ...], message: str
) -> None:
    """Nothing starts, and the error names a valid key."""
    ended = cli("run", "days", *options)
    assert 2 == ended.code
    assert message in ended.err
    assert not (days / "bodies").exists()


def test_a_plan_takes_a_partition(days: Path, cli: Cli) -> None:
    """The plan needs none; to compare it with what is stored does."""
    assert 0 == cli("plan", "days").code
    assert 0 == cli("validate", "days").code
    assert "need a partition" in cli("plan", "days", "--why").err
    cli("run", "days", "--partition", "2026-11-02", "--skip-unchanged")
    assert "2 of 2 steps unchanged" in cli("plan", "days", "--why", "--partition", "2026-11-02").out
    assert "0 of 2 steps unchanged" in cli("plan", "days", "--why", "--partition", "2026-11-03").out


def test_a_killed_run_is_resumed_for_its_partition(days: Path, cli: Cli) -> None:
    """Only the run of the same partition is carried on; `rivers resume` needs no key."""
    for key in ("2026-11-01", "2026-11-02"):
        (days / f"kill-{key}").touch()
        assert -signal.SIGKILL == run_program("run", "days", "--partition", key, folder=days).code
        (days / f"kill-{key}").unlink()
    (days / "bodies").unlink()
    assert 0 == cli("run", "days.py", "--partition", "2026-11-01", "--resume-if-interrupted").code
    assert bodies(days) == ["total@2026-11-01"]
    assert 0 == cli("resume").code
    assert bodies(days) == ["total@2026-11-01", "total@2026-11-02"]
    assert 0 == cli("run", "days", "--partition", "2026-11-03", "--resume-if-interrupted").code
    assert bodies(days)[2:] == ["orders@2026-11-03", "total@2026-11-03"]


def test_a_retry_has_the_partition_of_its_run(days: Path, cli: Cli) -> None:
    """`--retry-failed` needs no key."""
    (days / "fail-2026-11-02").touch()
    assert 1 == cli("run", "days", "--partition", "2026-11-02").code
    (days / "fail-2026-11-02").unlink()
    (days / "bodies").unlink()
    assert 0 == cli("run", "days", "--retry-failed").code
    assert bodies(days) == ["total@2026-11-02"]


def test_a_partition_is_retried_whatever_others_ran_since(days: Path, cli: Cli) -> None:
    """`--retry-failed` with a key takes the last run of that partition; a run of another one is refused."""
    (days / "fail-2026-11-02").touch()
    assert 1 == cli("run", "days", "--partition", "2026-11-02").code
    assert 0 == cli("run", "days", "--partition", "2026-11-03").code
    (days / "fail-2026-11-02").unlink()
    (days / "bodies").unlink()
    ended = cli("run", "days", "-p", "2026-11-02", "--retry-failed")
    assert 0 == ended.code, ended
    assert bodies(days) == ["total@2026-11-02"]
    (other, *_) = [one["run_id"] for one in json.loads(cli("runs", "--json").out) if one["partition"] == "2026-11-03"]
    ended = cli("run", "days", "-p", "2026-11-02", "--retry-failed", other)
    assert 2 == ended.code
    assert f"invalid --partition '2026-11-02' with --retry-failed {other}" in " ".join(ended.err.split())
    ended = cli("run", "days", "-p", "2026-11-05", "--retry-failed")
    assert 2 == ended.code
    assert "no recorded run of partition 2026-11-05 of days:repo" in " ".join(ended.err.split())
