"""Printed and logged texts as records: lines, limits, threads, and what is left of it afterwards."""

from __future__ import annotations

import contextvars
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from rivers._runner.capture.bounded_log import FIRST_BYTES, LAST_BYTES, MAX_MESSAGE
from rivers._runner.capture.streams import Capture, StepOutput
from rivers.protocol.result import LogRecord


@contextmanager
def capturing() -> Iterator[None]:
    """In the test itself: between its phases pytest puts streams of its own in place."""
    Capture.install(logging.INFO)
    try:
        yield
    finally:
        Capture.remove()


def output_to(records: list[LogRecord]) -> StepOutput:
    return StepOutput("attempt", logging.INFO, records.append)


def test_lines_are_whole() -> None:
    """Parts of a line are told as one record, streams apart, and the last line at the end."""
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
    """Of a flood the first MiB and the last four are told, and how much is missing between them."""
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
    """A thread that outlives its attempt tells nothing more."""
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
    """A sink that prints what it is told does not hear itself."""

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


def test_bad_log_arguments() -> None:
    """A log call whose arguments do not fit its format is told, too."""
    told: list[LogRecord] = []
    output = output_to(told)

    output.record(logging.LogRecord("a", logging.INFO, "", 0, "%d", ("x",), None))

    assert "could not be formatted: TypeError" in told[0].message


def test_everything_is_put_back() -> None:
    """With the last user gone, the streams and loggers are the very objects they were."""
    before = (sys.stdout, sys.stderr, list(logging.root.handlers), logging.getLogger("rivers.step").level)

    Capture.install(logging.INFO)
    Capture.install(logging.INFO)
    Capture.remove()
    assert sys.stdout is not before[0]
    Capture.remove()

    assert before == (sys.stdout, sys.stderr, list(logging.root.handlers), logging.getLogger("rivers.step").level)
    assert sys.stdout is before[0]


def test_a_stream_that_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process without sys.stdout (pythonw, a daemon) is served like any other."""
    monkeypatch.setattr(sys, "stdout", None)

    Capture.install(logging.INFO)
    Capture.remove()

    assert sys.stdout is None
