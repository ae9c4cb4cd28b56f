"""Cancels and timeouts: whatever state a step is in, the run ends, and soon."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import rivers as rs
from rivers._plan import frontier
from rivers.events import RunFinished, RunStarted, StepCancelled, StepSucceeded
from rivers.testing import Attempt, Script, ScriptedExecutor

Start = Callable[..., Any]


def asset(name: str, *after: str, **options: Any) -> rs.Asset:
    return rs.Asset(lambda: name, name=name, deps=[rs.AssetDef.dep(dep) for dep in after], **options)


@rs.Task
def keys() -> list[int]:
    return [0, 1, 2]


@rs.Task(retry=rs.RetryPolicy(3, backoff=rs.Backoff.constant(3600)))
def double(x: int) -> int:
    return 2 * x


@rs.Task
def total(xs: list[int]) -> int:
    return sum(xs)


@rs.Asset.from_graph
def graph() -> Any:
    return total(keys().map(double, max_concurrency=2).collect())


def test_cancel_in_every_state(start: Start) -> None:
    """A cancelled run ends at once what waits, is queued or backs off, stops what runs, and keeps what is done."""
    can = rs.spi.Capabilities(closures="local", reach=rs.spi.Reach.PROCESS, max_sync=2)
    script = Script({"backoff": Attempt.fail, "running": Attempt.hold, "running2": Attempt.hold}, capabilities=can)
    policy = rs.RetryPolicy(5, backoff=rs.Backoff.constant(3600))
    repository = rs.CodeRepository(
        [
            asset("done"),
            asset("backoff", retry=policy),
            asset("running"),
            asset("running2"),
            asset("queued"),
            asset("waiting", "running"),
        ]
    )
    run = start(repository, script, wait=False)
    script.attempt("running2")

    run.loop.cancel()

    states = run.states
    assert "succeeded" == states.pop("done")
    assert {"backoff", "running", "running2", "queued", "waiting"} == set(states)
    assert {"cancelled"} == set(states.values())
    assert [("cancel", "running"), ("cancel", "running2")] == [call for call in script.calls if call[0] == "cancel"]
    assert 1 == run.end()["backoff"].attempts
    assert "cancelled" == run.events(RunFinished)[-1].status == run.loop.status
    assert "queued" not in script.submitted


def test_cancel_of_a_mapped_step(start: Start) -> None:
    """Of a mapped step, instances that run are stopped; those that wait, back off or are held end at once."""
    acts = {
        "graph/keys": lambda attempt: attempt.succeed("abcd"),
        "graph/double[a]": Attempt.succeed,
        "graph/double[b]": Attempt.fail,
        "graph/double": Attempt.hold,
    }
    script = Script(acts)
    run = start(rs.CodeRepository([graph]), script, wait=False)
    script.attempt("graph/double[c]")

    run.loop.cancel()

    assert {
        "graph/keys": "succeeded",
        "graph/double[a]": "succeeded",
        "graph/double[b]": "cancelled",
        "graph/double[c]": "cancelled",
        "graph/double[d]": "cancelled",
        "graph/total": "cancelled",
    } == run.states
    assert 1 == run.end()["graph/double[b]"].attempts  # the one that failed before
    assert [("cancel", "graph/double[c]")] == [call for call in script.calls if call[0] == "cancel"]


def test_success_that_crosses_the_cancel(start: Start) -> None:
    """An attempt that succeeds though it was asked to stop has succeeded; what waits for it is cancelled."""
    script = Script({"a": Attempt.hold}, on_cancel=Attempt.succeed)
    run = start(rs.CodeRepository([asset("a"), asset("b", "a")]), script, wait=False)
    script.attempt("a")

    run.loop.cancel()

    assert {"a": "succeeded", "b": "cancelled"} == dict(sorted(run.states.items()))


def test_cancel_that_comes_too_late_changes_nothing(start: Start) -> None:
    """A run that is over stays what it was, and its last event is RunFinished."""
    run = start(rs.CodeRepository([asset("a")]), Script())

    run.loop.cancel()

    assert "success" == run.loop.status
    assert isinstance(run.events()[-1], RunFinished)


def test_cancel_before_anything_began(start: Start) -> None:
    """A run that is cancelled while its executor opens starts nothing, but emits RunStarted first."""
    opening, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        opening.set()
        go_on.wait(10)

    script = Script(on_open=slow)
    run = start(rs.CodeRepository([asset("a"), asset("b", "a")]), script, wait=False)
    assert opening.wait(10)
    run.loop.cancel()
    go_on.set()

    assert {"a": "cancelled", "b": "cancelled"} == run.states
    assert [] == script.submitted
    assert [RunStarted, StepCancelled, StepCancelled, RunFinished] == [type(event) for event in run.events()]


def test_cancel_by_handle() -> None:
    """RunHandle.cancel ends the run; `wait` gives the result with what was done until then."""
    script = Script({"b": Attempt.hold})
    handle = rs.CodeRepository([asset("a"), asset("b", "a")]).submit(executor=ScriptedExecutor(script))
    script.attempt("b")

    handle.cancel()

    result = handle.wait(10)
    assert ("cancelled", ["a"]) == (result.status, result.materialized_assets)
    assert ("close",) == script.calls[-1]


def test_cancel_during_immediate_retries(start: Start) -> None:
    """A step that fails over and over without a delay stops doing so once the run is cancelled."""
    seen = threading.Event()

    def fails(attempt: Attempt) -> None:
        if attempt.spec.attempt >= 20:
            seen.set()
        attempt.fail()

    run = start(rs.CodeRepository([asset("a", retry=rs.RetryPolicy(999))]), Script(fails), wait=False)
    assert seen.wait(10)
    run.loop.cancel()

    assert run.states["a"] in ("cancelled", "failed")
    assert run.end()["a"].attempts < 1000


def test_cancel_that_raises(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """A backend whose cancel raises is reported in a warning, and its attempt is given up after the grace."""
    monkeypatch.setattr(frontier, "SILENCE", 0.05)

    def broken(attempt: Attempt) -> None:
        raise ConnectionError("no route")

    script = Script({"a": Attempt.hold}, on_cancel=broken)
    run = start(rs.CodeRepository([asset("a")]), script, wait=False)
    script.attempt("a")
    run.loop.cancel()

    assert {"a": "cancelled"} == run.states
    assert ["cancelling 'a' raised ConnectionError: no route"] == [e.message for e in run.events(rs.events.RunWarning)]


def test_overdue_is_stopped(start: Start) -> None:
    """An attempt that runs longer than its timeout is cancelled with the run's grace, and fails for it."""
    script = Script({"a": Attempt.hold})
    run = start(rs.CodeRepository([asset("a", timeout=0.05), asset("b", "a")]), script)

    failure = run.end()["a"].failure
    assert (rs.FailureReason.TIMEOUT, "rivers.exceptions.StepTimeoutError") == (failure.reason, failure.type)
    assert "ran longer than its timeout of 0.05 s" in failure.message
    assert {"a": "failed", "b": "skipped"} == run.states
    assert 0.05 == script.attempts[0].grace


def test_the_timeout_begins_when_the_attempt_does(start: Start) -> None:
    """Time that an attempt waits in its executor's own queue does not count."""
    script = Script({"a": Attempt.ignore, "clock": Attempt.hold})
    repository = rs.CodeRepository([asset("a", timeout=0.05), asset("clock", timeout=0.2)])
    run = start(repository, script, wait=False)
    assert script.attempt("clock").cancelled.wait(10)

    assert not script.attempt("a").cancelled.is_set()
    script.attempt("a").succeed()
    assert {"a": "succeeded", "clock": "failed"} == dict(sorted(run.states.items()))


def test_never_ending_attempts_are_given_up(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that does not even react to its cancel is given up after the grace, retried, and its end ignored."""
    monkeypatch.setattr(frontier, "SILENCE", 0.05)
    script = Script({"a": [Attempt.hold, Attempt.hold]}, on_cancel=Attempt.ignore)
    run = start(rs.CodeRepository([asset("a", timeout=0.05, retry=rs.RetryPolicy(1))]), script, wait=False)
    second = script.attempt("a", 2)

    script.attempt("a", 1).succeed()  # late
    second.succeed()

    assert {"a": "succeeded"} == run.states
    (given_up,) = run.end()["a"].failures
    assert rs.FailureReason.TIMEOUT == given_up.reason
    assert 2 == run.end()["a"].attempts
    assert [2] == [event.attempt for event in run.events(StepSucceeded)]


def test_what_was_given_up_may_have_committed(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    """An attempt that stored its outputs and then never reported has succeeded."""
    monkeypatch.setattr(frontier, "SILENCE", 0.05)

    def mute(attempt: Attempt) -> None:
        attempt.start()
        attempt._emit = lambda event: None
        attempt.run()

    repository = rs.CodeRepository([rs.Asset(lambda: 7, name="a", timeout=0.05)])
    run = start(repository, Script(mute, on_cancel=Attempt.ignore))

    assert {"a": "succeeded"} == run.states
    assert 7 == repository.load_node("a")


def test_cancel_ends_preflight() -> None:
    """A cancel while preflight waits ends it; no further backend is asked, none is opened, and the run says so."""
    waits, ended = threading.Event(), threading.Event()
    first = Script(on_preflight=lambda: (waits.set(), ended.wait(20)), on_cancel_preflight=ended.set)
    second = Script()
    executors = {"first": ScriptedExecutor(first), "second": ScriptedExecutor(second)}
    placed = [asset("a", metadata={"rivers/executor": "first"}), asset("b", metadata={"rivers/executor": "second"})]
    handle = rs.CodeRepository(placed, executors=executors).submit()
    assert waits.wait(10)
    handle.cancel()

    assert "cancelled" == handle.wait(10).status
    assert [("preflight",), ("cancel_preflight",), ("abandon",)] == first.calls
    assert [] == second.calls


def test_cancel_of_preflight_raises() -> None:
    """A backend whose `cancel_preflight` raises is a warning, and preflight goes on to its end."""
    waits, ended = threading.Event(), threading.Event()

    def broken() -> None:
        threading.Timer(0.2, ended.set).start()
        raise OSError("no way")

    script = Script(on_preflight=lambda: (waits.set(), ended.wait(20)), on_cancel_preflight=broken)
    with rs.CodeRepository([asset("a")], default_executor=ScriptedExecutor(script)) as repository:
        handle = repository.submit()
        assert waits.wait(10)
        handle.cancel()

        assert "cancelled" == handle.wait(10).status
