"""Laws of closing: bounded, complete, repeatable, and final."""

from __future__ import annotations

import time

from rivers.protocol import Ending
from rivers.testing.conformance.bodies import BEGUN
from rivers.testing.conformance.law import Law, expect, law
from rivers.testing.conformance.needs import KILLS, NOT_BLOCKING, WARM
from rivers.testing.conformance.session import BackendSession
from rivers.testing.conformance.subject import Subject

__all__ = ["LAWS"]

DEADLINE = 5.0
"""Seconds that `close` gets."""
SLACK = 2.0
"""Seconds that it may take longer, on a busy machine."""
QUIET = 0.5
"""Seconds in which late events would come."""


def _start_two(session: BackendSession) -> list[str]:
    """Start a body that can be asked to stop, and one that is deaf where there is a slot for it."""
    attempts = [session.submit("sleeps", seconds=600.0)]
    if (session.subject.slots or 2) > 1:
        attempts.append(session.submit("stubborn", seconds=600.0))
    for attempt in attempts:
        session.wait_for_text(attempt, BEGUN)
    return attempts


@law(
    "close-in-flight",
    demand="close ends the attempts that still run, within its deadline.",
    reason="a run that is interrupted closes with work in flight, and nobody waits for ever.",
    needs=(NOT_BLOCKING, KILLS),
)
def in_flight(subject: Subject) -> None:
    """Close while bodies run, and time it."""
    with BackendSession(subject) as session:
        _start_two(session)
        # No cancel before: close finds them as an interrupt of the program would.
        took = session.close(DEADLINE)
    expect(took < DEADLINE + SLACK, f"close with a deadline of {DEADLINE:g} s took {took:.1f} s")


@law(
    "close-in-flight-results",
    demand="When close has returned, each attempt that was submitted has its one result.",
    reason="core reports every step; one without a result would stay running in all records.",
    needs=(NOT_BLOCKING, KILLS),
)
def in_flight_results(subject: Subject) -> None:
    """Close while bodies run, and count their results."""
    with BackendSession(subject) as session:
        attempts = _start_two(session)
        session.close(DEADLINE)
        results = [session.events.results(attempt) for attempt in attempts]
    counts = [len(found) for found in results]
    expect(
        counts == [1] * len(attempts), f"the attempts in flight have {counts} results after close: expected one each"
    )
    endings = {found[0].ending for found in results}
    expect(Ending.SUCCEEDED not in endings, "an attempt that close has ended counts as succeeded")


@law(
    "no-event-after-close",
    demand="No event comes after close has returned.",
    reason="the run is over and reported: a late event reaches a sink of the next run, or nobody.",
)
def no_late_event(subject: Subject) -> None:
    """Close, with bodies in flight where they can be killed, and listen for a while."""
    can = subject.capabilities
    with BackendSession(subject) as session:
        if can.blocking or can.timeout != "kill":
            session.run("says", words=["one"])
        else:
            _start_two(session)
        session.close(DEADLINE)
        time.sleep(QUIET)
        late = session.events.late
    expect(not late, f"{len(late)} events after close: {[type(event).__name__ for event in late[:5]]}")


@law(
    "close-twice",
    demand="A second close, and a shutdown after it, do nothing.",
    reason="clean-up runs on several paths, and an error there hides the one that mattered.",
)
def close_twice(subject: Subject) -> None:
    """Close two times, and shut down two times."""
    with BackendSession(subject) as session:
        session.run("nothing")
        session.close()
        session.close()
        session.call("shutdown", lambda: session.backend.shutdown(DEADLINE))


@law(
    "close-without-open",
    demand="close works after an open that has not come to its end.",
    reason="core closes once for each open, also when that raised or was interrupted.",
)
def without_open(subject: Subject) -> None:
    """Close a backend that was never opened."""
    # An open that raises in its first line leaves nothing behind for close to find.
    session = BackendSession(subject)
    session.close()
    session.end()


@law(
    "open-again",
    demand="A warm backend serves a later run, and its events go to that run's sink alone.",
    reason="a repository opens a warm backend again and again, and two runs must not mix.",
    needs=(WARM,),
)
def open_again(subject: Subject) -> None:
    """Run an attempt, close, and open the same backend for a second run."""
    with BackendSession(subject) as session:
        session.run("nothing")
        session.close()
        second = BackendSession(subject)
        second.backend = session.backend
        with second:
            result = second.run("says", words=["two"])
    expect(result.ending is Ending.SUCCEEDED, f"an attempt of the second run ended as {result.ending.value}")
    late = session.events.late
    expect(not late, f"the sink of the first run has events of the second: {[type(event).__name__ for event in late]}")


@law(
    "preflight-is-clean",
    demand="preflight finds no problem in a spec that runs, starts nothing of it, and abandon releases the rest.",
    reason="a false problem refuses a run that would have worked.",
)
def preflight(subject: Subject) -> None:
    """Ask for the problems of a spec, then abandon the run."""
    session = BackendSession(subject)
    problems: list[object] = []
    with BackendSession(subject) as other:
        spec = other.spec("says", words=["ran"])

    def ask() -> None:
        session.backend.observe(session.events)
        problems.extend(session.backend.preflight([spec]))

    session.call("preflight", ask)
    session.call("abandon", lambda: session.backend.abandon(DEADLINE))
    session.end()
    expect(not problems, f"preflight found {problems}")
    started = [type(event).__name__ for event in session.events.events(spec.attempt_id)]
    expect(not started, f"preflight started the step: {started}")


LAWS: tuple[Law, ...] = (
    in_flight,
    in_flight_results,
    no_late_event,
    close_twice,
    without_open,
    open_again,
    preflight,
)
