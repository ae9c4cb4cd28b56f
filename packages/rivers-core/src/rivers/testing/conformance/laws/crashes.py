"""Laws of crashes: a worker that ends without a result is a failure with its reason, and nobody else's."""

from __future__ import annotations

import signal

from rivers.protocol import Compute, Ending, FailureReason, StepResult
from rivers.testing.conformance.bodies import BEGUN
from rivers.testing.conformance.law import Law, expect, law
from rivers.testing.conformance.needs import ISOLATED, PROVISIONS, TWO_SLOTS
from rivers.testing.conformance.session import BackendSession
from rivers.testing.conformance.subject import Subject

__all__ = ["LAWS"]


def _is_infrastructure(result: StepResult, what: str) -> None:
    expect(result.ending is Ending.FAILED, f"{what} ended as {result.ending.value}: expected failed")
    reason = result.failure.reason.value if result.failure is not None else None
    expect(reason == FailureReason.INFRASTRUCTURE.value, f"{what} has reason {reason}: expected infrastructure")


@law(
    "exit-0-is-no-success",
    demand="A worker that exits with code 0 before it has reported a result has failed.",
    reason="libraries call os._exit(0), and a step whose output was never stored would count as done.",
    needs=(ISOLATED,),
)
def exit_0(subject: Subject) -> None:
    """Run a body that ends its process with code 0."""
    with BackendSession(subject) as session:
        _is_infrastructure(session.result(session.submit("exits", code=0)), "a worker that exited with 0")


@law(
    "crash-by-exit-code",
    demand="A worker that exits during the body fails the attempt as infrastructure, with the exit code as evidence.",
    reason="retry policies decide by the reason, and the exit code is all that a person has to go by.",
    needs=(ISOLATED,),
)
def exit_code(subject: Subject) -> None:
    """Run a body that ends its process with code 3, and look for it in the evidence."""
    with BackendSession(subject) as session:
        result = session.result(session.submit("exits", code=3))
    _is_infrastructure(result, "a worker that exited with 3")
    evidence = result.failure.evidence if result.failure is not None else None
    expect(evidence is not None and evidence.exit_code == 3, f"the evidence of exit code 3 is {evidence}")


@law(
    "crash-by-signal",
    demand="A worker killed by a signal fails the attempt as infrastructure, with the signal as evidence.",
    reason="a bare SIGKILL proves no lack of memory: the OOM killer, a person and a dying node all send it.",
    needs=(ISOLATED,),
)
def by_signal(subject: Subject) -> None:
    """Run bodies that SIGKILL and SIGSEGV their process."""
    with BackendSession(subject) as session:
        for number in (signal.SIGKILL, signal.SIGSEGV):
            result = session.result(session.submit("dies", number=int(number)))
            _is_infrastructure(result, f"a worker killed by {number.name}")
            evidence = result.failure.evidence if result.failure is not None else None
            # A platform that knows exit codes alone reports a signal as 128 plus its number, as shells do.
            found = evidence is not None and (evidence.signal == number or evidence.exit_code == 128 + number)
            expect(found, f"the evidence of {number.name} is {evidence}")


@law(
    "crash-harms-nobody-else",
    demand="A crash ends its own attempt and no other, and the executor goes on.",
    reason="one bad step must not cost the work of its neighbours.",
    needs=(ISOLATED, TWO_SLOTS),
)
def harms_nobody(subject: Subject) -> None:
    """Crash one attempt while another one runs, and submit a third one afterwards."""
    with BackendSession(subject) as session:
        # Long enough to be there when the other one crashes, short enough for a quick law.
        neighbour = session.submit("sleeps", seconds=2.0)
        session.wait_for_text(neighbour, BEGUN)
        session.result(session.submit("dies", number=int(signal.SIGKILL)))
        for attempt, what in ((neighbour, "the neighbour"), (session.submit("nothing"), "the next attempt")):
            ending = session.result(attempt).ending
            expect(ending is Ending.SUCCEEDED, f"{what} of a crash ended as {ending.value}: expected succeeded")


@law(
    "crash-after-result",
    demand="An attempt that has reported its result keeps it, whatever its worker does afterwards.",
    reason="what is committed is reported successful: a second run would do its work twice.",
    needs=(ISOLATED,),
)
def after_result(subject: Subject) -> None:
    """Run a body that makes its worker end with exit code 1 after the result."""
    with BackendSession(subject) as session:
        ending = session.run("exits_later").ending
    expect(ending is Ending.SUCCEEDED, f"an attempt whose worker exits with 1 afterwards ended as {ending.value}")


@law(
    "out-of-memory",
    demand="A worker that is killed for its memory fails the attempt as out_of_memory.",
    reason="a retry with more memory is decided by this reason, and without it repeats the failure.",
    needs=(ISOLATED, PROVISIONS),
    tier="full",
)
def out_of_memory(subject: Subject) -> None:
    """Take more memory than the step asks for."""
    with BackendSession(subject) as session:
        result = session.run("takes_memory", mebibytes=1024, compute=Compute(memory="256Mi"))
    reason = result.failure.reason.value if result.failure is not None else None
    expect(reason == FailureReason.OUT_OF_MEMORY.value, f"1 GiB in 256 MiB ended as {result.ending.value}, {reason}")


LAWS: tuple[Law, ...] = (exit_0, exit_code, by_signal, harms_nobody, after_result, out_of_memory)
