"""Laws of specs: other protocols, unknown fields, odd names, large values, closures and pickles."""

from __future__ import annotations

import hashlib
from typing import Any

from rivers._definitions.asset import Asset
from rivers.exceptions import SpecVersionError
from rivers.protocol import Ending, PickledRef, StepResult, StepSpec, encode_event
from rivers.protocol.ref import sign
from rivers.protocol.struct_checks import register_later_spec
from rivers.testing.conformance.law import Law, LawViolation, expect, law
from rivers.testing.conformance.needs import CLOSURES, ISOLATED, NO_CLOSURES, PICKLES_REFUSABLE, STORE
from rivers.testing.conformance.session import BackendSession
from rivers.testing.conformance.subject import Subject

__all__ = ["LAWS"]

LATER = 99
"""A protocol version that nobody speaks."""
NAMES = (
    "größe/日本語",
    "a.b/c d.e",
    "-rf",
    "$(touch x) `id` ';\"&|<>%s{}",
    "UPPER_and-lower",
    "graph/task[schlüssel: 1/2]",
    "x" * 180,
)
LARGE = {"quick": 16 << 20, "full": 100 << 20}
"""Bytes by tier; both exceed what a spec or a result may hold."""
SMALL = 64 << 10
"""Bytes that all events of an attempt may have together, where its value is in a store."""
# What importing `nothing` looks like in a pickle: loading it runs no code, and calling it succeeds.
HARMLESS_PICKLE = b"crivers.testing.conformance.bodies\nnothing\n."


class LaterSpec(StepSpec, frozen=True, kw_only=True, gc=False):
    """A spec of a later minor version, with a field that today's workers do not know."""

    a_later_field: str = "unknown"


@law(
    "later-protocol-refused",
    demand="A spec of another major version of the protocol fails, names the version, and runs nothing.",
    reason="what a later version means is unknown: running it halfway is worse than refusing.",
    needs=(ISOLATED,),
)
def later_protocol(subject: Subject) -> None:
    """Submit a spec of version 99; submit may raise, or the attempt fails."""
    with BackendSession(subject) as session:
        spec = session.spec("says", words=["ran"], protocol_version=LATER)
        try:
            attempt = session.submit(spec)
        except LawViolation as violation:
            expect(isinstance(violation.__cause__, SpecVersionError), str(violation))
            session.submitted.remove(spec.attempt_id)
            return
        result = session.result(attempt)
    expect("ran" not in session.events.texts(attempt), "the body ran")
    expect(result.ending is Ending.FAILED, f"it ended as {result.ending.value}: expected failed")
    text = result.failure.message if result.failure is not None else ""
    expect(str(LATER) in text, f"the failure does not name version {LATER}: {text!r}")


@law(
    "unknown-fields-ignored",
    demand="A field that the worker does not know is ignored.",
    reason="minor versions add fields, and images are older than controllers.",
)
def unknown_fields(subject: Subject) -> None:
    """Submit a spec with a field of a later version."""
    register_later_spec(LaterSpec)
    with BackendSession(subject) as session:
        result = session.run(session.spec("nothing", spec_type=LaterSpec))
    expect(result.ending is Ending.SUCCEEDED, f"it ended as {result.ending.value}, {result.failure}")


@law(
    "hostile-names",
    demand="Names that definitions permit work: unicode, long ones, slashes, and what a shell would expand.",
    reason="names become file names, labels, job names and command lines on the way.",
)
def hostile_names(subject: Subject) -> None:
    """Run a step of each name, with an output of that name where there is a store."""
    with BackendSession(subject) as session:
        attempts = {}
        for name in NAMES:
            outputs = (session.output(name),) if subject.has_store else ()
            attempts[name] = session.submit("answers", step=name, outputs=outputs)
        results = {name: session.result(attempt) for name, attempt in attempts.items()}
    for name, result in results.items():
        seen = f"the step {name!r} ended as {result.ending.value}, {result.failure}"
        expect(result.ending is Ending.SUCCEEDED, seen)
        keys = [record.key for record in result.outputs]
        expect(keys == [name] * subject.has_store, f"the step {name!r} has the outputs {keys}")


@law(
    "output-metadata",
    demand="A result has the outputs of the body, with their metadata and data version.",
    reason="reports and later runs decide by them what has changed.",
    needs=(STORE,),
)
def metadata(subject: Subject) -> None:
    """Run a body that adds metadata and a version."""
    with BackendSession(subject) as session:
        result = session.run("describes", outputs=(session.output("described"),))
    expect(len(result.outputs) == 1, f"a body with one output has {len(result.outputs)} in its result")
    record = result.outputs[0]
    expect(record.data_version == "v7", f"the data version is {record.data_version!r}: expected 'v7'")
    expect('"rows":3' in (record.metadata or "").replace(" ", ""), f"the metadata is {record.metadata}")


@law(
    "large-values",
    demand="A large value goes to the store and from the store, and not through events.",
    reason="the controller would hold and copy every value of a run.",
    needs=(STORE,),
)
def large_values(subject: Subject) -> None:
    """Store a value, measure the events, and load it in another attempt."""
    size = LARGE[subject.tier]
    with BackendSession(subject) as session:
        attempt = session.submit("makes", size=size, outputs=(session.output("large"),))
        result: StepResult = session.result(attempt)
        expect(result.ending is Ending.SUCCEEDED, f"it ended as {result.ending.value}, {result.failure}")
        sent = sum(len(encode_event(event)) for event in session.events.events(attempt))
        expect(sent < SMALL, f"the events of an attempt with a value of {size} bytes have {sent} bytes")
        reader = session.submit("measures", inputs=(session.stored("value", "large"),))
        session.result(reader)
    texts = session.events.texts(reader)
    expect(texts == [f"{size} bytes"], f"the reader of a value of {size} bytes logged {texts}")


@law(
    "closures-run",
    demand="An executor that declares closures runs a function without module scope.",
    reason="notebooks and tests define functions anywhere, and core refuses them elsewhere.",
    needs=(CLOSURES, STORE),
)
def closures_run(subject: Subject) -> None:
    """Run a function that closes over a variable."""
    number = 20

    def closure() -> int:
        return number + 1

    with subject.repository([Asset(closure, name="closure")]) as repository:
        result = repository.submit().wait(subject.patience)
        expect(result.success, f"it ended as {result.status}: {[m for _, m in result.failed_assets]}")
        value: Any = repository.load_node("closure")
    expect(value == number + 1, f"its value is {value!r}: expected {number + 1}")


@law(
    "closures-refused",
    demand="An executor that declares no closures loads no pickle, also a signed one.",
    reason="an image that runs only what it holds is what its operator counts on.",
    needs=(NO_CLOSURES, ISOLATED),
)
def closures_refused(subject: Subject) -> None:
    """Submit a pickle that is signed with the run's key."""
    with BackendSession(subject) as session:
        _expect_refused(session, sign(HARMLESS_PICKLE, session.key), "a pickle")


@law(
    "unsigned-pickles-refused",
    demand="A pickle that the run has not signed is not loaded.",
    reason="a spec may come from anybody who reaches the worker, and loading a pickle runs its code.",
    needs=(PICKLES_REFUSABLE,),
)
def unsigned_refused(subject: Subject) -> None:
    """Submit a pickle with the digest of its payload and a signature of another key."""
    ref = PickledRef(
        payload=HARMLESS_PICKLE, sha256=hashlib.sha256(HARMLESS_PICKLE).digest(), hmac=sign(b"other", b"key").hmac
    )
    with BackendSession(subject) as session:
        _expect_refused(session, ref, "a pickle with a wrong signature")


def _expect_refused(session: BackendSession, ref: PickledRef, what: str) -> None:
    spec = session.spec("nothing", function=ref)
    try:
        ending = session.run(spec).ending
    except LawViolation as violation:
        # Refused by submit is refused, too; a wait without end is not.
        expect(violation.__cause__ is not None, str(violation))
        session.submitted.remove(spec.attempt_id)
        return
    expect(ending is Ending.FAILED, f"{what} ended as {ending.value}: expected failed")


LAWS: tuple[Law, ...] = (
    later_protocol,
    unknown_fields,
    hostile_names,
    metadata,
    large_values,
    closures_run,
    closures_refused,
    unsigned_refused,
)
