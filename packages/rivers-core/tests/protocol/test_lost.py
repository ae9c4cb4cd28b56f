"""The result of an attempt whose worker ended without one (`lost`)."""

from __future__ import annotations

import pytest

from rivers.protocol import Ending, Evidence, FailureReason, decode_event, encode_event, lost


@pytest.mark.parametrize(
    ("evidence", "started", "ending", "reason", "transient"),
    [
        (Evidence(signal=9), True, Ending.FAILED, FailureReason.INFRASTRUCTURE, True),
        (Evidence(signal=9), False, Ending.NOT_STARTED, FailureReason.INFRASTRUCTURE, True),
        (Evidence(exit_code=0), True, Ending.FAILED, FailureReason.INFRASTRUCTURE, True),
        (Evidence(exit_code=1), False, Ending.FAILED, FailureReason.INFRASTRUCTURE, False),
        (Evidence(detail="OSError: no processes"), False, Ending.NOT_STARTED, FailureReason.INFRASTRUCTURE, True),
        (Evidence(signal=9, oom_kills=1), True, Ending.FAILED, FailureReason.OUT_OF_MEMORY, True),
        (Evidence(signal=15, cancelled=True), True, Ending.CANCELLED, FailureReason.CANCELLED, True),
        (Evidence(signal=9, timed_out=True), True, Ending.FAILED, FailureReason.TIMEOUT, True),
    ],
)
def test_lost(evidence: Evidence, started: bool, ending: Ending, reason: FailureReason, transient: bool) -> None:
    """The start of the attempt and the evidence decide its ending, its reason and whether a retry may help."""
    result = lost("run-1", evidence, started=started)

    assert result.failure is not None
    assert (ending, reason, transient) == (result.ending, result.failure.reason, result.failure.transient)
    assert evidence == result.failure.evidence


def test_lost_can_be_sent() -> None:
    """It is within the limits of the protocol, and names the worker."""
    result = lost("run-1", Evidence(signal=11, worker="pid 7"))

    assert result == decode_event(encode_event(result))
    assert "pid 7" == result.worker
