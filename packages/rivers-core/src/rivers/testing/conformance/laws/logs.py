"""Laws of logs: complete, in order, with their level, also binary ones and floods."""

from __future__ import annotations

import time

from rivers._definitions.executor import Executor
from rivers.protocol import LIMITS, Ending, LogRecord
from rivers.testing.conformance.bodies import BEGUN
from rivers.testing.conformance.law import Law, expect, law
from rivers.testing.conformance.needs import ISOLATED, LIVE_LOGS
from rivers.testing.conformance.session import BackendSession
from rivers.testing.conformance.subject import Subject

__all__ = ["LAWS"]

LINES = 500
MAX_MESSAGE = LIMITS.log
FLOOD = 10_000
"""Lines of 100 bytes: as much as is emitted at once before the kept end of a flood begins."""


def _logs_of(subject: Subject, body: str, **arguments: object) -> list[LogRecord]:
    """Return the log records of one run of a body, which must succeed."""
    with BackendSession(subject) as session:
        attempt = session.submit(body, **arguments)
        result = session.result(attempt)
    expect(result.ending is Ending.SUCCEEDED, f"{body} ended as {result.ending.value}, {result.failure}")
    return session.events.logs(attempt)


def _logs_here(body: str, **arguments: object) -> list[LogRecord]:
    with Subject(Executor.in_process()) as reference:
        return _logs_of(reference, body, **arguments)


@law(
    "log-order",
    demand="The lines of a body arrive in the order in which it printed them, each once.",
    reason="a log out of order tells a story that did not happen.",
)
def order(subject: Subject) -> None:
    """Number the lines of a body."""
    texts = [record.message for record in _logs_of(subject, "counts", lines=LINES)]
    expected = [f"line {number}" for number in range(LINES)]
    # The most telling of the three first: a lost line is also a wrong number and a wrong order.
    missing = [line for line in expected if line not in set(texts)]
    expect(not missing, f"{len(missing)} of {LINES} lines are missing, such as {missing[:3]}")
    expect(len(texts) == LINES, f"{len(texts)} lines came where {LINES} were printed")
    expect(texts == expected, f"the lines came out of order, as {texts[:5]} …")


@law(
    "log-flood",
    demand="A body that floods its output keeps its result, and its lines are those that in_process reports.",
    reason="a full pipe that nobody reads stops the body, and dropped lines hide the one that matters.",
)
def flood(subject: Subject) -> None:
    """Print a megabyte in short lines."""
    there = [record.message for record in _logs_of(subject, "floods", lines=FLOOD)]
    here = [record.message for record in _logs_here("floods", lines=FLOOD)]
    expect(len(there) == len(here), f"{len(there)} lines came of {len(here)} in_process")
    expect(there == here, "the lines of a flood differ from those in_process")


@law(
    "log-text",
    demand="Unicode arrives as it is and lines above 16 KiB in parts, and bytes that are no text break nothing.",
    reason="native code prints anything, and a codec that raises on it loses the attempt.",
)
def binary(subject: Subject) -> None:
    """Print all bytes, unicode, a long line and one without an end."""
    texts = [record.message for record in _logs_of(subject, "prints_bytes")]
    long = ["y" * size for size in (MAX_MESSAGE, MAX_MESSAGE, 40_000 - 2 * MAX_MESSAGE)]
    # Bytes that are no text are in the log where the worker owns its process, and must break nothing anywhere.
    for text in ("ünï 日本 \x1b[1m\0", "no newline"):
        expect(text in texts, f"the line {text!r} is not among {[one[:80] for one in texts]}")
    found = [text for text in texts if text.startswith("yy")]
    expect(found == long, f"a line of 40,000 bytes came in parts of {[len(text) for text in found]} bytes")


@law(
    "log-levels",
    demand="A log record has its level, logger and stream.",
    reason="people filter by level and logger, and stderr is no error by itself.",
)
def records(subject: Subject) -> None:
    """Log at several levels, print to both streams, and compare with in_process."""
    there, here = (
        sorted((record.stream, record.level, record.logger, record.message) for record in found)
        for found in (_logs_of(subject, "logs"), _logs_here("logs"))
    )
    expect(there == here, f"records are {there}, and in_process {here}")


@law(
    "live-logs",
    demand="Log records arrive while the body runs.",
    reason="a step that takes hours is watched by its log.",
    needs=(LIVE_LOGS,),
)
def live(subject: Subject) -> None:
    """Wait for the first line of a body that runs on for two seconds."""
    with BackendSession(subject) as session:
        attempt = session.submit("sleeps", seconds=2.0)
        session.wait_for_text(attempt, BEGUN)
        # Had the line come with the result, the result would be here, or follow at once.
        at, is_over = time.monotonic(), session.events.has_result(attempt)
        session.result(attempt)
    ahead = time.monotonic() - at
    expect(not is_over, "the first line of a body of 2 s came with its result")
    expect(ahead > 0.5, f"the first line of a body of 2 s came {ahead:.1f} s before its result")


@law(
    "stdout-is-the-bodys",
    demand="Whatever a body writes to file descriptors 1 and 2, and even closing them, breaks nothing.",
    reason="an executor that speaks its protocol over stdout is broken by the first print of native code.",
    needs=(ISOLATED,),
)
def stdout(subject: Subject) -> None:
    """Write garbage to both descriptors and close one."""
    with BackendSession(subject) as session:
        attempt = session.submit("spoils_stdout")
        result = session.result(attempt)
        # A worker that serves the next attempt, too, must not have lost its own pipes.
        following = session.run("nothing")
    expect(result.ending is Ending.SUCCEEDED, f"it ended as {result.ending.value}, {result.failure}")
    expect(following.ending is Ending.SUCCEEDED, f"the next attempt ended as {following.ending.value}")


LAWS: tuple[Law, ...] = (order, flood, binary, records, live, stdout)
