"""The ready-made sinks, and what becomes of one that raises."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

import rivers as rs
from rivers._events.event import Event


@rs.Asset
def talks(context: rs.AssetExecutionContext) -> int:
    print("bad \udcff, wide ü, none \x00")
    context.log.warning("careful")
    return 1


@rs.Asset(retry=rs.RetryPolicy(1))
def fails(talks: int) -> int:
    raise ValueError("bad \udcff")


@rs.Asset
def skipped(fails: int) -> int:
    return fails


def run(sink: Callable[[Event], None]) -> rs.RunResult:
    repository = rs.CodeRepository([talks, fails, skipped])
    return repository.materialize(raise_on_error=False, tags={"k": "v"}, on_event=sink)


KINDS = [
    "RunStarted",
    *("StepStarted", "StepLog", "StepLog", "StepSucceeded"),
    *("StepStarted", "StepRetrying", "StepStarted", "StepFailed"),
    "StepSkipped",
    "RunFinished",
]


def test_list_sink() -> None:
    """ListSink keeps every event of a run in order, each with the run's id and a time."""
    sink = rs.ListSink()
    result = run(sink)

    assert KINDS == [type(event).__name__ for event in sink.events]
    assert {result.run_id} == {event.run_id for event in sink.events}
    assert sorted(event.time for event in sink.events) == [event.time for event in sink.events]


def test_json_lines_round_trip(tmp_path: Path) -> None:
    """Every line of a JsonLinesSink is one event as JSON, and decodes to the very event that was emitted."""
    kept = rs.ListSink()
    with rs.JsonLinesSink(tmp_path / "run.jsonl") as sink:

        def both(event: Event) -> None:
            kept(event)
            sink(event)

        run(both)

    lines = (tmp_path / "run.jsonl").read_bytes().splitlines()
    assert kept.events == [msgspec.json.decode(line, type=Event) for line in lines]
    assert KINDS == [msgspec.json.decode(line)["event"] for line in lines]


def test_json_lines_are_there_at_once(tmp_path: Path) -> None:
    """An event is in the file as soon as it was emitted, and a second run is appended."""
    path = tmp_path / "run.jsonl"
    counts: list[int] = []
    with rs.JsonLinesSink(path) as sink:

        def emit(event: Event) -> None:
            sink(event)
            counts.append(len(path.read_bytes().splitlines()))

        run(emit)
        run(emit)

    assert list(range(1, 2 * len(KINDS) + 1)) == counts


def test_json_lines_in_the_home_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A path that begins with ~ is in the user's home folder."""
    monkeypatch.setenv("HOME", str(tmp_path))
    with rs.JsonLinesSink("~/run.jsonl") as sink:
        assert tmp_path / "run.jsonl" == sink.path


def test_closed_json_lines_sink(tmp_path: Path) -> None:
    """A closed sink refuses events."""
    kept = rs.ListSink()
    run(kept)
    with rs.JsonLinesSink(tmp_path / "run.jsonl") as sink:
        pass

    with pytest.raises(ValueError, match="closed"):
        sink(kept.events[0])


def test_logging_sink(caplog: pytest.LogCaptureFixture) -> None:
    """LoggingSink writes failures as errors, retries as warnings, a body's logs at their level, the rest as info."""
    with caplog.at_level(logging.INFO):
        run(rs.LoggingSink(logging.getLogger("test.run")))

    records = [(r.levelname, r.getMessage()) for r in caplog.records if r.name == "test.run"]
    assert len(KINDS) == len(records)
    assert ("WARNING", "talks: careful") in records
    assert ["ERROR"] == [level for level, text in records if "StepFailed" in text]
    assert ["WARNING"] == [level for level, text in records if "StepRetrying" in text]


def test_a_body_that_logs_to_the_sinks_logger() -> None:
    """A LoggingSink whose logger is captured as the body's own does not feed itself."""
    logger = logging.getLogger("rivers.run")
    sink = rs.ListSink()

    def both(event: Event) -> None:
        sink(event)
        rs.LoggingSink(logger)(event)

    run(both)

    assert KINDS == [type(event).__name__ for event in sink.events]


def test_a_sink_that_raises() -> None:
    """A sink that raises gets no further events; the run goes on, and the caller is warned once it is over."""
    seen: list[Event] = []

    def raises(event: Event) -> None:
        seen.append(event)
        raise OSError("disk full")

    with pytest.warns(RuntimeWarning, match="disk full"):
        result = run(raises)

    assert 1 == len(seen)
    assert "succeeded" == result.steps["talks"].state
