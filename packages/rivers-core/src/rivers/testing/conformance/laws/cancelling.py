"""Laws of cancelling: before an attempt starts, while it runs, after its end, and when it does not listen."""

from __future__ import annotations

from rivers.protocol import Ending, FailureReason
from rivers.testing.conformance.law import Law, expect, law
from rivers.testing.conformance.needs import KILLS
from rivers.testing.conformance.session import BackendSession
from rivers.testing.conformance.subject import Subject

__all__ = ["LAWS"]


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
        session.wait_for_text(attempt, "begun")
        session.cancel(attempt)
        result = session.result(attempt)
    expect(result.ending is Ending.CANCELLED, f"it ended as {result.ending.value}: expected cancelled")
    reason = result.failure.reason if result.failure is not None else FailureReason.CANCELLED
    expect(reason is FailureReason.CANCELLED, f"its failure has reason {reason.value}: expected cancelled")


@law(
    "cancel-kills",
    demand="An attempt that ignores its cancel is killed when the grace is over.",
    reason="bodies hang in C and swallow interrupts; a declared timeout='kill' is a promise to end them.",
    needs=(KILLS,),
)
def kills(subject: Subject) -> None:
    """Cancel a body that swallows every interrupt, with a grace of half a second."""
    with BackendSession(subject, grace=0.5) as session:
        attempt = session.submit("stubborn", seconds=60.0)
        session.wait_for_text(attempt, "begun")
        session.cancel(attempt)
        result = session.result(attempt)
    expect(result.ending is Ending.CANCELLED, f"it ended as {result.ending.value}: expected cancelled")


LAWS: tuple[Law, ...] = (while_running, kills)
