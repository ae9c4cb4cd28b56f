"""Prints and log records as events: lines, limits, threads, and the streams afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import io
import logging
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import rivers as rs
from rivers._runner.capture.bounded_log import FIRST_BYTES, LAST_BYTES, MAX_MESSAGE
from rivers._runner.capture.step_output import StepOutput
from rivers._runner.capture.streams import Capture
from rivers.protocol.result import LogRecord


@contextmanager
def capturing() -> Iterator[None]:
    """Capture within the test itself, as pytest replaces the streams between its phases."""
    Capture.install(logging.INFO)
    try:
        yield
    finally:
        Capture.remove()


def output_to(records: list[LogRecord]) -> StepOutput:
    return StepOutput("attempt", logging.INFO, records.append)


def test_lines_are_whole() -> None:
    """Parts of a line become one record for each stream; an unfinished line follows at the end."""
    told: list[LogRecord] = []
    output = output_to(told)

    output.text("stdout", "a")
    output.text("stderr", "error\n")
    output.text("stdout", "b\nc\n\nd")
    output.finish()

    assert [("stderr", "error"), *(("stdout", line) for line in ("ab", "c", "", "d"))] == [
        (record.stream, record.message) for record in told
    ]


def test_messages_are_bounded() -> None:
    """A record's text is at most 16 KiB of valid UTF-8, whatever was written."""
    told: list[LogRecord] = []
    output = output_to(told)

    for text in ("x" * 100_000 + "\n", "ü" * 100_000 + "\n", "z" * 100_000, "\udcff\n"):
        output.text("stdout", text)
    output.finish()

    assert all(len(record.message.encode()) <= MAX_MESSAGE for record in told)
    assert 100_000 == sum(record.message.count("z") for record in told), "a line without an end is told in pieces"


def test_flood_is_bounded() -> None:
    """Of a flood the first MiB and the last four are emitted, with the size of the missing part."""
    told: list[LogRecord] = []
    output = output_to(told)
    line = "x" * 1000

    for number in range(20_000):
        output.text("stdout", f"{number} {line}\n")
    at_once = len(told)
    output.finish()

    assert FIRST_BYTES <= sum(len(record.message) + 100 for record in told[:at_once]) <= FIRST_BYTES + 2000
    assert "bytes of output left out" in told[at_once].message
    assert LAST_BYTES - 2000 <= sum(len(record.message) + 100 for record in told[at_once + 1 :]) <= LAST_BYTES
    assert told[-1].message.startswith("19999 ")


def test_nothing_after_the_end() -> None:
    """Output of a thread that outlives its attempt is dropped."""
    told: list[LogRecord] = []
    output = output_to(told)

    output.finish()
    output.text("stdout", "late\n")

    assert [] == told


def test_threads_lose_no_text() -> None:
    """Threads that carry the attempt's context may print at once; every line arrives whole."""
    told: list[LogRecord] = []
    output = output_to(told)

    def prints(name: int) -> None:
        for number in range(500):
            output.text("stdout", f"{name}-{number}\n")

    threads = [threading.Thread(target=prints, args=(name,)) for name in range(4)]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert {f"{n}-{i}" for n in range(4) for i in range(500)} == {record.message for record in told}


def test_a_listener_that_prints() -> None:
    """A sink that prints its events does not receive its own prints."""

    told: list[LogRecord] = []

    def listen(record: LogRecord) -> None:
        told.append(record)
        print("heard", record.message)

    def body() -> None:
        StepOutput("attempt", logging.INFO, listen).enter()
        print("said")

    with capturing():
        contextvars.copy_context().run(body)

    assert ["said"] == [record.message for record in told]


def leaves_a_variable() -> None:
    os.environ["RIVERS_TEST_SINK"] = "set"


background: list[asyncio.Task[None]] = []


async def prints_later() -> None:
    background.append(asyncio.create_task(asyncio.sleep(60), name="forgotten"))
    print("from the body")


@pytest.mark.parametrize("executor", [rs.Executor.in_process(), rs.Executor.parallel(max_workers=1)], ids=repr)
@pytest.mark.parametrize("body", [leaves_a_variable, prints_later], ids=lambda body: body.__name__)
def test_a_listener_is_outside_the_capture(executor: rs.Executor, body: Callable[[], Any]) -> None:
    """Prints and log records of a listener about a step are no events of that step."""
    seen: list[rs.events.Event] = []

    def listen(event: rs.events.Event) -> None:
        seen.append(event)
        print("printed by the listener")
        logging.getLogger("listener").warning("logged by the listener")

    with rs.CodeRepository([rs.Asset(body)], default_executor=executor) as repository:
        repository.materialize(on_event=listen)
    messages = [event.message for event in seen if isinstance(event, rs.events.StepLog)]

    assert messages
    assert not [message for message in messages if "listener" in message]


def test_a_run_within_a_body() -> None:
    """Prints of a nested run's listener are output of the body that started that run."""

    def inner() -> None:
        print("inner")

    def outer() -> None:
        rs.CodeRepository([rs.Asset(inner)]).materialize(on_event=lambda event: print(type(event).__name__))

    events = rs.ListSink()
    rs.CodeRepository([rs.Asset(outer)]).materialize(on_event=events)

    expected = ["RunStarted", "StepStarted", "StepLog", "StepSucceeded", "RunFinished"]
    assert expected == [event.message for event in events.events if isinstance(event, rs.events.StepLog)]


def test_bad_log_arguments() -> None:
    """A log call whose arguments do not fit its format becomes a record as well."""
    told: list[LogRecord] = []
    output = output_to(told)

    output.record(logging.LogRecord("a", logging.INFO, "", 0, "%d", ("x",), None))

    assert "could not be formatted: TypeError" in told[0].message


def test_everything_is_put_back() -> None:
    """After the last user, the streams and loggers are the same objects as before."""
    before = (sys.stdout, sys.stderr, list(logging.root.handlers), logging.getLogger("rivers.step").level)

    Capture.install(logging.INFO)
    Capture.install(logging.INFO)
    Capture.remove()
    assert sys.stdout is not before[0]
    Capture.remove()

    assert before == (sys.stdout, sys.stderr, list(logging.root.handlers), logging.getLogger("rivers.step").level)
    assert sys.stdout is before[0]


def test_a_stream_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without sys.stdout (pythonw, a daemon) can be captured."""
    monkeypatch.setattr(sys, "stdout", None)

    Capture.install(logging.INFO)
    Capture.remove()

    assert sys.stdout is None


def run_program(text: str, *arguments: str) -> str:
    """Run a program in a process of its own and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", text, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert 0 == done.returncode, f"exit code {done.returncode}: {done.stderr[-2000:]}"
    return done.stdout


PRINTS_ACROSS = """
import gc, sys, threading
import rivers as rs

printing, finished = threading.Event(), threading.Event()

class Slow:
    def __str__(self):
        printing.set()
        finished.wait(30)
        return "slow"

def heartbeat():
    print("a", Slow(), "b", Slow(), flush=True)

@rs.Asset
def body() -> int:
    threads.append(threading.Thread(target=heartbeat))
    threads[-1].start()
    printing.wait(30)
    return 1

threads = []
executor = getattr(rs.Executor, sys.argv[1])()
for round in range(5):
    printing.clear(), finished.clear()
    with rs.CodeRepository(assets=[body], default_executor=executor) as repo:
        repo.materialize(on_event=lambda event: None)
    gc.collect()
    filler = [object() for _ in range(10_000)]
    finished.set()
    threads[-1].join()
"""


def test_a_thread_prints_across_the_end_of_a_run() -> None:
    """A print that began during a run and ends after it is whole, and the interpreter survives it."""
    assert "a slow b slow\n" * 5 == run_program(PRINTS_ACROSS, "in_process")


WRAPPED = """
import sys
import rivers as rs

class Tee:
    def __init__(self, stream):
        self.stream, self.seen = stream, []
    def write(self, text):
        self.seen.append(text)
        return self.stream.write(text)
    def flush(self):
        self.stream.flush()

@rs.Asset
def body() -> int:
    global tee
    if tee is None:
        tee = Tee(sys.stdout)
    kept.append(sys.stdout)
    print("from the body")
    return 1

tee, kept = None, []
repo = rs.CodeRepository(assets=[body])
for round in range(3):
    events = rs.ListSink()
    repo.materialize(on_event=events)
    assert ["from the body"] == [e.message for e in events.events if isinstance(e, rs.events.StepLog)]
    sys.stdout = tee  # a tee around what was sys.stdout during the run
print("from the program", file=kept[0])
print("after")
assert "after" in tee.seen
"""


def test_a_tee_around_the_proxy() -> None:
    """A tee that a body put around sys.stdout stays in place, is captured, and does not recurse."""
    assert "from the body\n" * 3 + "from the program\nafter\n" == run_program(WRAPPED)


def test_one_proxy_for_all_runs() -> None:
    """A reference to sys.stdout from a run can be written to later, and the next run uses the same object."""
    kept = []
    for _ in range(2):
        with capturing():
            kept.append((sys.stdout, sys.stderr))

    assert kept[0][0] is kept[1][0]
    assert kept[0][1] is kept[1][1]
    assert 4 == kept[0][0].write("kept")
    assert (sys.stdout.encoding, sys.stdout.errors) == (kept[0][0].encoding, kept[0][0].errors)


def test_redirected_across_runs(capsys: pytest.CaptureFixture[str]) -> None:
    """A redirection that begins in a run and ends after it leaves a stream that still writes."""
    buffer = io.StringIO()
    before = sys.stdout
    redirected = contextlib.redirect_stdout(buffer)
    try:
        with capturing():
            redirected.__enter__()
        redirected.__exit__(None, None, None)
        print("after")
        with capturing():
            print("in the next run")
    finally:
        sys.stdout = before

    assert "after\nin the next run\n" == capsys.readouterr().out
