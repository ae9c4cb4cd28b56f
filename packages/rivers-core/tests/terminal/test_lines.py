"""Plain lines, and displays whose output is closed or paused."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import re
import struct
import termios
import threading
import time
from pathlib import Path

import pytest

import rivers as rs
from rivers._events.event import RunFinished, RunStarted, StepFailed, StepLog, StepStarted
from rivers._record.header import ExecutorHeader, RunHeader, StepHeader
from rivers._repository.observe import Observe
from rivers._repository.prepare import RunArguments
from rivers._terminal import sink as sink_module
from rivers._terminal.choose import choose_painter, make_progress, wants_color
from rivers._terminal.lines import LinePainter
from rivers._terminal.live import LivePainter
from rivers._terminal.progress import RunProgress
from rivers.exceptions import ConfigurationError
from rivers.protocol.failure import Failure, FailureReason


@rs.Asset
def numbers() -> list[int]:
    return [1, 2]


@rs.Asset
def broken(numbers: list[int]) -> int:
    return numbers[7]


def repository() -> rs.CodeRepository:
    return rs.CodeRepository(assets=[numbers, broken])


def test_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """On a stream that is no terminal, start, failure and summary are lines on stderr, with the time."""
    repository().materialize(raise_on_error=False, progress=True)
    out, err = capsys.readouterr()
    assert "" == out
    first, failed, *rest = err.splitlines()
    assert re.fullmatch(r"\d\d:\d\d:\d\d  ● Run [0-9a-f]{8} started: 2 steps  in_process", first)
    assert re.fullmatch(r"\d\d:\d\d:\d\d  ✗ broken  IndexError: list index out of range", failed)
    assert re.fullmatch(rf" {{14}}at .*{Path(__file__).name}:\d+ in broken", rest[0])
    assert "✗ Run" in rest[-2] or "✗ Run" in rest[-3]
    assert "\x1b" not in err


@pytest.mark.parametrize("wish", ["", "0", "no", "off", "FALSE"])
def test_off_by_default(wish: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is written without `progress=True`, and RIVERS_PROGRESS takes the usual words for no."""
    monkeypatch.setenv("RIVERS_PROGRESS", wish)
    repository().materialize("numbers")
    monkeypatch.setenv("RIVERS_PROGRESS", "1")
    repository().materialize("numbers", progress=False)
    assert ("", "") == capsys.readouterr()
    repository().materialize("numbers")
    assert "✓ Run" in capsys.readouterr().err
    with pytest.raises(ConfigurationError, match="invalid progress='yes': expected True, False or None"):
        repository().materialize("numbers", progress="yes")  # type: ignore[arg-type]  # a user may


def test_totals_are_rate_limited() -> None:
    """Totals come after 5 s and then every 30 s, only when they have changed; a worker that does not start is named."""
    steps = tuple(StepHeader(key=f"s{number}", executor=0, level=0) for number in range(100))
    executors = (ExecutorHeader(kind="kubernetes", text=""),)
    progress = RunProgress(RunHeader(format=1, run_id="r", started=0.0, executors=executors, steps=steps))
    stream = io.StringIO()
    painter = LinePainter(stream)
    painter.paint(progress, progress.take([RunStarted(run_id="r", time=0, steps=100)]), 0.0)
    for second in range(1, 100):
        event = StepStarted(
            run_id="r", time=second, step=f"s{second}", attempt=1, attempt_id="a", executor="kubernetes"
        )
        waits = StepLog(run_id="r", time=second, step="s0", attempt=1, message=f"Unschedulable {second}")
        painter.paint(progress, progress.take([event, waits]), float(second))
    lines = stream.getvalue().splitlines()
    assert ["0 %  0 of 100"] * 4 == [line[10:23] for line in lines if " of 100" in line]
    assert 1 == sum("s0 is starting  Unschedulable 1" in line for line in lines)


def test_a_closed_pipe() -> None:
    """A run goes on when the reader of its progress has gone, as with `2>&1 | head`."""
    reading, writing = os.pipe()
    os.close(reading)
    stream = os.fdopen(writing, "w")
    assert "failure" == run_on(stream).status
    with pytest.raises(BrokenPipeError):
        stream.close()
    closed = io.StringIO()
    closed.close()
    assert "failure" == run_on(closed).status


def run_on(stream: io.TextIOBase) -> rs.RunResult:
    """Run with progress on a stream."""
    observe = Observe(sinks=[lambda header, redactor: make_progress(header, redactor, stream)])
    return repository()._prepare(RunArguments(observe=observe)).carry_out(False)


def test_a_paused_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """A terminal that takes no text, as after Ctrl-S, does not hold up the end of a run."""
    monkeypatch.setattr(sink_module, "CLOSE_DEADLINE", 0.3)
    monkeypatch.setattr("rivers._terminal.live.LOCK_DEADLINE", 0.1)
    monkeypatch.setenv("TERM", "xterm")
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    # Its buffer is full.
    os.set_blocking(slave, False)
    for _ in range(10):
        with pytest.raises(BlockingIOError):
            while True:
                os.write(slave, b"x")
        # The kernel moves on what it holds in the background.
        time.sleep(0.02)
    os.set_blocking(slave, True)
    stream = os.fdopen(slave, "w")
    assert "failure" == run_on(stream).status
    thread = next(thread for thread in threading.enumerate() if thread.name == "rivers-progress")
    os.set_blocking(master, False)
    while thread.is_alive():
        try:
            os.read(master, 65536)
        except BlockingIOError:
            thread.join(0.02)
    stream.close()
    os.close(master)
    assert not LivePainter.is_taken


def test_refused_run(capsys: pytest.CaptureFixture[str]) -> None:
    """A run that is refused shows nothing, and the next one is shown live or in lines as ever."""
    with pytest.raises(rs.exceptions.AssetNotFoundError):
        repository().materialize("nothing", progress=True)
    assert ("", "") == capsys.readouterr()
    assert isinstance(choose_painter(io.StringIO()), LinePainter)


def test_colours() -> None:
    """NO_COLOR, TERM=dumb and FORCE_COLOR decide in this order."""
    stream = io.StringIO()
    assert not wants_color(stream, {})
    assert wants_color(stream, {"FORCE_COLOR": "1"})
    assert not wants_color(stream, {"FORCE_COLOR": "1", "NO_COLOR": "1"})


def test_many_failures_in_lines() -> None:
    """A run of 3,000 failures writes at most a few hundred lines."""
    steps = tuple(StepHeader(key=f"s{number}", executor=0, level=0) for number in range(3000))
    progress = RunProgress(RunHeader(format=1, run_id="r", started=0.0, executors=(), steps=steps))
    failure = Failure(reason=FailureReason.ERROR, type="ValueError", message="no")
    stream = io.StringIO()
    painter = LinePainter(stream)
    events = [StepFailed(run_id="r", time=1, step=step.key, attempt=1, failure=failure) for step in steps]
    painter.paint(progress, progress.take([*events, RunFinished(run_id="r", time=2, status="failure")]), 2.0)
    painter.finish(progress)
    assert len(stream.getvalue().splitlines()) < 200
