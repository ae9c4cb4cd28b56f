"""The rows of a display, drawn from events: golden texts, and bounds of their size and cost."""

from __future__ import annotations

import logging

import pytest

from rivers._events.event import (
    Event,
    RunFinished,
    RunStarted,
    StepCancelled,
    StepFailed,
    StepLog,
    StepRetrying,
    StepStarted,
    StepSucceeded,
)
from rivers._record.header import ExecutorHeader, RunHeader, StepHeader
from rivers._record.redact import Redactor
from rivers._terminal.news import NewsFeed
from rivers._terminal.progress import RunProgress
from rivers._terminal.screen import draw, rough_duration
from rivers._terminal.spans import to_text
from rivers._terminal.text import cells
from rivers.protocol.failure import Failure, FailureReason
from rivers.protocol.result import OutputRecord

FAILURE = Failure(reason=FailureReason.ERROR, type="ConnectionError", message="refused by hunter2")


def header(*steps: StepHeader) -> RunHeader:
    return RunHeader(
        format=1,
        run_id="r",
        started=100.0,
        executors=(ExecutorHeader(kind="kubernetes", text="Executor.Kubernetes()"),),
        steps=steps,
    )


def step(key: str, *deps: int, **more: object) -> StepHeader:
    return StepHeader(key=key, executor=0, level=0, deps=deps, **more)  # type: ignore[arg-type]  # of a test


def started(key: str, time: float, attempt: int = 1, worker: str = "pod-1") -> StepStarted:
    return StepStarted(
        run_id="r", time=time, step=key, attempt=attempt, attempt_id="a", executor="kubernetes", worker=worker
    )


def log(key: str, time: float, message: str, level: int = 0, stream: str = "stdout") -> StepLog:
    return StepLog(run_id="r", time=time, step=key, attempt=1, message=message, level=level, stream=stream)


PLAN = header(
    step("orders"), step("train", 0), step("score", 0), step("weather", max_attempts=3), step("graph/keys"),
    step("graph/one", 4, mapped_over=4), step("graph/all", 5), step("report", 1), step("index"),
)  # fmt: skip
KEYS = OutputRecord(name="keys", key="graph/keys", map_keys=("a", "b", "c", "d"))
EVENTS: list[Event] = [
    RunStarted(run_id="r", time=100, steps=9),
    started("orders", 101),
    StepSucceeded(run_id="r", time=102, step="orders", attempt=1),
    started("train", 103, worker="pod-7"),
    log("train", 110, "epoch 1\nepoch 2\n"),
    log("train", 111, "epoch 3: \x1b[2Jloss 0.31"),
    log("score", 104, "waits for its pod rivers-score-x7d2: Unschedulable: 0/3 nodes are available"),
    started("weather", 103),
    StepRetrying(run_id="r", time=112, step="weather", attempt=1, failure=FAILURE, delay=12),
    started("graph/keys", 101),
    StepSucceeded(run_id="r", time=102, step="graph/keys", attempt=1, outputs=(KEYS,)),
    started("graph/one[a]", 103),
    StepSucceeded(run_id="r", time=105, step="graph/one[a]", attempt=1),
    started("graph/one[b]", 103),
    started("graph/one[c]", 103),
    StepFailed(run_id="r", time=105, step="graph/one[c]", attempt=1, failure=FAILURE),
]


@pytest.fixture
def progress() -> RunProgress:
    """A run with steps in every state."""
    progress = RunProgress(PLAN, Redactor(["hunter2"]))
    progress.take(EVENTS)
    return progress


def test_rows(progress: RunProgress) -> None:
    """The rows show totals, mapped, running, starting and retrying steps, and what waits for what."""
    assert [
        "━━━━━━━━━━━━━╸──────────────────────────  33 %  4 of 12  20 s, about 40 s left",
        "1 failed, 1 retrying, 2 running, 1 starting, 4 waiting, 3 succeeded",
        "● graph/one                    2 of 4 done          1 failed, 1 running",
        "● train      kubernetes pod-7  running 17 s         epoch 3: loss 0.31",
        "○ score      kubernetes        starting 15 s        Unschedulable: 0/3 nodes are available",
        "↻ weather    kubernetes        retry 2 of 3 in 4 s  ConnectionError: refused by ***",
        "  ready    index",
        "  waiting  graph/all  for graph/one",
    ] == to_text(draw(progress, 120.0, 100, 20)).splitlines()


def test_narrow(progress: RunProgress) -> None:
    """At 20 columns the signs, names and the start of the phase are left."""
    lines = to_text(draw(progress, 120.0, 20, 20), unicode=False).splitlines()
    assert ["33 %  4 of 12  20 s~", "1 failed, 1 retrying", "* graph/one  2 of 4~"] == lines[:3]


@pytest.mark.parametrize("width", [1, 20, 60, 100, 200])
@pytest.mark.parametrize("height", [0, 1, 3, 6, 12, 50])
def test_bounds(width: int, height: int) -> None:
    """5,000 steps of which 300 are active fit any size, with the number of those that are not shown."""
    progress = RunProgress(header(*(step(f"step_of_日本_{number}") for number in range(5000))))
    progress.take([started(f"step_of_日本_{number}", 100 + number) for number in range(280)])
    progress.take([log(f"step_of_日本_{number}", 500, "pending") for number in range(280, 300)])
    lines = to_text(draw(progress, 600.0, width, height)).splitlines() if height else []
    assert len(lines) <= height
    assert all(cells(line) <= width for line in lines)
    if height >= 12 and width >= 60:
        assert any(line.startswith("… and ") and "running" in line and "starting" in line for line in lines)
        assert any("step_of_日本_0 " in line and line.startswith("●") for line in lines), "the longest running first"


def test_end(progress: RunProgress) -> None:
    """Steps that have ended leave the rows, also by a cancel or a lost process."""
    progress.take([StepCancelled(run_id="r", time=121, step=key) for key in ("score", "weather", "graph/one[b]")])
    assert ["train"] == list(progress.active)
    progress.view.end_without_word()
    progress.take([])
    assert {} == progress.active == progress.since
    progress.take([RunFinished(run_id="r", time=130, status="cancelled")])
    assert "about" not in to_text(draw(progress, 500.0, 100, 20))


def test_news_are_bounded() -> None:
    """5,000 failures print 20 in full and 100 lines more."""
    progress = RunProgress(header(*(step(f"s{number}") for number in range(5000))))
    feed = NewsFeed(has_retries=False)
    lines = []
    for number in range(5000):
        events: list[Event] = [StepFailed(run_id="r", time=101, step=f"s{number}", attempt=1, failure=FAILURE)]
        lines += feed.lines(progress, progress.take(events), 80)
    text = to_text(lines)
    assert 100 <= len(lines) <= 170
    assert "further failures and warnings are in the summary" in text.splitlines()[-1]


def test_log_level() -> None:
    """Log records are printed from a level on, all of them; printed text is not, as it is on the terminal already."""
    progress = RunProgress(PLAN, Redactor(["hunter2"]), logging.INFO)
    records = [log("train", 104, f"record {number} hunter2", level=20, stream="log") for number in range(3)]
    events = [
        started("train", 103),
        *records,
        log("train", 105, "debug", level=10, stream="log"),
        log("train", 106, "x"),
    ]
    lines = to_text(NewsFeed(has_retries=False).lines(progress, progress.take(events), 80)).splitlines()
    assert [f"info train  record {number} ***" for number in range(3)] == lines


def test_estimates() -> None:
    """An estimate takes the rate of steps, without the start of workers, and is rounded as its exactness demands."""
    progress = RunProgress(header(*(step(f"s{number}") for number in range(10))))
    assert progress.estimate.seconds_left(progress.view, 400.0) is None
    progress.take([started(f"s{number}", 500) for number in range(10)])
    ends = [StepSucceeded(run_id="r", time=510, step=f"s{number}", attempt=1) for number in range(5)]
    progress.take(ends)
    assert 10.0 == progress.estimate.seconds_left(progress.view, 510.0), "from the first start, not that of the run"
    seconds = (0.2, 9, 33, 70, 4000, 9000)
    assert ["1 s", "9 s", "35 s", "1 min", "67 min", "2.5 h"] == [rough_duration(one) for one in seconds]
