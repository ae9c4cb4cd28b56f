"""Print the termination message of a succeeded attempt, in place of a worker."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from rivers.protocol import Ending, StepResult
from rivers.protocol.protobuf import encode_event_protobuf
from rivers_worker.v1 import worker_pb2 as pb


def outcome(pod: Mapping[str, Any]) -> str:
    """Return the termination message of a worker whose attempt has succeeded."""
    env = {item["name"]: item.get("value", "") for item in pod["spec"]["containers"][0]["env"]}
    attempt_id = env["RIVERS_ATTEMPT_ID"]
    result = encode_event_protobuf(StepResult(attempt_id=attempt_id, ending=Ending.SUCCEEDED))
    reported = pb.Outcome(attempt_id=attempt_id, step_event=result).SerializeToString()
    return f"rivers-outcome 1 {base64.b64encode(reported).decode()}"
