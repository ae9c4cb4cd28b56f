"""Laws of exceptions: what a body raises arrives as it does in_process."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rivers._definitions.executor import Executor
from rivers.protocol import Ending, Failure, FailureReason, StepResult
from rivers.testing.conformance import bodies
from rivers.testing.conformance.law import Law, expect, law
from rivers.testing.conformance.session import BackendSession
from rivers.testing.conformance.subject import Subject

__all__ = ["LAWS"]

_NAMED = ("no_key", "no_file", "bad_bytes", "server", "located", "several", "noted", "group")
_OWN = ("raises_unpicklable", "raises_unprintable", "raises_chain", "raises_memory_error")
_ADDRESS = re.compile(r"0x[0-9a-f]+")


@dataclass(frozen=True)
class _Both:
    """The results of the raising bodies by name, on the executor under test and in this process."""

    there: Mapping[str, StepResult]
    here: Mapping[str, StepResult]

    def failures(self, *names: str) -> list[tuple[str, Failure, Failure]]:
        """Return the failures of some bodies, there and here; a body that has none there breaks the law."""
        found = []
        for name in names:
            there, here = self.there[name].failure, self.here[name].failure
            expect(there is not None, f"{name} ended as {self.there[name].ending.value} without a Failure")
            assert there is not None
            assert here is not None
            found.append((name, there, here))
        return found


def _raise_all(subject: Subject) -> _Both:
    # One session for all of these laws: on a slow platform each attempt is a job of its own.
    with BackendSession(subject) as session:
        there = _run_all(session)
    with Subject(Executor.in_process()) as reference, BackendSession(reference) as session:
        here = _run_all(session)
    return _Both(there, here)


def _run_all(session: BackendSession) -> dict[str, StepResult]:
    attempts = {name: session.submit("raises_named", name=name) for name in _NAMED}
    attempts |= {name: session.submit(name) for name in _OWN}
    return {name: session.result(attempt) for name, attempt in attempts.items()}


def _both(subject: Subject) -> _Both:
    both: _Both = subject.share("failures", lambda: _raise_all(subject))
    return both


def _expect_equal(name: str, field: str, there: Any, here: Any) -> None:
    there, here = (_ADDRESS.sub("0x…", value) if isinstance(value, str) else value for value in (there, here))
    expect(there == here, f"{field} of the failure of {name} is {there!r:.300}, and in_process {here!r:.300}")


@law(
    "exception-type",
    demand="A failure has the type, base classes and message of the exception, and the reason error.",
    reason="retry_on matches types and their bases, and the message is what people read first.",
)
def type_and_message(subject: Subject) -> None:
    """Compare type, bases, message and reason."""
    for name, there, here in _both(subject).failures(*_NAMED):
        for field in ("reason", "type", "mro", "message"):
            _expect_equal(name, field, getattr(there, field), getattr(here, field))


@law(
    "exception-attributes",
    demand="A failure has the attributes of the exception, and those of its arguments that are no JSON.",
    reason="a run raises the body's own exception again, and handlers look at errno, filename or status.",
)
def attributes(subject: Subject) -> None:
    """Compare the state of errors that have one."""
    for name, there, here in _both(subject).failures("bad_bytes", "server", "located", "several"):
        _expect_equal(name, "state", there.state, here.state)


@law(
    "exception-arguments",
    demand="A failure has the arguments of the exception.",
    reason="an error without its arguments cannot be made again, and its text alone cannot be matched on.",
)
def arguments(subject: Subject) -> None:
    """Compare the arguments of errors that have some."""
    for name, there, here in _both(subject).failures("no_file", "no_key", "located", "several"):
        _expect_equal(name, "args", there.args, here.args)


@law(
    "exception-traceback",
    demand="A failure has the traceback of the body: its file, function and line.",
    reason="without it a person has to guess where in the body it happened.",
)
def traceback(subject: Subject) -> None:
    """Look for the function and the source line that raised."""
    for _, there, _ in _both(subject).failures("raises_chain"):
        for text in ("bodies.py", "in raises_chain", 'raise ValueError("third")'):
            expect(text in (there.traceback or ""), f"the traceback has no {text!r}: {there.traceback}")


@law(
    "exception-notes",
    demand="A failure has the notes that were added to the exception.",
    reason="libraries put their advice into notes.",
)
def notes(subject: Subject) -> None:
    """Compare the notes of an exception that has one."""
    for name, there, here in _both(subject).failures("noted"):
        expect(here.notes == ("a note",), f"in_process has the notes {here.notes}")
        _expect_equal(name, "notes", there.notes, here.notes)


@law(
    "exception-group",
    demand="The failure of an exception group has its members: in its state and in its traceback.",
    reason="a TaskGroup raises a group, and the cause is one of its members.",
)
def groups(subject: Subject) -> None:
    """Compare the state of a nested group, and look for its members in the traceback."""
    for name, there, here in _both(subject).failures("group"):
        _expect_equal(name, "state", there.state, here.state)
        for member in ("FileNotFoundError", "ServerError", "while reading"):
            expect(member in (there.traceback or ""), f"the traceback of a group has no {member}: {there.traceback}")


@law(
    "exception-chain",
    demand="The traceback of a failure has the exceptions that caused it.",
    reason="the first exception of a chain is the cause, and the last one is often a wrapper.",
)
def chains(subject: Subject) -> None:
    """Look for both kinds of chains in a traceback."""
    for _, there, _ in _both(subject).failures("raises_chain"):
        for text in ("KeyError: 'first'", "direct cause", "OSError: second", "During handling", "ValueError: third"):
            expect(text in (there.traceback or ""), f"the traceback of a chain has no {text!r}: {there.traceback}")


@law(
    "exception-unpicklable",
    demand="An exception that no pickle can hold arrives like any other.",
    reason="exceptions hold sockets, locks and responses; a result that needs a pickle loses the real error.",
)
def unpicklable(subject: Subject) -> None:
    """Compare an exception that holds a lock."""
    for name, there, here in _both(subject).failures("raises_unpicklable"):
        for field in ("reason", "type", "message"):
            _expect_equal(name, field, getattr(there, field), getattr(here, field))


@law(
    "exception-unprintable",
    demand="An exception whose str() raises arrives with its type.",
    reason="a broken __str__ must not turn the user's error into one of the executor's.",
)
def unprintable(subject: Subject) -> None:
    """Compare an exception that has no text."""
    for name, there, here in _both(subject).failures("raises_unprintable"):
        for field in ("reason", "type", "message"):
            _expect_equal(name, field, getattr(there, field), getattr(here, field))


@law(
    "memory-error",
    demand="A MemoryError of a body has the reason out_of_memory.",
    reason="a retry with more memory is decided by this reason.",
)
def memory_error(subject: Subject) -> None:
    """Look at the reason of a MemoryError."""
    for _, there, _ in _both(subject).failures("raises_memory_error"):
        expect(there.reason is FailureReason.OUT_OF_MEMORY, f"its reason is {there.reason.value}")


@law(
    "nothing-unpickled",
    demand="Nothing that a worker sends is unpickled in the controller.",
    reason="whoever controls a worker could otherwise run code with the rights of the controller.",
)
def not_unpickled(subject: Subject) -> None:
    """Raise an exception that notes the processes that unpickle it."""
    # The module is the same object in this process, so that a wire that is tripped here leaves its note here.
    bodies.TRIPPED.clear()
    with BackendSession(subject) as session:
        result = session.run("raises_tripwire")
    expect(not bodies.TRIPPED, "the exception of a body was unpickled in this process")
    expect(result.ending is Ending.FAILED, f"a body that raises ended as {result.ending.value}: expected failed")


LAWS: tuple[Law, ...] = (
    type_and_message,
    arguments,
    attributes,
    traceback,
    notes,
    groups,
    chains,
    unpicklable,
    unprintable,
    memory_error,
    not_unpickled,
)
