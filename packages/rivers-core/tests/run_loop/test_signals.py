"""Ctrl-C and SIGTERM, sent to a real process whose run waits for an executor that does not block."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

PROGRAM = """
import sys, threading
import rivers as rs
from rivers.testing import Attempt, Script, ScriptedExecutor

mode, path = sys.argv[1:]

def say(word):
    sys.stderr.write(word + "\\n")
    sys.stderr.flush()

def hold(attempt):
    attempt.start()
    say("running")

def open_slowly():
    if mode == "open":
        say("running")
        threading.Event().wait(60)

def on_cancel(attempt):
    say("stopping")
    if mode != "stubborn":
        attempt.cancel()

def body():
    say("running")
    threading.Event().wait(60)

a = rs.Asset(body, name="a", metadata={"rivers/executor": "in_process"} if mode == "here" else None)
b = rs.Asset(lambda: 1, name="b", deps=[rs.AssetDef.dep("a")])
script = Script({"a": hold}, on_cancel=on_cancel, on_open=open_slowly, on_close=lambda: say("closed"))
with rs.JsonLinesSink(path) as sink:
    rs.CodeRepository([a, b]).materialize(executor=ScriptedExecutor(script), on_event=sink)
say("went on")
"""

Child = Callable[[str], "subprocess.Popen[str]"]
NUMBERS = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Child]:
    """Start the program and wait until it has come to the point where the signal is to hit it."""
    started: list[subprocess.Popen[str]] = []

    def start(mode: str) -> subprocess.Popen[str]:
        arguments = [sys.executable, "-c", PROGRAM, mode, str(tmp_path / "events.jsonl")]
        process = subprocess.Popen(arguments, stderr=subprocess.PIPE, text=True)
        started.append(process)
        assert "running" == next_word(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def next_word(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    return process.stderr.readline().strip()


def events(tmp_path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (tmp_path / "events.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("number", NUMBERS)
def test_the_first_signal_ends_the_run(child: Child, tmp_path: Path, number: signal.Signals) -> None:
    """Steps are stopped, the executor closed, all events emitted; then KeyboardInterrupt (130) or SystemExit (143)."""
    process = child("willing")
    process.send_signal(number)
    rest = process.communicate(timeout=20)[1]

    assert ["stopping", "closed"] == rest.split()[:2]
    assert "went on" not in rest
    if number == signal.SIGINT:
        assert -signal.SIGINT == process.returncode  # how Python ends on KeyboardInterrupt; a shell says 130
        assert 1 == rest.count("\nKeyboardInterrupt\n")
    else:
        assert 143 == process.returncode
        assert "Traceback" not in rest
    emitted = events(tmp_path)
    ends = {event["step"]: event["event"] for event in emitted if event["event"] == "StepCancelled"}
    assert {"a": "StepCancelled", "b": "StepCancelled"} == ends
    assert ("RunFinished", "cancelled") == (emitted[-1]["event"], emitted[-1]["status"])


@pytest.mark.parametrize("number", NUMBERS)
def test_the_second_signal_ends_the_process(child: Child, number: signal.Signals) -> None:
    """A second signal ends the process at once when an executor does not stop its steps."""
    process = child("stubborn")
    process.send_signal(number)
    assert "stopping" == next_word(process)
    process.send_signal(number)
    rest = process.communicate(timeout=20)[1]

    assert 128 + number == process.returncode
    assert "" == rest


def test_what_needs_an_interrupted_body_is_cancelled(child: Child, tmp_path: Path) -> None:
    """Ctrl-C in a body cancels its step and all that was to come; nothing is reported as skipped."""
    process = child("here")
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=20)

    ends = {event["step"]: event["event"] for event in events(tmp_path) if "step" in event}
    assert {"a": "StepCancelled", "b": "StepCancelled"} == ends


def test_ctrl_c_while_an_executor_opens(child: Child, tmp_path: Path) -> None:
    """An executor that takes long to open is interrupted and closed; the run has not begun."""
    process = child("open")
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=20)[1]

    assert "closed" == rest.split()[0]
    assert -signal.SIGINT == process.returncode
    assert [] == events(tmp_path)
