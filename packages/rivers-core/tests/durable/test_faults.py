"""Disks and records that fail under a run: each fault is a clear error or a resumed run, and nothing half-done."""

from __future__ import annotations

import json
import os
import shutil
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from rivers.exceptions import RecordError, ResumeError

sys.path.append(str(Path(__file__).parent))

from fault_run import SIZE, fail_run, full, make_repository, mounted, read_only, resume, submitted
from small_run import notes

ONCE = ["first", "middle", "middle", "last"]
"""The bodies of a run whose `middle` has failed once and that was resumed then."""


def check_whole(folder: Path, run_id: str) -> None:
    """Check that the run has ended with its values, has given no attempt id twice, and has left nothing."""
    repository = make_repository(folder)
    assert bytes(SIZE) == repository.load_node("first") == repository.load_node("middle")
    assert repository.load_node("last") == SIZE
    assert [] == list((folder / "data/.rivers/runs").rglob("*"))
    ids = submitted(folder, run_id)
    assert len(ids) == len(set(ids)), ids


# ---- disks ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def records(tmp_path: Path) -> Iterator[Path]:
    """A disk for records."""
    with mounted(tmp_path / "records"):
        yield tmp_path / "records"


@pytest.fixture
def data(tmp_path: Path) -> Iterator[Path]:
    """A disk for values."""
    with mounted(tmp_path / "data"):
        yield tmp_path / "data"


def test_full_disk_of_a_first_run(records: Path, tmp_path: Path) -> None:
    """A run whose record breaks in the middle goes on with a warning; if it fails, it can be resumed."""
    (tmp_path / "fail").touch()
    with full(records, 8192), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = make_repository(tmp_path).materialize(record=records, raise_on_error=False)
    (tmp_path / "fail").unlink()

    assert "failure" == result.status
    assert any("No space left" in str(warning.message) for warning in caught)
    assert resume(tmp_path, result.run_id).success
    assert ONCE == notes(tmp_path)
    check_whole(tmp_path, result.run_id)


def test_full_disk_in_the_middle_of_a_resumed_run(records: Path, tmp_path: Path) -> None:
    """A resumed run whose record breaks goes on; who resumes it again is refused or gives no attempt id twice."""
    run_id = fail_run(tmp_path)
    (tmp_path / "fail").touch()
    with full(records, 8192):
        failed = resume(tmp_path, run_id, raise_on_error=False)
    (tmp_path / "fail").unlink()

    assert "failure" == failed.status
    assert resume(tmp_path, run_id).success
    assert ["first", "middle", "middle", "middle", "last"] == notes(tmp_path)
    check_whole(tmp_path, run_id)


def test_full_disk_at_the_end_of_a_run(records: Path, tmp_path: Path) -> None:
    """A run whose record broke before its end can be resumed, which runs nothing, and writes that it has succeeded.

    Its store keeps what it has committed until then: no run ends there before its record says so.
    """
    with full(records, 8192), warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        result = make_repository(tmp_path).materialize(record=records)
    before = notes(tmp_path)

    assert result.success
    assert resume(tmp_path, result.run_id).success
    assert before == notes(tmp_path)
    with pytest.raises(ResumeError, match="has succeeded"):
        resume(tmp_path, result.run_id)
    check_whole(tmp_path, result.run_id)


def test_full_disk_of_a_store(data: Path, tmp_path: Path) -> None:
    """A value that does not fit fails its step, and is not seen; with room the run can be resumed."""
    run_id = fail_run(tmp_path)
    with full(data, SIZE // 2):
        failed = resume(tmp_path, run_id, raise_on_error=False)
        found = [path.name for path in data.rglob("*.pkl")]

    assert "failure" == failed.status
    assert "no space left to write" in failed.failed_assets[0][1]
    assert {"first.pkl"} == set(found)
    assert resume(tmp_path, run_id).success
    check_whole(tmp_path, run_id)


def test_read_only_store(data: Path, tmp_path: Path) -> None:
    """A store that cannot be written fails what has to run; what it has is reused later."""
    run_id = fail_run(tmp_path)
    with read_only(data):
        failed = resume(tmp_path, run_id, raise_on_error=False)

    assert "failure" == failed.status
    assert "Read-only file system" in failed.failed_assets[0][1]
    assert resume(tmp_path, run_id).success
    assert 1 == notes(tmp_path).count("first")
    check_whole(tmp_path, run_id)


def test_read_only_record(records: Path, tmp_path: Path) -> None:
    """Without a record that can be written nothing starts: attempt ids could be given twice."""
    run_id = fail_run(tmp_path)
    before = notes(tmp_path)
    with read_only(records), pytest.raises(ResumeError, match="cannot be written: Read-only file system"):
        resume(tmp_path, run_id)

    assert before == notes(tmp_path)
    assert resume(tmp_path, run_id).success
    assert ONCE == notes(tmp_path)
    check_whole(tmp_path, run_id)


# ---- records --------------------------------------------------------------------------------------------------------


def record_of(folder: Path, run_id: str) -> Path:
    return folder / "records/runs" / run_id


def test_deleted_record(tmp_path: Path) -> None:
    """Without its record a run cannot be resumed; the store forgets what it has of it, at the age of a leftover."""
    run_id = fail_run(tmp_path)
    shutil.rmtree(record_of(tmp_path, run_id))
    with pytest.raises(RecordError, match=f"no recorded run '{run_id}'"):
        resume(tmp_path, run_id)

    assert make_repository(tmp_path).materialize(record=False).success


def test_record_deleted_in_the_middle_of_a_resumed_run(tmp_path: Path) -> None:
    """The run goes on to its end."""
    run_id = fail_run(tmp_path)

    def delete(event: Any) -> None:
        if type(event).__name__ == "StepStarted":
            shutil.rmtree(record_of(tmp_path, run_id), ignore_errors=True)

    assert resume(tmp_path, run_id, on_event=delete).success
    assert ONCE == notes(tmp_path)
    with pytest.raises(RecordError, match=f"no recorded run '{run_id}'"):
        resume(tmp_path, run_id)


@pytest.mark.parametrize("state", ["failed", "failed twice"])
def test_garbage_in_any_line(state: str, tmp_path: Path) -> None:
    """Whichever line cannot be read: the run is resumed, or refused with the reason, and no attempt id is given twice.

    A line that is lost may have been that of a later controller, whose epoch then nothing else names.
    """
    run_id = fail_run(tmp_path)
    if state == "failed twice":
        (tmp_path / "fail").touch()
        resume(tmp_path, run_id, raise_on_error=False)
        (tmp_path / "fail").unlink()
    whole = (record_of(tmp_path, run_id) / "events.jsonl").read_bytes()
    given = submitted(tmp_path, run_id)
    lines = whole.splitlines(keepends=True)
    kept = tmp_path.with_name(f"{tmp_path.name} kept")
    shutil.copytree(tmp_path, kept)
    # What a step has printed is no different.
    wanted = [number for number, line in enumerate(lines) if b'"StepLog"' not in line]
    for number in wanted:
        line = lines[number]
        # A part of the line, its end, the line, three lines as one, and all that follow.
        for length, garbage in (
            (1, line[:20] + b"\xff\xfe{]" + line[24:]),
            (1, line[:-1]),
            (1, b"\0" * (len(line) - 1) + b"\n"),
            (3, b"\0" * 500 + b"\n"),
            (len(lines), b"\0" * sum(map(len, lines[number:])) + b"\n"),
        ):
            shutil.rmtree(tmp_path)
            shutil.copytree(kept, tmp_path)
            path = record_of(tmp_path, run_id) / "events.jsonl"
            path.write_bytes(b"".join((*lines[:number], garbage, *lines[number + length :])))
            before, known = notes(tmp_path), submitted(tmp_path, run_id)
            assert resume(tmp_path, run_id).success, number
            assert ["middle", "last"] == notes(tmp_path)[len(before) :]
            own = submitted(tmp_path, run_id)[len(known) :]
            assert 2 == len(own), (number, own)
            assert not set(own) & set(given), (number, own)
            check_whole(tmp_path, run_id)


@pytest.mark.parametrize("kind", ["empty", "torn", "other", "folder", "wrong type", "newer", "missing"])
def test_unreadable_header(kind: str, tmp_path: Path) -> None:
    """A header that cannot be read refuses the run with its path; with the header it can be resumed."""
    run_id = fail_run(tmp_path)
    path = record_of(tmp_path, run_id) / "header.json"
    whole, before = path.read_bytes(), notes(tmp_path)
    path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        header = json.loads(whole)
        texts = {
            "empty": b"",
            "torn": whole[: len(whole) // 2],
            "other": b"[1, 2]",
            "wrong type": json.dumps({**header, "steps": "abc"}).encode(),
            "newer": json.dumps({**header, "format": 99}).encode(),
        }
        path.write_bytes(texts[kind])
    with pytest.raises((RecordError, ResumeError), match=str(path if kind != "missing" else path.parent)):
        resume(tmp_path, run_id)
    assert before == notes(tmp_path)
    if kind == "folder":
        path.rmdir()
    path.write_bytes(whole)

    assert resume(tmp_path, run_id).success
    check_whole(tmp_path, run_id)


def test_empty_journal(tmp_path: Path) -> None:
    """A run that was killed before its first line has its header only, and begins anew, under the next epoch."""
    run_id = fail_run(tmp_path)
    shutil.rmtree(tmp_path / "data")
    (record_of(tmp_path, run_id) / "events.jsonl").write_bytes(b"")

    assert resume(tmp_path, run_id).success
    assert [f"{run_id}-{index}-1.0" for index in range(3)] == submitted(tmp_path, run_id)
    check_whole(tmp_path, run_id)


def test_clock_set_back(tmp_path: Path) -> None:
    """Times that lie in the future, as after a clock was set back, change nothing."""
    run_id = fail_run(tmp_path)
    record = record_of(tmp_path, run_id)
    later = 10 * 86400.0
    lines = [json.loads(line) for line in (record / "events.jsonl").read_bytes().splitlines()]
    text = "".join(json.dumps({**line, "time": line["time"] + later}) + "\n" for line in lines)
    (record / "events.jsonl").write_text(text)
    header = json.loads((record / "header.json").read_bytes())
    (record / "header.json").write_text(json.dumps({**header, "started": header["started"] + later}))
    for path in tmp_path.rglob("*"):
        ahead = path.stat().st_mtime + later
        os.utime(path, (ahead, ahead))

    assert resume(tmp_path, run_id).success
    assert ONCE == notes(tmp_path)
    check_whole(tmp_path, run_id)
