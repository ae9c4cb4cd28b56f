"""Nothing set at all works: the default store moves to where the workers reach it when a run needs that."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import handed_on as steps
import numpy as np
import pytest
import small
from rivers_executor_subprocess import SubprocessExecutor

import rivers as rs
from rivers.exceptions import GraphValidationError, InputLoadError

TOTAL = float(np.arange(100_000.0).sum())
ELSEWHERE = SubprocessExecutor(max_workers=2)


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the stores; nothing is left there."""
    folder = tmp_path / "place"
    folder.mkdir()
    monkeypatch.setenv("RIVERS_DEFAULT_STORE", str(folder))
    yield folder
    assert [] == list(folder.iterdir())


def repository() -> rs.CodeRepository:
    return rs.CodeRepository([steps.numbers, steps.seen, steps.kept_here, steps.sums, steps.after_sums])


def test_workers_hand_values_on(place: Path) -> None:
    """Values go from worker to worker and to this process, fan-outs included, arrays mapped and read-only."""
    with repository() as repo:
        result = repo.materialize(executor=ELSEWHERE)

        assert result.success
        assert {"subprocess", "in_process"} == {report.executor for report in result.steps.values()}
        pid, writeable, total = repo.load_node("seen")
        assert pid != os.getpid()
        assert [False, TOTAL] == [writeable, total]
        assert (os.getpid(), False) == repo.load_node("kept_here")
        assert TOTAL + 1 == repo.load_node("after_sums")
        assert [25_000] * 4 == [len(part) for part in repo.load_node("sums/split")]
        assert 1 == len(list(place.iterdir()))


@dataclasses.dataclass(frozen=True)
class Inline(SubprocessExecutor):
    """The same processes, as if they were on other machines."""

    reach = rs.io_handlers.Reach.ANYWHERE

    inline_values: bool = True


def test_small_values_without_the_store(place: Path) -> None:
    """With `inline_values` values go through the pipes alone, fan-outs included, and no folder is made for them."""
    with rs.CodeRepository([small.words, small.counts], default_executor=Inline(2)) as repo:
        repo.materialize()

        assert [2, 1] == [count for _, count in repo.load_node("counts")]
        assert os.getpid() not in {pid for pid, _ in repo.load_node("counts")}
        assert (2, 1) == tuple(count for _, count in repo.load_node("counts/counted"))
        assert [] == list(place.iterdir())


def test_in_process_runs_stay_in_memory(place: Path) -> None:
    """A run of this process alone makes no folder and hands on the very objects."""
    with repository() as repo:
        repo.materialize()

        assert repo.load_node("numbers") is repo.load_node("numbers")
        assert repo.load_node("seen")[1]
        assert [] == list(place.iterdir())


@pytest.mark.long
def test_runs_of_both_kinds_take_turns() -> None:
    """From memory to the folder and back: each run reads what was stored last, wherever that is."""
    with repository() as repo:
        for executor in (None, ELSEWHERE, None, ELSEWHERE):
            assert repo.materialize(["numbers"], executor=executor).success
            assert (executor is None) == repo.load_node("numbers").flags.writeable
            for reader in (ELSEWHERE, None):
                repo.materialize(["seen"], executor=reader)
                assert TOTAL == repo.load_node("seen")[2]


def test_a_value_in_memory_reaches_a_worker() -> None:
    """A value in memory is handed to a worker that loads it, and stays the same object here."""
    with repository() as repo:
        repo.materialize(["numbers", "sums"])
        value = repo.load_node("numbers")
        repo.materialize(["seen", "after_sums"], executor=ELSEWHERE)

        assert [False, TOTAL] == list(repo.load_node("seen")[1:])
        assert TOTAL + 1 == repo.load_node("after_sums")
        assert value is repo.load_node("numbers")


def test_a_value_that_cannot_be_pickled_does_not_reach_one() -> None:
    """It refuses the run before anything starts, with asset, type and what to do; for steps here it is no obstacle."""
    sink = rs.ListSink()
    with rs.CodeRepository([steps.lock, steps.locked, steps.stays_here, steps.numbers]) as repo:
        repo.materialize(["lock"])
        with pytest.raises(
            GraphValidationError, match=r"'locked'.* loads 'lock'.*_thread\.lock.*cannot be pickled"
        ) as printed:
            repo.materialize(["locked"], executor=ELSEWHERE, on_event=sink)

        assert ["locked"] == [problem.asset for problem in printed.value.problems]
        assert "another IO handler" in str(printed.value)
        assert [] == sink.events
        assert repo.materialize(["stays_here", "numbers"], executor=ELSEWHERE).success


def test_an_output_that_cannot_be_pickled() -> None:
    """In a run of several processes a value that cannot leave its process fails its step, which says why."""
    with rs.CodeRepository([steps.lock]) as repo:
        result = repo.materialize(executor=ELSEWHERE, raise_on_error=False)

        assert "cannot be pickled for other processes" in result.failed_assets[0][1]


def test_after_shutdown(place: Path) -> None:
    """The folder goes with shutdown(); loaded arrays and values in memory stay, loading others is an error."""
    repo = repository()
    repo.materialize(executor=ELSEWHERE)
    repo.materialize(["seen"])
    loaded = repo.load_node("numbers")
    repo.shutdown()

    assert [] == list(place.iterdir())
    assert TOTAL == float(loaded.sum())
    assert os.getpid() == repo.load_node("seen")[0]
    with pytest.raises(InputLoadError, match=r"'numbers' was removed(.|\n)*the repository was shut down"):
        repo.load_node("numbers")


SCRIPT = """
import os, sys
import numpy as np
import rivers as rs
from rivers_executor_subprocess import SubprocessExecutor

class Point:
    def __init__(self, x):
        self.x = x

@rs.Asset
def point():
    return Point(np.arange(100_000))

@rs.Asset
def moved(point):
    return os.getpid(), Point(point.x + 1)

with rs.CodeRepository([point, moved]) as repo:
    repo.materialize(executor=SubprocessExecutor(allow_pickle=True))
    pid, moved = repo.load_node("moved")
    print(type(moved) is Point, type(repo.load_node("point")) is Point, pid != os.getpid(), moved.x[:2])
"""


@pytest.mark.parametrize("how", ["file", "command"])
def test_classes_of_main(tmp_path: Path, how: str) -> None:
    """A script's own classes travel to workers and back, from a file and from `python -c`, and are the script's own."""
    (tmp_path / "script.py").write_text(SCRIPT)
    arguments = ["script.py"] if how == "file" else ["-c", SCRIPT]
    environment = {**os.environ, "RIVERS_ALLOW_PICKLE": "1"}
    ended = subprocess.run(
        [sys.executable, *arguments], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )

    assert "True True True [1 2]\n" == ended.stdout, textwrap.indent(ended.stderr, "  ")
