"""Laws of events and results: one result for each submit, events in order, under the right attempt."""

from __future__ import annotations

from rivers.protocol import Ending, StepResult, StepStarted
from rivers.testing.conformance.law import Law, expect, law
from rivers.testing.conformance.session import BackendSession
from rivers.testing.conformance.subject import Subject

__all__ = ["LAWS"]

AT_ONCE = 3


@law(
    "one-result",
    demand="Every submit gets exactly one StepResult, also one whose body raises.",
    reason="core waits for a result as long as none comes, and a second one could undo what the first has decided.",
)
def one_result(subject: Subject) -> None:
    """Submit bodies that return and that raise, close the run, and count their results."""
    with BackendSession(subject) as session:
        attempts = [session.submit("nothing"), session.submit("raises", text="x"), session.submit("nothing")]
        endings = [session.result(attempt).ending for attempt in attempts]
    # Counted after close: a second result may come late.
    counts = [len(session.events.results(attempt)) for attempt in attempts]
    expect(counts == [1, 1, 1], f"{counts} results for three submits")
    expected = [Ending.SUCCEEDED, Ending.FAILED, Ending.SUCCEEDED]
    expect(endings == expected, f"bodies that return, raise and return ended as {[one.value for one in endings]}")


@law(
    "event-order",
    demand="StepStarted comes once and first, logs come between, and the StepResult is the last event of an attempt.",
    reason="StepStarted begins the timeout, and core drops what comes after the result.",
)
def event_order(subject: Subject) -> None:
    """Check the kinds of the events of a body that logs."""
    with BackendSession(subject) as session:
        attempt = session.submit("says", words=["one", "two"])
        session.result(attempt)
    events = session.events.events(attempt)
    kinds = [type(event).__name__ for event in events]
    expect(isinstance(events[0], StepStarted), f"the first event is no StepStarted: {kinds}")
    expect(kinds.count("StepStarted") == 1, f"StepStarted came {kinds.count('StepStarted')} times: {kinds}")
    expect(isinstance(events[-1], StepResult), f"the last event is no StepResult: {kinds}")


@law(
    "own-attempt",
    demand="Every event carries the id of the attempt that it is about, and of no other.",
    reason="core files logs and results by the attempt's id: a mixed-up one gives a step another step's result.",
)
def own_attempt(subject: Subject) -> None:
    """Run attempts that log their own words at once, and look for words of the others."""
    with BackendSession(subject) as session:
        words = {session.submit("says", words=[f"word {n}"] * 3): f"word {n}" for n in range(AT_ONCE)}
        for attempt in words:
            session.result(attempt)
    for attempt, word in words.items():
        texts = session.events.texts(attempt)
        expect(set(texts) <= {word}, f"an attempt that prints {word!r} alone has the logs {texts}")
        expect(len(texts) == 3, f"an attempt that prints {word!r} three times has the logs {texts}")
    # A record without an attempt is a warning about the run.
    unknown = {event.attempt_id for event in session.events.events()} - words.keys() - {""}
    expect(not unknown, f"events of attempts that were never submitted: {sorted(unknown)}")


LAWS: tuple[Law, ...] = (one_result, event_order, own_attempt)
