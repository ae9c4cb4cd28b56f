"""Attempts that fail: which are repeated, when, at whose charge, and what is asked for next."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

import rivers as rs
from rivers.events import StepFailed, StepRetrying
from rivers.exceptions import StepCancelledError
from rivers.protocol import Ending
from rivers.testing import Attempt, Script, ScriptedExecutor

Start = Callable[..., Any]
LOST = rs.FailureReason.INFRASTRUCTURE


def asset(name: str, **options: Any) -> rs.Asset:
    return rs.Asset(lambda: name, name=name, **options)


def lost(attempt: Attempt) -> None:
    attempt.fail(LOST, "its machine went away")


def unwell(attempt: Attempt) -> None:
    raise ConnectionError("no route to the cluster")


def test_backoff_with_jitter(start: Start) -> None:
    """Each retry waits as the policy says, less the random part of its jitter; attempts are numbered from 1."""
    draws: Iterator[float] = iter([0.0, 0.5, 1.0])
    policy = rs.RetryPolicy(3, backoff=rs.Backoff.linear(0.02, jitter=0.5))
    script = Script({"a": [Attempt.fail, Attempt.fail, Attempt.fail, Attempt.succeed]})
    run = start(rs.CodeRepository([asset("a", retry=policy)]), script, random=lambda: next(draws))

    assert pytest.approx([0.02, 0.03, 0.03]) == [event.delay for event in run.events(StepRetrying)]
    assert [1, 2, 3] == [event.attempt for event in run.events(StepRetrying)]
    assert [1, 2, 3, 4] == [attempt.spec.attempt for attempt in script.attempts]
    assert 4 == len({attempt.spec.attempt_id for attempt in script.attempts})
    assert 4 == run.end()["a"].attempts


def test_a_poison_step_ends(start: Start) -> None:
    """A step that takes its worker with it every time fails after its retries, with all failures kept; others go on."""
    script = Script({"poison": lost})
    repository = rs.CodeRepository([asset("poison", retry=rs.RetryPolicy(3)), asset("well")])
    run = start(repository, script)

    assert {"poison": "failed", "well": "succeeded"} == run.states
    assert ["its machine went away"] * 4 == [failure.message for failure in run.end()["poison"].failures]
    assert 1 == len(run.events(StepFailed))


def test_only_what_the_policy_names_is_retried(start: Start) -> None:
    """RetryOn.TRANSIENT repeats a lost machine, and not what the body raised."""
    policy = rs.RetryPolicy(2, retry_on=rs.RetryOn.TRANSIENT)
    script = Script({"a": [lost, Attempt.fail, Attempt.succeed]})
    run = start(rs.CodeRepository([asset("a", retry=policy)]), script)

    assert [LOST, rs.FailureReason.ERROR] == [failure.reason for failure in run.end()["a"].failures]
    assert {"a": "failed"} == run.states


def test_what_another_attempt_cannot_help_is_not_retried(start: Start) -> None:
    """A failure that says so ends the step, whatever the policy."""
    script = Script(lambda attempt: attempt.fail(LOST, "no such image", transient=False))
    run = start(rs.CodeRepository([asset("a", retry=rs.RetryPolicy(5))]), script)

    assert ["a"] == script.submitted
    assert {"a": "failed"} == run.states


def test_not_started_is_free(start: Start) -> None:
    """An attempt that never began is dispatched again under a new id and the same number, and charged to nobody."""
    script = Script({"a": [Attempt.not_started, Attempt.not_started, Attempt.succeed]})
    run = start(rs.CodeRepository([asset("a")]), script, random=lambda: 0.01)

    assert {"a": "succeeded"} == run.states
    assert 1 == run.end()["a"].attempts
    assert [1, 1, 1] == [attempt.spec.attempt for attempt in script.attempts]
    assert 3 == len({attempt.spec.attempt_id for attempt in script.attempts})
    assert [True, True] == [event.free for event in run.events(StepRetrying)]
    assert pytest.approx([0.002, 0.004]) == [event.delay for event in run.events(StepRetrying)]


@pytest.mark.parametrize("blocking", [False, True])
def test_submit_that_raises(start: Start, blocking: bool) -> None:
    """An error of a backend's submit is that attempt's failure, and is retried as such; the run goes on."""
    can = rs.spi.Capabilities(blocking=blocking, closures="local", reach=rs.spi.Reach.PROCESS)
    script = Script({"a": [unwell, Attempt.succeed], "b": unwell}, capabilities=can)
    run = start(rs.CodeRepository([asset("a", retry=rs.RetryPolicy(1)), asset("b"), asset("c")]), script)

    assert {"a": "succeeded", "b": "failed", "c": "succeeded"} == dict(sorted(run.states.items()))
    assert (LOST, "ConnectionError", "no route to the cluster") == (
        (failure := run.end()["b"].failure).reason,
        failure.type.removeprefix("builtins."),
        failure.message,
    )


def test_a_blocking_backend_that_says_nothing(start: Start) -> None:
    """A backend that runs a step in the calling thread and returns without an end has failed it; the run ends."""
    can = rs.spi.Capabilities(blocking=True, closures="local", reach=rs.spi.Reach.PROCESS)
    run = start(rs.CodeRepository([asset("a")]), Script(Attempt.hold, capabilities=can))

    assert "the executor returned without a result for the step" == run.end()["a"].failure.message


def test_a_failure_without_a_word(start: Start) -> None:
    """An end as FAILED without a failure is INFRASTRUCTURE, never the body's error."""
    run = start(rs.CodeRepository([asset("a")]), Script(lambda attempt: attempt.end(Ending.FAILED)))

    assert LOST == run.end()["a"].failure.reason


def test_escalation(start: Start) -> None:
    """After running out of memory the next attempt asks for more, up to the ceiling; else it does not."""
    policy = rs.RetryPolicy(4, escalate=rs.ComputeEscalation(max_memory="3Gi"))

    def starved(attempt: Attempt) -> None:
        attempt.fail(rs.FailureReason.OUT_OF_MEMORY, "killed")

    can = rs.spi.Capabilities(closures="local", reach=rs.spi.Reach.PROCESS, provisions=True)
    script = Script({"a": [starved, lost, starved, starved, Attempt.succeed]}, capabilities=can)
    start(rs.CodeRepository([asset("a", retry=policy, compute=rs.Compute(memory="1Gi", cpu="2"))]), script)

    asked = [attempt.spec.compute for attempt in script.attempts]
    assert [("2", memory) for memory in ("1Gi", "2Gi", "2Gi", "3Gi", "3Gi")] == [
        (compute.cpu, compute.memory) for compute in asked if compute is not None
    ]


def test_what_is_committed_is_successful(start: Start) -> None:
    """A worker that stores its outputs and then dies has succeeded; the body is not run again."""
    ran: list[int] = []

    @rs.Asset(retry=rs.RetryPolicy(3))
    def a() -> int:
        ran.append(1)
        return 7

    def dies_after_the_commit(attempt: Attempt) -> None:
        emit, attempt._emit = attempt._emit, lambda event: None
        attempt.run()
        attempt._emit = emit
        lost(attempt)

    repository = rs.CodeRepository([a])
    run = start(repository, Script(dies_after_the_commit))

    assert {"a": "succeeded"} == run.states
    assert [1] == ran
    assert 7 == repository.load_node("a")


def test_success_that_stored_nothing_is_seen_by_the_next(start: Start) -> None:
    """A backend that claims a success which stored nothing fails whoever loads it, naming what is missing."""

    @rs.Asset
    def a() -> int:
        return 1

    @rs.Asset
    def b(a: int) -> int:
        return a

    run = start(rs.CodeRepository([a, b]), Script({"b": Attempt.run_aside}))

    assert (LOST, True) == ((failure := run.end()["b"].failure).reason, "'a'" in failure.message)


def test_cancelled_by_its_executor(start: Start) -> None:
    """A step that its executor cancelled unasked is cancelled, its dependants are skipped, and the run has failed."""
    repository = rs.CodeRepository([asset("a"), rs.Asset(lambda: 1, name="b", deps=[rs.AssetDef.dep("a")])])
    executor = ScriptedExecutor(Script({"a": Attempt.cancel}))

    result = repository.materialize(executor=executor, raise_on_error=False)
    assert ("cancelled", "skipped") == (result.steps["a"].state, result.steps["b"].state)
    assert "failure" == result.status
    with pytest.raises(StepCancelledError, match="'a' was cancelled by its executor"):
        repository.materialize(executor=executor)
