"""Tests of reading a result from the termination message, without the stream."""

from __future__ import annotations

import base64
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rivers.protocol import Ending, Failure, FailureReason, LogRecord, StepResult
from rivers.protocol.protobuf import encode_event_protobuf
from rivers_worker.client import outcome_in
from rivers_worker.v1 import worker_pb2 as pb

FAILURE = Failure(reason=FailureReason.ERROR, type="ValueError", message="no orders")
RESULT = StepResult(attempt_id="attempt", ending=Ending.FAILED, failure=FAILURE, worker="pod")
TOLD = pb.Outcome(attempt_id="attempt", step_event=encode_event_protobuf(RESULT))
LOST = pb.Outcome(attempt_id="attempt", lost=pb.Lost(started=True, exit_code=3))


def message(outcome: pb.Outcome) -> str:
    return "rivers-outcome 1 " + base64.b64encode(outcome.SerializeToString()).decode()


def test_a_result() -> None:
    """A result that the worker left is the attempt's result."""
    assert RESULT == outcome_in(message(TOLD), "attempt")


def test_a_lost_body() -> None:
    """What the supervisor saw of a body that died is the same failure as in the stream."""
    result = outcome_in(message(LOST), "attempt")

    assert result is not None
    assert result.failure is not None
    assert (Ending.FAILED, FailureReason.INFRASTRUCTURE) == (result.ending, result.failure.reason)
    assert "exited with code 3 before committing" in result.failure.message


def test_a_body_that_never_started() -> None:
    """A body that was killed before it began leaves an attempt that is dispatched again."""
    result = outcome_in(message(pb.Outcome(attempt_id="attempt", lost=pb.Lost(signal=9))), "attempt")

    assert result is not None
    assert Ending.NOT_STARTED is result.ending


@given(st.text(max_size=200), st.text(max_size=200).filter(lambda text: "rivers-outcome" not in text))
def test_other_text_around_it(before: str, after: str) -> None:
    """Where the message is the tail of a log, the outcome is found among other lines."""
    assert RESULT == outcome_in(f"{before}\n{message(TOLD)}\n{after}", "attempt")


@pytest.mark.parametrize("outcome", [TOLD, LOST], ids=["result", "lost"])
def test_a_message_that_was_cut(outcome: pb.Outcome) -> None:
    """An outcome that was cut is none, or a whole one; never one with less than was written."""
    whole = message(outcome)
    found = [outcome_in(whole[:cut], "attempt") for cut in range(len(whole))]

    assert {None} == set(found)


@given(st.text(max_size=200))
def test_garbage(text: str) -> None:
    """Any other text is none, with and without the mark."""
    assert outcome_in(text, "attempt") is None
    assert outcome_in(f"rivers-outcome 1 {text}", "attempt") is None


@given(st.binary(max_size=200))
def test_any_bytes_behind_the_mark(data: bytes) -> None:
    """Base64 of anything is none, and no error."""
    assert outcome_in("rivers-outcome 1 " + base64.b64encode(data).decode(), "attempt") is None


@pytest.mark.parametrize(
    "outcome",
    [
        pb.Outcome(attempt_id="other", step_event=TOLD.step_event),
        pb.Outcome(
            attempt_id="attempt", step_event=encode_event_protobuf(StepResult(attempt_id="other", ending=Ending.FAILED))
        ),
        pb.Outcome(
            attempt_id="attempt", step_event=encode_event_protobuf(LogRecord(attempt_id="attempt", message="x"))
        ),
        pb.Outcome(attempt_id="attempt"),
        pb.Outcome(),
    ],
    ids=["another attempt", "another attempt's result", "no result", "nothing", "empty"],
)
def test_what_is_not_this_attempts_result(outcome: pb.Outcome) -> None:
    """An outcome of another attempt, or one that holds no result, is none."""
    assert outcome_in(message(outcome), "attempt") is None


def test_another_version() -> None:
    """An outcome of another version is none."""
    assert outcome_in(message(TOLD).replace(" 1 ", " 2 ", 1), "attempt") is None


def test_what_the_client_imports() -> None:
    """`import rivers_worker.client` loads neither the kubernetes client nor loky, nor anything of the server."""
    ours = ["rivers_worker.server", "rivers_worker.supervisor", "rivers_worker.body"]
    others = ["kubernetes", "loky", "cloudpickle", "rivers_executor_k8s", "rivers_executor_parallel"]
    code = f"import sys, rivers_worker.client; print(sorted(sys.modules.keys() & {[*ours, *others]!r}))"
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert "[]" == said.stdout.strip()
