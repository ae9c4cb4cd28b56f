"""Laws of cancelling: before an attempt starts, while it runs, after its end, and when it does not listen."""

from __future__ import annotations

import time

from rivers._definitions.asset import Asset
from rivers.protocol import Ending, FailureReason, StepResult
from rivers.testing.conformance.bodies import BEGUN, answers, oversleeps
from rivers.testing.conformance.law import Law, expect, law
from rivers.testing.conformance.needs import KILLS, NOT_BLOCKING, TWO_SLOTS
from rivers.testing.conformance.session import BackendSession
from rivers.testing.conformance.subject import Subject

__all__ = ["LAWS"]

CANCEL_LIMIT = 1.5
"""Seconds."""


def _is_cancelled(result: StepResult, what: str) -> None:
    expect(result.ending is Ending.CANCELLED, f"{what} ended as {result.ending.value}: expected cancelled")


@law(
    "cancel-while-running",
    demand="A cancelled attempt whose body runs ends as cancelled, soon.",
    reason="Ctrl-C, a timeout and a failed fan-out all cancel: steps that run on cost money and hold up the end.",
    needs=(KILLS,),
)
def while_running(subject: Subject) -> None:
    """Cancel a body that sleeps, once it has begun."""
    with BackendSession(subject, grace=5.0) as session:
        attempt = session.submit("sleeps", seconds=600.0)
        session.wait_for_text(attempt, BEGUN)
        session.cancel(attempt)
        result = session.result(attempt)
    _is_cancelled(result, "it")
    reason = result.failure.reason if result.failure is not None else FailureReason.CANCELLED
    expect(reason is FailureReason.CANCELLED, f"its failure has reason {reason.value}: expected cancelled")


@law(
    "cancel-kills",
    demand="An attempt that ignores its cancel is killed when the grace is over, also one that hangs in C.",
    reason="bodies swallow interrupts and hang; a declared timeout='kill' is a promise to end them.",
    needs=(KILLS,),
)
def kills(subject: Subject) -> None:
    """Cancel a body that is deaf, and one that holds the GIL in C, with a grace of half a second."""
    with BackendSession(subject, grace=0.5) as session:
        for body, arguments in (("stubborn", {"seconds": 60.0}), ("hangs", {})):
            attempt = session.submit(body, **arguments)
            session.wait_for_text(attempt, BEGUN)
            # A body that ends before its grace is over was not deaf, and nothing would be judged.
            began = time.monotonic()
            session.cancel(attempt)
            _is_cancelled(session.result(attempt), f"the body {body}")
            expect(time.monotonic() - began > 0.4, f"the body {body} was killed before its grace of 0.5 s was over")


@law(
    "cancel-grace",
    demand="A cancelled body gets the grace to clean up before it is killed.",
    reason="transactions, temporary tables and locks are released in finally.",
    needs=(KILLS,),
)
def gives_grace(subject: Subject) -> None:
    """Cancel a body that needs a moment in finally, and look for its last line."""
    with BackendSession(subject, grace=10.0) as session:
        attempt = session.submit("cleans_up")
        session.wait_for_text(attempt, BEGUN)
        session.cancel(attempt)
        session.result(attempt)
    texts = session.events.texts(attempt)
    expect("cleaned up" in texts, f"the finally of a body did not run within a grace of 10 s: its logs are {texts}")


@law(
    "cancel-before-start",
    demand="An attempt that is cancelled right after its submit ends once, as cancelled or not started.",
    reason="a cancel that comes before the worker exists is easily lost, and the step runs for nothing.",
    needs=(NOT_BLOCKING, KILLS),
)
def before_start(subject: Subject) -> None:
    """Cancel at once, without waiting for the start."""
    with BackendSession(subject) as session:
        attempt = session.submit("sleeps", seconds=600.0)
        session.cancel(attempt)
        ending = session.result(attempt).ending
        following = session.run("nothing").ending
    allowed = (Ending.CANCELLED, Ending.NOT_STARTED)
    expect(ending in allowed, f"it ended as {ending.value}: expected cancelled or not_started")
    expect(len(session.events.results(attempt)) == 1, f"it has {len(session.events.results(attempt))} results")
    expect(following is Ending.SUCCEEDED, f"the next attempt ended as {following.value}")


@law(
    "cancel-twice",
    demand="A second cancel of an attempt does no harm, and the attempt still ends once.",
    reason="Ctrl-C twice, or a timeout during a cancel, are everyday.",
    needs=(NOT_BLOCKING, KILLS),
)
def twice(subject: Subject) -> None:
    """Cancel a running attempt three times."""
    with BackendSession(subject) as session:
        attempt = session.submit("sleeps", seconds=600.0)
        session.wait_for_text(attempt, BEGUN)
        # The third may meet an attempt that is just ending.
        for _ in range(3):
            session.cancel(attempt)
        session.result(attempt)
        session.cancel(attempt)
    expect(len(session.events.results(attempt)) == 1, f"it has {len(session.events.results(attempt))} results")


@law(
    "cancel-after-end",
    demand="A cancel of an attempt that is over does nothing.",
    reason="a result and a cancel cross each other on the way: the next attempt must not pay for it.",
)
def after_end(subject: Subject) -> None:
    """Cancel an attempt that has ended, then run another one."""
    with BackendSession(subject) as session:
        attempt = session.submit("nothing")
        session.result(attempt)
        session.cancel(attempt)
        following = session.run("nothing").ending
    expect(len(session.events.results(attempt)) == 1, f"it has {len(session.events.results(attempt))} results")
    expect(following is Ending.SUCCEEDED, f"the next attempt ended as {following.value}")


@law(
    "cancel-unknown",
    demand="A cancel of an attempt that was never submitted does nothing.",
    reason="core cancels what it knows; an attempt that submit has refused is unknown to the backend.",
)
def unknown(subject: Subject) -> None:
    """Cancel an attempt that does not exist, while another one runs."""
    with BackendSession(subject) as session:
        attempt = session.submit("nothing")
        session.cancel(f"{session.run_id}-unknown")
        ending = session.result(attempt).ending
    events = session.events.events(f"{session.run_id}-unknown")
    expect(not events, f"an unknown attempt has the events {[type(event).__name__ for event in events]}")
    expect(ending is Ending.SUCCEEDED, f"the attempt beside it ended as {ending.value}")


@law(
    "cancel-harms-nobody-else",
    demand="A cancel ends its own attempt and no other.",
    reason="a failed fan-out cancels its instances while other steps run.",
    needs=(TWO_SLOTS, NOT_BLOCKING, KILLS),
)
def harms_nobody(subject: Subject) -> None:
    """Cancel one of two running attempts, and one that waits in no queue of the other's."""
    with BackendSession(subject, grace=0.5) as session:
        neighbour = session.submit("sleeps", seconds=3.0)
        session.wait_for_text(neighbour, BEGUN)
        attempt = session.submit("stubborn", seconds=60.0)
        session.wait_for_text(attempt, BEGUN)
        session.cancel(attempt)
        session.result(attempt)
        ending = session.result(neighbour).ending
    expect(ending is Ending.SUCCEEDED, f"the neighbour of a cancelled attempt ended as {ending.value}")


@law(
    "cancel-returns-at-once",
    demand="cancel returns at once, and does not wait for the end.",
    reason="core cancels all attempts in one thread: a cancel that waits for one holds up all others.",
    needs=(NOT_BLOCKING, KILLS),
)
def at_once(subject: Subject) -> None:
    """Time the cancel of a body that is deaf, with a grace of three seconds."""
    with BackendSession(subject) as session:
        attempt = session.submit("stubborn", seconds=60.0)
        session.wait_for_text(attempt, BEGUN)
        took = session.cancel(attempt, grace=3.0)
        # A second one may shorten the grace; that it does is no part of this law.
        session.cancel(attempt, grace=0.1)
        session.result(attempt)
    expect(took < CANCEL_LIMIT, f"cancel took {took:.1f} s: expected less than {CANCEL_LIMIT:g} s")


@law(
    "timeout-reason",
    demand="A step that exceeds its timeout fails with the reason timeout, and no other step with it.",
    reason="retry policies treat a timeout differently from a lost worker, and core alone decides when time is up.",
    needs=(NOT_BLOCKING, KILLS),
)
def timeout_reason(subject: Subject) -> None:
    """Run a step that is overdue after a second and a half, beside one that is not."""
    steps = [Asset(oversleeps, name="overdue", timeout=1.5), Asset(answers, name="neighbour")]
    with subject.repository(steps) as repository:
        # Longer than a body may take that is asked, killed, and looked for in the store.
        result = repository.submit().wait(2 * subject.patience + 10.0)
    failure = result.steps["overdue"].failure
    reason = failure.reason.value if failure is not None else result.steps["overdue"].state.value
    expect(reason == FailureReason.TIMEOUT.value, f"an overdue step ended with reason {reason}: expected timeout")
    state = result.steps["neighbour"].state.value
    expect(state == "succeeded", f"the step beside it is {state}: expected succeeded")


LAWS: tuple[Law, ...] = (
    while_running,
    kills,
    gives_grace,
    before_start,
    twice,
    after_end,
    unknown,
    harms_nobody,
    at_once,
    timeout_reason,
)
