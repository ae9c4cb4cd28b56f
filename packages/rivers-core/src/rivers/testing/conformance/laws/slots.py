"""Laws of slots: as many attempts at once as declared, no more, and a submit that returns at once."""

from __future__ import annotations

from functools import partial

from rivers.protocol import Ending
from rivers.testing.conformance.bodies import BEGUN
from rivers.testing.conformance.law import Law, expect, law
from rivers.testing.conformance.needs import KILLS, LOCAL_FILES, NOT_BLOCKING, SLOTS
from rivers.testing.conformance.session import BackendSession
from rivers.testing.conformance.subject import Subject

__all__ = ["LAWS"]

MOST = 4
"""Attempts at once that a law asks for where there may be more."""
SUBMIT_LIMIT = 2.0
"""Seconds; the first submit may have to start what serves the others."""


@law(
    "slots-reached",
    demand="As many attempts run at once as the capabilities declare.",
    reason="an executor that runs one after another wastes the machines that it has.",
    needs=(NOT_BLOCKING, KILLS),
)
def reached(subject: Subject) -> None:
    """Fill the slots with bodies that wait, up to four, until all have begun; then cancel them."""
    slots = min(subject.slots or MOST, MOST)
    with BackendSession(subject) as session:
        attempts = [session.submit("sleeps", seconds=600.0) for _ in range(slots)]
        for count, attempt in enumerate(attempts):
            has_started = session.events.wait_for(partial(session.events.starts, attempt), subject.patience)
            expect(has_started, f"{count} of {slots} attempts run at once: the next one has not begun")
            session.wait_for_text(attempt, BEGUN)
        for attempt in attempts:
            session.cancel(attempt)


@law(
    "slots-not-exceeded",
    demand="A result means that the body is over: no more bodies run at once than the capabilities declare.",
    reason="slots are memory and licences, and a body that runs on after its result writes into the next one's.",
    needs=(SLOTS,),
)
def not_exceeded(subject: Subject) -> None:
    """Run three rounds of bodies that note when they begin and end, and count how many overlap."""
    assert subject.slots is not None
    slots = min(subject.slots, MOST)
    with BackendSession(subject) as session:
        attempts = [session.submit("spans", seconds=0.3) for _ in range(3 * slots)]
        for attempt in attempts:
            session.result(attempt)
    # By the clock of the workers, as events may be late: one machine, or machines whose clocks agree.
    times: list[tuple[float, int]] = []
    for attempt in attempts:
        result = session.result(attempt)
        expect(result.ending is Ending.SUCCEEDED, f"a body ended as {result.ending.value}, {result.failure}")
        texts = session.events.texts(attempt)
        spans = dict(text.split(" ", 1) for text in texts if text.startswith(("from ", "to ")))
        expect({"from", "to"} <= spans.keys(), f"a body that prints two lines has the logs {texts}")
        times += [(float(spans["from"]), 1), (float(spans["to"]), -1)]
    running = most = 0
    for _, change in sorted(times):
        running += change
        most = max(most, running)
    expect(most <= subject.slots, f"{most} bodies ran at once: expected at most {subject.slots}")


@law(
    "submit-returns-at-once",
    demand="submit returns at once, whatever the body does.",
    reason="core submits, cancels and reports in one thread: while submit blocks, the whole run stands still.",
    needs=(NOT_BLOCKING,),
)
def at_once(subject: Subject) -> None:
    """Time the submit of a body that takes five seconds."""
    with BackendSession(subject) as session:
        # The first submit may start what serves the others.
        session.run("nothing")
        attempt = session.submit("sleeps", seconds=5.0)
        took = session.last_call_took
        session.cancel(attempt)
        session.result(attempt)
    expect(took < SUBMIT_LIMIT, f"submit took {took:.1f} s: expected less than {SUBMIT_LIMIT:g} s")


@law(
    "body-runs-once",
    demand="A backend runs the body of an attempt once, also if it raises or crashes.",
    reason="retries are core's: it counts, waits and gives each its own attempt id.",
    needs=(LOCAL_FILES,),
)
def runs_once(subject: Subject) -> None:
    """Run bodies that append a line to a file each, and count the lines."""
    bodies = ["appends", "appends_and_raises"]
    bodies += ["appends_and_exits"] if subject.capabilities.isolation != "none" else []
    folder = subject.new_folder()
    with BackendSession(subject) as session:
        attempts = {name: session.submit(name, path=str(folder / name)) for name in bodies}
        endings = {name: session.result(attempt).ending for name, attempt in attempts.items()}
    for name, ending in endings.items():
        times = (folder / name).read_text().count("ran") if (folder / name).exists() else 0
        expect(times == 1, f"the body {name} ran {times} times in one attempt, which ended as {ending.value}")
    expect(endings["appends"] is Ending.SUCCEEDED, f"a body that returns ended as {endings['appends'].value}")


LAWS: tuple[Law, ...] = (reached, not_exceeded, at_once, runs_once)
