"""Read the result of an attempt from its termination message, or from what the supervisor saw of its process."""

from __future__ import annotations

import base64
import binascii

from google.protobuf.message import DecodeError

from rivers.exceptions import SpecDecodeError
from rivers.protocol import Evidence, StepResult, lost
from rivers.protocol.protobuf import decode_event_protobuf
from rivers_worker.v1 import worker_pb2 as pb

__all__ = ["lost_result", "outcome_in"]

_MARK = "rivers-outcome 1 "


def outcome_in(message: str, attempt_id: str) -> StepResult | None:
    """Return the result that the worker wrote into the termination message; its texts are cut.

    Return None if there is none that can be read whole, or only another attempt's.
    """
    # The runtime may put log lines before it, as terminationMessagePolicy FallbackToLogsOnError does.
    for line in reversed(message.splitlines()):
        if line.startswith(_MARK):
            return _outcome(line.removeprefix(_MARK).strip(), attempt_id)
    return None


def _outcome(text: str, attempt_id: str) -> StepResult | None:
    try:
        outcome = pb.Outcome.FromString(base64.b64decode(text, validate=True))
        if outcome.attempt_id != attempt_id:
            return None
        if outcome.HasField("lost"):
            return lost_result(outcome.lost, attempt_id, "")
        event = decode_event_protobuf(outcome.step_event)
    except (binascii.Error, ValueError, DecodeError, SpecDecodeError):
        return None
    return event if isinstance(event, StepResult) and event.attempt_id == attempt_id else None


def lost_result(seen: pb.Lost, attempt_id: str, worker: str) -> StepResult:
    """Return the result of an attempt whose process ended without one, from what its supervisor has seen."""
    evidence = Evidence(
        worker=worker or None,
        cancelled=seen.cancelled,
        **{field.name: value for field, value in seen.ListFields() if field.name not in ("started", "cancelled")},
    )
    return lost(attempt_id, evidence, started=seen.started)
