"""`rivers run --partitions`: a run for each partition, and the same command again after anything."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from rivers._record.backfill_log import BackfillLog
from rivers_process.processes import find_marked_processes, kill_processes

sys.path.append(str(Path(__file__).parent))

from cli_project import Cli, Ended, program, run_program, write

DEADLINE = 40.0
"""Seconds."""

SALES = """
import os, signal, time
from pathlib import Path
import rivers as rs

days = rs.Partitions.daily("2026-11-01", "2026-11-04")

def note(text):
    with open("bodies", "a") as file:
        file.write(text + "\\n")

@rs.Asset
def rate() -> int:
    note("rate")
    return 2

@rs.Asset(partitions=days)
def orders(context: rs.AssetExecutionContext) -> str:
    note(f"orders@{context.partition}")
    return context.partition

@rs.Asset(partitions=days)
def total(context: rs.AssetExecutionContext, orders: str) -> str:
    note(f"total@{context.partition}")
    if Path(f"fail-{context.partition}").exists():
        raise ValueError("no data today")
    if Path(f"kill-{context.partition}").exists():
        os.kill(os.getpid(), signal.SIGKILL)
    end = time.monotonic() + 60
    while Path("hold").exists() and time.monotonic() < end:
        time.sleep(0.01)
    return orders

@rs.Asset
def report(total: dict[str, str]) -> int:
    note("report")
    return len(total)

repo = rs.CodeRepository([rate, orders, total, report], default_io_handler=rs.PickleIOHandler("data"))
plain = rs.CodeRepository([rate])
"""
KEYS = [f"2026-11-0{day}" for day in range(1, 5)]
RUN = ("run", "sales:repo", "--partitions")


@pytest.fixture
def sales(project: Path) -> Path:
    """A module `sales` with two partitioned assets and two others."""
    write(project / "sales.py", SALES)
    return project


@pytest.fixture
def start(sales: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start the program in the background; nothing of it is left after the test."""
    mark = f"RIVERS_TEST_BACKFILL={sales}"
    started: list[subprocess.Popen[str]] = []

    def go(*arguments: str) -> subprocess.Popen[str]:
        environment = {**os.environ, "RIVERS_TEST_BACKFILL": str(sales)}
        process = subprocess.Popen(
            program(*arguments), cwd=sales, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        started.append(process)
        return process

    yield go
    for process in started:
        process.kill()
        process.communicate(timeout=DEADLINE)
    kill_processes(find_marked_processes(mark))


def bodies(project: Path) -> Counter[str]:
    path = project / "bodies"
    return Counter(path.read_text().split() if path.exists() else ())


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def states(ended: Ended) -> dict[str, str]:
    return {one["partition"]: one["status"] for one in json.loads(ended.out)["partitions"]}


def test_a_backfill_goes_on_after_a_failure_and_retries_it(sales: Path, cli: Cli) -> None:
    """The failed partition is named with its error; the same command again runs its failed step alone."""
    (sales / f"fail-{KEYS[1]}").touch()
    ended = cli(*RUN, "all", "--max-parallel", "2")
    assert 1 == ended.code, ended
    assert "4 of 4 partitions to run" in ended.out
    assert "ValueError: no data today" in ended.out
    assert "3 of 4 partitions succeeded" in ended.out
    assert {f"{name}@{key}": 1 for name in ("orders", "total") for key in KEYS} == bodies(sales)
    (sales / f"fail-{KEYS[1]}").unlink()
    (sales / "bodies").unlink()
    ended = cli(*RUN, "all", "--max-parallel", "2", "--json")
    assert 0 == ended.code, ended
    assert {key: "success" if key == KEYS[1] else "success before" for key in KEYS} == states(ended)
    assert {f"total@{KEYS[1]}": 1} == bodies(sales)
    assert 0 == cli(*RUN, "all").code
    assert {f"total@{KEYS[1]}": 1} == bodies(sales)


def test_assets_without_partitions_are_left_out(sales: Path, cli: Cli) -> None:
    """They would be made by each run; the output names them."""
    ended = cli(*RUN, f"{KEYS[0]}..{KEYS[1]}")
    assert 0 == ended.code, ended
    assert "Left out, as they have no partitions: rate, report" in ended.out
    assert {f"{name}@{key}" for name in ("orders", "total") for key in KEYS[:2]} == set(bodies(sales))
    assert 0 == cli("run", "sales:repo", "--select", "report").code
    assert 1 == bodies(sales)["report"]


def test_a_value_that_is_left_out_and_not_stored_is_named(sales: Path, cli: Cli) -> None:
    """All partitions would fail for it; the command that makes it is in the error."""
    write(
        sales / "sales.py", SALES.replace("AssetExecutionContext) -> str", "AssetExecutionContext, rate: int) -> str")
    )
    ended = cli(*RUN, "all")
    assert 2 == ended.code, ended
    assert "the values of 'rate', which 'orders' needs, are not stored" in " ".join(ended.err.split())
    command = "rivers run sales:repo --select rate"
    assert command in " ".join(ended.err.split())
    assert {} == bodies(sales)
    assert 0 == cli(*command.split()[1:]).code
    assert 0 == cli(*RUN, KEYS[0]).code


@pytest.mark.parametrize("executor", ["in_process", "parallel"])
def test_no_committed_body_runs_twice_after_a_kill(
    sales: Path, start: Callable[..., subprocess.Popen[str]], executor: str
) -> None:
    """A kill -9 of the backfill ends its runs, too, and the same command carries them on."""
    (sales / "hold").touch()
    command = (*RUN, "all", "--max-parallel", "2", "--executor", executor)
    killed = start(*command)
    wait_for(lambda: {f"total@{key}" for key in KEYS[:2]} <= set(bodies(sales)))
    killed.kill()
    wait_for(lambda: not find_marked_processes(f"RIVERS_TEST_BACKFILL={sales}"))
    (sales / "hold").unlink()
    again = run_program(*command, "--json", folder=sales)
    assert 0 == again.code, again
    assert dict.fromkeys(KEYS, "success") == states(again)
    assert dict.fromkeys((f"orders@{key}" for key in KEYS), 1) | {
        f"total@{key}": 2 if key in KEYS[:2] else 1 for key in KEYS
    } == bodies(sales)
    # The runs went on under their own ids.
    assert 4 == len(list((sales / ".rivers/runs").iterdir()))


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 4)])
def test_a_signal_cancels_all_and_the_next_call_goes_on(
    sales: Path, start: Callable[..., subprocess.Popen[str]], number: signal.Signals, code: int
) -> None:
    """What runs is cancelled, and nothing more starts."""
    (sales / "hold").touch()
    command = (*RUN, "all", "--max-parallel", "2", "--executor", "parallel")
    stopped = start(*command)
    wait_for(lambda: {f"total@{key}" for key in KEYS[:2]} <= set(bodies(sales)))
    stopped.send_signal(number)
    output, _ = stopped.communicate(timeout=DEADLINE)
    assert code == stopped.returncode, output
    assert f"{KEYS[0]}   cancelled" in output
    assert f"{KEYS[3]}   not run" in output
    assert [] == find_marked_processes(f"RIVERS_TEST_BACKFILL={sales}")
    (sales / "hold").unlink()
    assert 0 == run_program(*command, folder=sales).code
    assert all(bodies(sales)[f"orders@{key}"] == 1 for key in KEYS)


def test_two_of_the_same_backfill_at_once(sales: Path, start: Callable[..., subprocess.Popen[str]], cli: Cli) -> None:
    """The second is refused and starts nothing."""
    (sales / "hold").touch()
    start(*RUN, KEYS[0])
    wait_for(lambda: f"total@{KEYS[0]}" in bodies(sales))
    ended = cli(*RUN, "all")
    assert 2 == ended.code
    assert "still goes on in another process" in ended.err
    assert {f"orders@{KEYS[0]}": 1, f"total@{KEYS[0]}": 1} == bodies(sales)


def test_a_backfill_outlasts_the_records_of_its_runs(sales: Path, cli: Cli) -> None:
    """What has succeeded is known after its records were pruned; another name runs it again."""
    assert 0 == cli(*RUN, ",".join(KEYS[:2])).code
    shutil.rmtree(sales / ".rivers/runs")
    assert 0 == cli(*RUN, ",".join(KEYS[:2])).code
    assert 1 == bodies(sales)[f"orders@{KEYS[0]}"]
    assert 0 == cli(*RUN, KEYS[0], "--backfill", "again").code
    assert 2 == bodies(sales)[f"orders@{KEYS[0]}"]
    tags = [json.loads(path.read_text())["tags"] for path in (sales / ".rivers/runs").glob("*/header.json")]
    assert ["again"] == [tag["rivers/backfill"].partition("-")[0] for tag in tags]


def test_projects_with_one_home_have_backfills_of_their_own(
    sales: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second folder with a module of the same name makes its own values, and each goes on with its own backfill."""
    monkeypatch.setenv("RIVERS_HOME", str(sales / "home"))
    assert 0 == cli(*RUN, KEYS[0]).code
    write(sales / "other/sales.py", SALES)
    ended = run_program(*RUN, KEYS[0], "--json", folder=sales / "other")
    assert {KEYS[0]: "success"} == states(ended)
    assert {f"orders@{KEYS[0]}": 1, f"total@{KEYS[0]}": 1} == bodies(sales / "other")
    assert {KEYS[0]: "success before"} == states(run_program(*RUN, KEYS[0], "--json", folder=sales / "other"))


def test_another_config_is_another_backfill(sales: Path, cli: Cli) -> None:
    """It makes all partitions, and carries on no run that was interrupted with the other one."""
    (sales / "two.json").write_text('{"orders": {"rate": 2}}')
    (sales / "five.json").write_text('{"orders": {"rate": 5}}')
    (sales / "other.json").write_text('{ "orders": {"rate": 2} }')
    (sales / f"kill-{KEYS[1]}").touch()
    keys = ",".join(KEYS[:2])
    assert 1 == cli(*RUN, keys, "--config", "two.json").code
    (sales / f"kill-{KEYS[1]}").unlink()
    five = cli(*RUN, keys, "--config", "five.json", "--json")
    assert dict.fromkeys(KEYS[:2], "success") == states(five)
    assert dict.fromkeys((f"orders@{key}" for key in KEYS[:2]), 2) | {f"total@{key}": 2 for key in KEYS[:2]} == bodies(
        sales
    )
    # The content counts, not the name of the file.
    two = cli(*RUN, KEYS[0], "--config", "other.json", "--json")
    assert {KEYS[0]: "success before"} == states(two)


def test_an_interrupted_run_of_another_backfill_is_left_alone(sales: Path, cli: Cli) -> None:
    """It would go on with the wrong config, and count as made there."""
    (sales / "two.json").write_text('{"total": {"rate": 2}}')
    (sales / "five.json").write_text('{"total": {"rate": 5}}')
    assert 0 == cli("run", "sales:repo", "-s", "orders", "-p", KEYS[0]).code
    (sales / f"kill-{KEYS[0]}").touch()
    two, five = ((*RUN, KEYS[0], "-s", "total", "--json", "--config", f"{name}.json") for name in ("two", "five"))
    assert {KEYS[0]: "killed"} == states(cli(*two))
    assert {KEYS[0]: "killed"} == states(cli(*five))
    (sales / f"kill-{KEYS[0]}").unlink()
    assert {KEYS[0]: "success"} == states(cli(*two))
    assert {KEYS[0]: "success"} == states(cli(*five))


def test_success_that_was_not_noted_is_found_in_the_record(sales: Path, cli: Cli) -> None:
    """The backfill may be killed between the end of a run and its line in the log."""
    assert 0 == cli(*RUN, KEYS[0]).code
    (log,) = (sales / ".rivers/backfills").iterdir()
    log.write_bytes(log.read_bytes()[:-20])
    ended = cli(*RUN, KEYS[0], "--json")
    assert {KEYS[0]: "success before"} == states(ended)
    assert 1 == bodies(sales)[f"orders@{KEYS[0]}"]


def test_a_torn_line_spoils_no_other(tmp_path: Path) -> None:
    """A line that was cut off is skipped, and the next one is readable."""
    with BackfillLog(tmp_path, "b") as log:
        log.add("first", None)
        log.add("second", None)
        path = log.path
        with pytest.raises(BlockingIOError):
            BackfillLog(tmp_path, "b")
    path.write_bytes(path.read_bytes()[:-5])
    with BackfillLog(tmp_path, "b") as log:
        assert "first" in log
        assert "second" not in log
        log.add("third", "run")
    with BackfillLog(tmp_path, "b") as log:
        assert "third" in log


def test_a_log_that_is_no_log(sales: Path, cli: Cli) -> None:
    """A line that cannot be read is skipped; a folder in its place is refused with its path."""
    assert 0 == cli(*RUN, KEYS[0]).code
    (log,) = (sales / ".rivers/backfills").iterdir()
    log.write_bytes(b"[" * 100_000 + b"\n" + log.read_bytes())
    ended = cli(*RUN, KEYS[0])
    assert (0, True) == (ended.code, "0 of 1 partition to run, 1 has succeeded before" in ended.out)
    log.unlink()
    log.mkdir()
    ended = cli(*RUN, KEYS[0])
    assert 2 == ended.code
    assert f"cannot open the log of the backfill, .rivers/backfills/{log.name}" in " ".join(ended.err.split())


SCARCE = """
import os, resource, tempfile
from rivers.cli.partition_runs import carry_out_all
tempfile.gettempdir()
files = len(os.listdir("/proc/self/fd"))
resource.setrlimit(resource.RLIMIT_NOFILE, (files + {more}, files + {more}))
ends = []
carry_out_all([(str(number), ["--version"]) for number in range(4)], 4, ends.append)
print(*sorted(end.partition + end.status + end.output for end in ends), sep=";")
"""


@pytest.mark.parametrize(
    ("more", "ends"),
    [(8, [f"{number}success" for number in range(4)]), (1, ["cannot start its run: Too many open files"] * 4)],
)
def test_too_few_open_files(more: int, ends: list[str]) -> None:
    """Fewer run at once; where none can start, each partition fails by itself."""
    command = [sys.executable, "-c", SCARCE.format(more=more)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE)
    assert 0 == ended.returncode, ended.stderr
    found = ended.stdout.strip().split(";")
    assert all(one.endswith(wanted) for one, wanted in zip(found, ends, strict=True)), found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("sales:repo", "--partitions", "2026-11-01..2026-11-09"), "did you mean '2026-11-04'?"),
        (
            ("sales:repo", "--partitions", "2026-11-03..2026-11-01"),
            "invalid --partitions '2026-11-03..2026-11-01': expected the",
        ),
        (("sales:plain", "--partitions", "all"), "no asset of the run has partitions"),
        (("sales:repo", "--partitions", "all", "--partition", KEYS[0]), "invalid --partition with --partitions"),
        (("sales:repo", "--partitions", "all", "--retry-failed"), "invalid --retry-failed with --partitions"),
        (("sales:repo", "--max-parallel", "2"), "need --partitions"),
        (("sales:repo", "--partitions", ""), "invalid --partitions '': expected a day from 2026-11-01"),
        (("sales:repo", "--partitions", "2026-11-01,x"), "invalid --partitions 'x': expected a day from"),
        (("sales:repo", "--partitions", "all", "--backfill", "a/b"), "invalid --backfill 'a/b'"),
    ],
)
def test_a_backfill_is_refused(sales: Path, cli: Cli, arguments: tuple[str, ...], message: str) -> None:
    """Nothing starts."""
    ended = cli("run", *arguments)
    assert 2 == ended.code, ended
    assert message in ended.err
    assert not (sales / ".rivers").exists()
