"""Run again what a recorded run has not made: what is reused, what runs, and what is said."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

import rivers as rs
from rivers._record.journal import RunJournal
from rivers._record.reader import read_header
from rivers.events import RunWarning, StepReused
from rivers.exceptions import RecordError, ResumeError

sys.path.append(str(Path(__file__).parent))

from small_run import note, notes


def repository(folder: Path, *, handler: Any = True, version: str | None = None) -> rs.CodeRepository:
    """Elements that are doubled and summed; the folder's file `fail` names the bodies that fail."""

    def call(name: str) -> None:
        note(folder, name)
        if name in (folder / "fail").read_text().split():
            raise ValueError("not yet")

    @rs.Asset(code_version=version)
    def numbers(context: rs.AssetExecutionContext) -> list[int]:
        call("numbers")
        return [int(n) for n in context.config.get("numbers", [1, 2, 3])]

    @rs.Task
    def split(numbers: list[int]) -> list[rs.DynamicOutput]:
        call("split")
        return [rs.DynamicOutput(key=f"k{number}", value=number) for number in numbers]

    @rs.Task
    def twice(part: int) -> int:
        call(f"twice{part}")
        return part * 2

    @rs.Task
    def inc(part: int) -> int:
        call(f"inc{part}")
        return part + 1

    @rs.Task
    def add(parts: list[int]) -> int:
        call("add")
        return sum(parts)

    @rs.Asset.from_graph
    def total(numbers: list[int]) -> object:
        return add(split(numbers).map(twice).map(inc).collect())

    @rs.Asset
    def aside() -> int:
        call("aside")
        return 1

    store = rs.PickleIOHandler(folder / "data", fsync=False) if handler is True else handler
    return rs.CodeRepository([numbers, total, aside], default_io_handler=store)


def fail_in(folder: Path, names: str, **options: Any) -> str:
    """Run everything while these bodies fail, and return the run's id; what has run is forgotten."""
    (folder / "fail").write_text(names)
    result = repository(folder).materialize(record=folder, raise_on_error=False, **options)
    (folder / "fail").write_text("")
    (folder / "bodies").unlink()
    return result.run_id


def test_only_what_failed_runs(tmp_path: Path) -> None:
    """The retry is a new run: it reuses what succeeded, also instances, and runs what failed and was skipped."""
    run_id = fail_in(tmp_path, "twice2")
    sink = rs.ListSink()
    repo = repository(tmp_path)
    result = repo.materialize(retry_of=run_id[:8], record=tmp_path, on_event=sink)

    assert ["twice2", "inc4", "add"] == notes(tmp_path)
    assert 15 == repo.load_node("total")
    assert result.run_id != run_id
    reused = {event.step: event.attempt_id for event in sink.events if isinstance(event, StepReused)}
    assert {"numbers", "total/split", "total/twice[k1]", "total/twice[k3]", "aside"} < reused.keys()
    assert all(attempt_id.startswith(run_id) for attempt_id in reused.values())
    assert ["total"] == result.materialized_assets
    assert result.record is not None
    header = read_header(result.record)
    assert header is not None
    assert run_id == header.retry_of


def test_replaced_by_another_run(tmp_path: Path) -> None:
    """A value that another run has replaced is made again, with what depends on it, and a warning says which run."""
    run_id = fail_in(tmp_path, "add")
    other = repository(tmp_path).materialize("numbers", config={"numbers": {"numbers": [5]}}, record=False)
    (tmp_path / "bodies").unlink()
    sink = rs.ListSink()
    repo = repository(tmp_path)
    repo.materialize(retry_of=run_id, record=tmp_path, on_event=sink)

    assert ["numbers", "split", "twice1", "twice2", "twice3"] == notes(tmp_path)[:5]
    assert "aside" not in notes(tmp_path)
    assert 15 == repo.load_node("total")
    (warning,) = (event for event in sink.events if isinstance(event, RunWarning))
    assert f"'numbers' runs again: another run has replaced its value, in attempt {other.run_id}-0-0.0" == (
        warning.message
    )


def test_parameters_may_change(tmp_path: Path) -> None:
    """Tags and config are those of the run where none are given, and what has another code version runs again."""
    run_id = fail_in(tmp_path, "numbers", tags={"k": "v"}, config={"numbers": {"numbers": [4]}})
    repo = repository(tmp_path)
    result = repo.materialize(retry_of=run_id, record=tmp_path)
    assert 9 == repo.load_node("total")
    assert result.record is not None
    header = read_header(result.record)
    assert header is not None
    assert {"k": "v"} == header.tags

    (tmp_path / "bodies").unlink()
    other = repository(tmp_path, version="2")
    other.materialize(retry_of=result.run_id, record=tmp_path, config={"numbers": {"numbers": [7]}})
    assert ["numbers", "split", "twice7", "inc14", "add"] == notes(tmp_path)
    assert 15 == other.load_node("total")


def test_retry_of_a_retry(tmp_path: Path) -> None:
    """A retry that fails can be retried, and resumed: what it had reused is reused again."""
    run_id = fail_in(tmp_path, "twice2 inc2")
    (tmp_path / "fail").write_text("inc2")
    second = repository(tmp_path).materialize(retry_of=run_id, record=tmp_path, raise_on_error=False).run_id
    assert ["twice2", "inc2", "inc4"] == notes(tmp_path)
    third = repository(tmp_path).materialize(retry_of=second, record=tmp_path, raise_on_error=False).run_id
    assert ["inc2"] == notes(tmp_path)[3:]
    (tmp_path / "fail").write_text("")

    assert repository(tmp_path).resume(third, record=tmp_path).success
    assert ["inc2", "add"] == notes(tmp_path)[4:]


def test_values_in_memory(tmp_path: Path) -> None:
    """A store that tells nothing of its values has them made again, and a warning says so."""
    (tmp_path / "fail").write_text("add")
    repo = repository(tmp_path, handler=None)
    run_id = repo.materialize(record=tmp_path, raise_on_error=False).run_id
    (tmp_path / "fail").write_text("")
    sink = rs.ListSink()

    assert repo.materialize(retry_of=run_id, record=tmp_path, on_event=sink).success
    messages = [event.message for event in sink.events if isinstance(event, RunWarning)]
    assert "'numbers' runs again: its store does not tell which attempt has stored its value" in messages


def test_selection(tmp_path: Path) -> None:
    """A selection chooses among the steps: what it leaves out neither runs nor is reused."""
    run_id = fail_in(tmp_path, "add aside")
    result = repository(tmp_path).materialize("aside", retry_of=run_id, record=tmp_path)

    assert (["aside"], {"aside"}) == (notes(tmp_path), set(result.steps))


def test_nothing_to_retry(tmp_path: Path) -> None:
    """Of a run that succeeded everything is reused."""
    run_id = fail_in(tmp_path, "")
    result = repository(tmp_path).materialize(retry_of=run_id, record=tmp_path)

    assert (True, []) == (result.success, result.materialized_assets)
    assert [] == notes(tmp_path)


def test_refused(tmp_path: Path) -> None:
    """A run that still goes on, one of another repository and one without a record are refused."""
    run_id = fail_in(tmp_path, "add")
    journal = RunJournal(tmp_path / "runs" / run_id)
    try:
        with pytest.raises(ResumeError, match="still goes on"):
            repository(tmp_path).materialize(retry_of=run_id, record=tmp_path)
    finally:
        journal.close()
    with pytest.raises(ResumeError, match="another repository"):
        rs.CodeRepository([rs.Asset(lambda: 1, name="x")]).materialize(retry_of=run_id, record=tmp_path)
    with pytest.raises(RecordError, match="no recorded run"):
        repository(tmp_path).materialize(retry_of="nothing", record=tmp_path)

    assert [] == notes(tmp_path)
