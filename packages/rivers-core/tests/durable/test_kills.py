"""Controllers that are killed at a byte of their journal: whoever resumes the run ends with the same values."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from rivers._record.journal import RunJournal
from rivers._record.replay import RunHistory

sys.path.append(str(Path(__file__).parent))

from small_run import make_repository

KILLS = Path(__file__).with_name("kills.py")


def kill_everywhere(folder: Path, start: int, step: int, *options: str, timeout: float = 55) -> int:
    """Return the number of bytes at which the controller was killed; nothing went wrong at any of them."""
    command = [sys.executable, str(KILLS), str(folder), str(start), str(step), *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert (0, "") == (done.returncode, done.stderr), done.stderr
    count, _ = done.stdout.split()
    return int(count)


@pytest.mark.parametrize("options", [(), ("--twice",)], ids=["once", "twice"])
def test_kills_at_bytes_of_the_journal(options: tuple[str, ...], tmp_path: Path) -> None:
    """Killed at every 241st byte, and with "twice" the one that resumes it, too: no body that had committed runs again.

    The values are those of a whole run, no attempt id is given twice, and nothing is left: neither in the store nor in
    the record, and no process.
    """
    assert 20 < kill_everywhere(tmp_path, 5, 241, *options)


@pytest.mark.timeout(200)
def test_kills_of_a_controller_of_workers(tmp_path: Path) -> None:
    """The same with workers in other processes, which may still commit after the kill, at a few bytes."""
    assert 2 < kill_everywhere(tmp_path, 900, 1700, "--executor", "parallel", timeout=180)


@pytest.mark.long
@pytest.mark.timeout(4000)
@pytest.mark.parametrize("options", [(), ("--twice",)], ids=["once", "twice"])
def test_kills_at_every_byte_of_the_journal(options: tuple[str, ...], tmp_path: Path) -> None:
    """The same at every byte; with "twice" the process that resumes the run is killed at a random one."""
    assert 5000 < kill_everywhere(tmp_path, 0, 1, *options, timeout=3900)


@pytest.mark.long
@pytest.mark.timeout(4000)
@pytest.mark.parametrize("options", [(), ("--twice",)], ids=["once", "twice"])
def test_kills_of_a_controller_of_workers_at_many_bytes(options: tuple[str, ...], tmp_path: Path) -> None:
    """The same with workers in other processes at every 61st byte, which is about three in each line.

    `test_every_cut_line_is_mended` shows that the bytes within a line do not differ.
    """
    assert 80 < kill_everywhere(tmp_path, 7, 61, "--executor", "parallel", *options, timeout=3900)


def facts(history: RunHistory) -> dict[str, object]:
    """Return all that a history says."""
    whole = {name: getattr(history, name) for name in history.__slots__ if name != "units"}
    units = {key: {name: getattr(unit, name) for name in unit.__slots__} for key, unit in history.units.items()}
    return {**whole, "units": units}


def test_every_cut_line_is_mended(tmp_path: Path) -> None:
    """A journal that was cut at any byte is the same, for whoever resumes the run, as one cut at the end of a line.

    So kills at all bytes within a line are one case: what is in the store is the same, and so is the journal.
    """
    record = make_repository(tmp_path).materialize(record=tmp_path).record
    assert record is not None
    events = record / "events.jsonl"
    whole = events.read_bytes()
    expected: dict[str, object] = {}
    for size in range(len(whole) + 1):
        is_boundary = size == 0 or whole[size - 1 : size] == b"\n"
        events.write_bytes(whole[:size])
        journal = RunJournal(record)
        try:
            if is_boundary:
                expected = facts(journal.history)
            assert whole[: whole.rfind(b"\n", 0, size) + 1] == events.read_bytes()
            assert expected == facts(journal.history)
        finally:
            journal.close()
    assert "success" == expected["status"]
