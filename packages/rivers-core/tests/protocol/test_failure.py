"""The classification of a worker that ended without a result, and its description."""

from __future__ import annotations

import signal

import pytest

from rivers.protocol import Evidence, FailureReason, classify, describe

REASONS = [
    (Evidence(timed_out=True, signal=9, exit_code=137), FailureReason.TIMEOUT),
    (Evidence(timed_out=True, cancelled=True), FailureReason.TIMEOUT),
    (Evidence(cancelled=True, signal=15), FailureReason.CANCELLED),
    (Evidence(cancelled=True, container_reason="OOMKilled"), FailureReason.CANCELLED),
    (Evidence(container_reason="Evicted", oom_kills=1), FailureReason.INFRASTRUCTURE),
    (Evidence(container_reason="Preempting", exit_code=137), FailureReason.INFRASTRUCTURE),
    (Evidence(container_reason="NodeShutdown"), FailureReason.INFRASTRUCTURE),
    (Evidence(container_reason="NodeLost"), FailureReason.INFRASTRUCTURE),
    (Evidence(container_reason="Terminated"), FailureReason.INFRASTRUCTURE),
    (Evidence(container_reason="Deleted"), FailureReason.INFRASTRUCTURE),
    (Evidence(container_reason="OOMKilled", exit_code=137), FailureReason.OUT_OF_MEMORY),
    (Evidence(oom_kills=1, signal=9), FailureReason.OUT_OF_MEMORY),
    (Evidence(oom_kills=0, signal=9), FailureReason.INFRASTRUCTURE),
    (Evidence(memory_peak=2**30, memory_limit=2**30, exit_code=137), FailureReason.INFRASTRUCTURE),
    (Evidence(exit_code=137), FailureReason.INFRASTRUCTURE),
    (Evidence(exit_code=143), FailureReason.INFRASTRUCTURE),
    (Evidence(exit_code=0), FailureReason.INFRASTRUCTURE),
    (Evidence(exit_code=1), FailureReason.INFRASTRUCTURE),
    (Evidence(exit_code=139, signal=11, container_reason="Error"), FailureReason.INFRASTRUCTURE),
    (Evidence(), FailureReason.INFRASTRUCTURE),
]


@pytest.mark.parametrize(("evidence", "reason"), REASONS, ids=[repr(evidence) for evidence, _ in REASONS])
def test_classify(evidence: Evidence, reason: FailureReason) -> None:
    """A timeout of ours wins, then a cancel, then a lost pod, then an OOM kill; all else is infrastructure."""
    assert reason is classify(evidence)


@pytest.mark.parametrize("number", list(signal.Signals))
def test_no_signal_is_the_bodys_error(number: int) -> None:
    """A worker that ended by any signal without a report is never taken for an error of the body."""
    assert FailureReason.INFRASTRUCTURE is classify(Evidence(signal=number, exit_code=-number))


TEXTS = [
    (Evidence(), "the worker ended without reporting a result"),
    (Evidence(exit_code=0), "exited with code 0 before committing"),
    (Evidence(exit_code=-9, signal=9, worker="pid 12"), "killed by SIGKILL (9); worker pid 12"),
    (Evidence(signal=250), "killed by an unknown signal (250)"),
    (
        Evidence(signal=9, container_reason="OOMKilled", memory_limit=512 * 2**20, memory_peak=511 * 2**20, node="n1"),
        "killed by SIGKILL (9); container reason OOMKilled; memory 511 of 512 MiB; on node n1",
    ),
    (Evidence(oom_kills=1, memory_limit=2**20), "1 OOM kill in its cgroup; memory ? of 1 MiB"),
    (Evidence(oom_kills=2), "2 OOM kills in its cgroup"),
    (
        Evidence(exit_code=70, detail="worker log ends with: boom"),
        "exited with code 70 before committing; worker log ends with: boom",
    ),
]


@pytest.mark.parametrize(("evidence", "text"), TEXTS)
def test_describe(evidence: Evidence, text: str) -> None:
    """Evidence is described on one line, with signals by name."""
    assert text == describe(evidence)
