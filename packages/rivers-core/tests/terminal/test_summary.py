"""The summary of a run, and of one failure, as text."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

import rivers as rs
from rivers._events.event import StepFailed, StepRetrying, StepSkipped, StepStarted
from rivers._record.header import ExecutorHeader, RunHeader, StepHeader
from rivers._record.reader import read_run
from rivers._record.view import RunView, StepView
from rivers._terminal.failure import failure_text
from rivers._terminal.summary import summary
from rivers._terminal.text import cells, clean, clip, clip_left, duration, wrap
from rivers._terminal.trace import read_trace
from rivers.protocol.failure import Evidence, Failure, FailureReason

HERE = Path(__file__).name


def parse(text: str) -> int:
    return int(text)


@rs.Asset
def flights() -> list[str]:
    return ["1", "x2"]


@rs.Asset
def delays(flights: list[str]) -> list[int]:
    return [parse(one) for one in flights]


@rs.Asset
def chart(delays: list[int]) -> str:
    return "chart"


@rs.Asset
def report(chart: str) -> str:
    return "report"


@rs.Asset(retry=rs.RetryPolicy(max_retries=1, backoff=rs.Backoff.constant(0)))
def weather() -> int:
    try:
        json.loads("{bad")
    except ValueError as error:
        raise RuntimeError("cannot read the weather") from error
    return 1


@rs.Asset
def planes() -> int:
    return "many"  # type: ignore[return-value]  # on purpose


@rs.Task
def keys():
    for key in range(6):
        yield rs.DynamicOutput(str(key), key)


@rs.Task
def carrier(keys: int) -> int:
    if keys:
        raise KeyError(keys)
    return keys


@rs.Asset.from_graph()
def carriers():
    return keys().map(carrier).collect()


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory) -> RunView:
    repository = rs.CodeRepository(assets=[flights, delays, chart, report, weather, planes, carriers])
    home = tmp_path_factory.mktemp("home")
    with repository:
        record = repository.materialize(raise_on_error=False, record=home).record
    assert record is not None
    return read_run(record)[0]


def test_failures_show_the_users_frame(view: RunView) -> None:
    """Each failure has its exception, the user's innermost frame with its source, and where it was called."""
    text = summary(view, 120)
    block = next(block for block in text.split("\n\n") if block.startswith("✗ delays"))
    first, at, source, called, *_ = block.splitlines()
    assert first == "✗ delays  ValueError: invalid literal for int() with base 10: 'x2'"
    assert re.search(rf"^    at .*{HERE}:\d+ in parse$", at)
    assert source == "        return int(text)"
    assert re.search(rf"^    called at .*{HERE}:\d+ in delays$", called)
    assert "    skipped because of it: chart, report" in block


def test_causes_retries_and_definitions(view: RunView) -> None:
    """A cause is shown with the user's frame in it, and a failure without a frame by where the asset is defined."""
    text = summary(view, 120)
    weather_block = next(block for block in text.split("\n\n") if block.startswith("✗ weather"))
    assert "caused by json.decoder.JSONDecodeError: Expecting property name" in weather_block
    assert weather_block.count(f"{HERE}:") == 2, "not a frame of json"
    assert "attempt 2 of 2" in weather_block
    assert "  Retried     weather  2 attempts, failed  RuntimeError: cannot read the weather" in text
    planes_block = next(block for block in text.split("\n\n") if block.startswith("✗ planes"))
    assert re.search(rf"defined at .*{HERE}:\d+", planes_block)


def test_mapped_steps_are_bounded(view: RunView) -> None:
    """Of a mapped step that failed five times three failures are shown, and one line has the counts."""
    text = summary(view, 120)
    assert text.count("✗ carriers/carrier[") == 3
    assert "… and 2 more failed steps" in text
    assert "carriers/carrier  6 instances: 5 failed, 1 succeeded" in text


@pytest.mark.parametrize("width", [20, 60, 100, 200])
@pytest.mark.parametrize("unicode", [True, False])
def test_widths(view: RunView, width: int, unicode: bool) -> None:
    """No line is wider than the terminal, no text has a control character, and ASCII is ASCII."""
    text = summary(view, width, unicode)
    assert all(cells(line) <= width for line in text.splitlines())
    assert "\x1b" not in text
    assert unicode or text.isascii()
    colored = summary(view, width, unicode, color=True)
    assert clean(colored) == text


def test_evidence_of_a_lost_worker() -> None:
    """A worker that was killed is described by its reason and its evidence."""
    evidence = Evidence(signal=9, container_reason="OOMKilled", memory_limit=512 * 2**20, node="node-1")
    failure = Failure(
        reason=FailureReason.OUT_OF_MEMORY,
        type="",
        message="the worker was killed",
        evidence=evidence,
        notes=("→ ask for more memory: compute=rs.Compute(memory=...)",),
    )
    step = _failed_step(failure)
    assert failure_text(step, 80).splitlines()[:4] == [
        "✗ big  out of memory: the worker was killed",
        "    killed by SIGKILL (9); container reason OOMKilled; memory ? of 512 MiB; on",
        "    node node-1",
        "    defined at pipeline.py:7",
    ]
    assert "→ ask for more memory" in failure_text(step, 80)
    assert "-> ask" not in failure_text(step, 80, unicode=False)


def _failed_step(failure: Failure) -> StepView:
    view = RunView(_header(["big"]))
    now = time.time()
    view.apply(StepStarted(run_id="r", time=now, step="big", attempt=1, attempt_id="a", executor="kubernetes"))
    view.apply(StepFailed(run_id="r", time=now + 1, step="big", attempt=1, failure=failure))
    return view.steps["big"]


def _header(names: list[str]) -> RunHeader:
    return RunHeader(
        format=1,
        run_id="r",
        started=time.time(),
        executors=(ExecutorHeader(kind="in_process", text="Executor.InProcess()"),),
        steps=tuple(StepHeader(key=name, executor=0, level=0, location="pipeline.py:7") for name in names),
    )


def test_hostile_text() -> None:
    """Escape sequences, controls and line reversal in a message do not reach the terminal."""
    failure = Failure(
        reason=FailureReason.ERROR, type="E", message="a\x1b[2Jb\x1b]0;title\x07c\u202ed\re\x9b1m\tf\n" * 50
    )
    text = failure_text(_failed_step(failure), 40)
    assert all(line.isprintable() for line in text.splitlines())
    assert "abcde1m    f" in text
    assert "… 38 more lines" in text


def test_many_steps_of_all_kinds() -> None:
    """5,000 failures and skips make a summary of bounded length."""
    view = RunView(_header([f"step_{number}" for number in range(5000)]))
    failure = Failure(reason=FailureReason.ERROR, type="ValueError", message="no")
    for number in range(5000):
        key = f"step_{number}"
        if number % 2:
            view.apply(StepSkipped(run_id="r", time=time.time(), step=key, cause="step_0"))
        else:
            view.apply(StepRetrying(run_id="r", time=time.time(), step=key, attempt=1, failure=failure, delay=0))
            view.apply(StepFailed(run_id="r", time=time.time(), step=key, attempt=2, failure=failure))
    text = summary(view, 80)
    assert len(text.splitlines()) < 80
    assert "and 2,490 more failed steps" in text
    assert re.search(r"skipped because of it: step_1, .* and 2,49\d more", text)


def test_groups_of_exceptions() -> None:
    """The members of an exception group are found with the user's frames."""
    import traceback

    def fail() -> None:
        raise ValueError("inner")

    try:
        try:
            fail()
        except ValueError as error:
            raise ExceptionGroup("several", [error, KeyError("k")]) from None
    except ExceptionGroup as group:
        trace = read_trace("".join(traceback.format_exception(group)))
    assert trace.raised.text.startswith("ExceptionGroup: several")
    assert ["ValueError: inner", "KeyError: 'k'"] == [member.text for member in trace.members]
    assert trace.members[0].own[-1].function == "fail"


def test_text() -> None:
    """Widths count cells: a wide character has two, a combining one none."""
    assert (4, 1) == (cells("日本"), cells("e\u0301"))
    assert ("日…", "…st.py:5") == (clip("日本語", 4), clip_left("folder/test.py:5", 8))
    assert ["one two", "three", "fourfivesi", "xseven"] == wrap("one two three fourfivesixseven", 10)
    seconds = (0.0001, 0.005, 0.42, 9.96, 61, 3725)
    assert ["<1 ms", "5 ms", "0.42 s", "10 s", "1 min 01 s", "1 h 02 min"] == [duration(one) for one in seconds]
