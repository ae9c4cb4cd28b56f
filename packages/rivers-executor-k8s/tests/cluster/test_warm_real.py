"""Warm workers on a real cluster: pods that serve many steps, and what befalls them.

Needs what test_runs_real.py needs.
"""

from __future__ import annotations

import pod_steps
import pytest
from namespaces import Namespace
from real_runs import ANY_REASON, NEEDS_IMAGE, NO_NOTES, Start

import rivers as rs

pytestmark = [NEEDS_IMAGE, pytest.mark.timeout(180)]

WARM = {"worker_reuse": "run", "max_concurrent_steps": 2, "env": NO_NOTES}


def plain(count: int) -> list[rs.Asset]:
    return [rs.Asset(pod_steps.plain, name=f"n{i}") for i in range(count)]


def test_steps_share_pods(begin: Start) -> None:
    """Steps beside each other run in as many pods as may run at once."""
    result = begin(*plain(12), **WARM).end()

    assert result.success, result.failed_assets
    assert len({step.worker for step in result.steps.values()}) <= 2


def test_killed_body(begin: Start) -> None:
    """A body that dies is charged alone; its worker gets no further step, and all others succeed."""
    going = begin(pod_steps.killed, *plain(6), **WARM)
    result = going.end()

    states = {name: step.state for name, step in result.steps.items()}
    assert rs.StepState.FAILED == states.pop("killed")
    assert {rs.StepState.SUCCEEDED} == set(states.values())
    assert [1] * 7 == [step.attempts for step in result.steps.values()]
    after = [step.worker for name, step in result.steps.items() if name != "killed"]
    assert len(set(after)) <= 3


@pytest.mark.parametrize(
    "how", ["delete", pytest.param("force", marks=pytest.mark.long), pytest.param("evict", marks=pytest.mark.long)]
)
def test_pod_is_taken_away(begin: Start, namespace: Namespace, how: str) -> None:
    """The attempt that ran in it is charged and repeated elsewhere; nobody else's is."""
    policy = rs.RetryPolicy(1, retry_on=ANY_REASON)
    going = begin(pod_steps.once_slow, *plain(6), retry=policy, **WARM)
    pod = going.until("StepStarted", "once_slow").worker
    if how == "evict":
        namespace.evict(pod)
    else:
        namespace.delete(pod, 0 if how == "force" else None)
    result = going.end()

    assert result.success, result.failed_assets
    assert 2 == result.steps["once_slow"].attempts
    assert {1} == {step.attempts for name, step in result.steps.items() if name != "once_slow"}


def test_out_of_memory(begin: Start) -> None:
    """The kernel's OOM kill ends the worker's service; the retry's pod is of another shape."""
    policy = rs.RetryPolicy(2, escalate=rs.ComputeEscalation(max_memory="1Gi", factor=3))
    result = begin(pod_steps.hogs, *plain(4), retry=policy, **WARM).end()

    assert result.success, result.failed_assets
    assert 2 == result.steps["hogs"].attempts
    assert {1} == {step.attempts for name, step in result.steps.items() if name != "hogs"}


def test_labels_follow_the_attempt(begin: Start, namespace: Namespace) -> None:
    """Labels of a pod follow the attempt that it runs."""
    going = begin(*plain(3), pod_steps.sleeps, **{**WARM, "max_concurrent_steps": 1})
    pod = going.until("StepStarted", "sleeps").worker
    labelled = namespace.until(
        lambda: (
            ("sleeps" == namespace.ask("GET", f"{namespace.path}/pods/{pod}")["metadata"]["labels"]["rivers.io/step"])
            or None
        ),
        10,
    )
    going.cancel()

    assert labelled
    assert "cancelled" == going.end().status
