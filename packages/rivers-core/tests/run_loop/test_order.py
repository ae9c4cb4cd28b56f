"""When a step starts, and what an end of it starts: order, places, executors side by side, skips."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

import rivers as rs
from rivers.events import RunFinished, RunStarted, StepSkipped, StepStarted, StepSucceeded
from rivers.protocol import Ending, LogRecord, StepResult
from rivers.spi import Capabilities, Reach
from rivers.testing import Attempt, Script, ScriptedExecutor

Start = Callable[..., Any]


def asset(name: str, *after: str, **options: Any) -> rs.Asset:
    def body() -> str:
        return name

    return rs.Asset(body, name=name, deps=[rs.AssetDef.dep(dep) for dep in after], **options)


def repo(*assets: rs.Asset, **options: Any) -> rs.CodeRepository:
    return rs.CodeRepository(list(assets), **options)


def test_no_level_barrier(start: Start) -> None:
    """A step of the second level starts as soon as its own input is there, while a step of the first one goes on."""
    script = Script({"slow": Attempt.hold})
    run = start(repo(asset("slow"), asset("quick"), asset("after", "quick")), script, wait=False)

    script.attempt("after")

    assert ["slow", "quick", "after"] == script.submitted
    script.attempt("slow").succeed()
    assert {"quick": "succeeded", "after": "succeeded", "slow": "succeeded"} == run.states


def test_ends_in_any_order(start: Start) -> None:
    """Attempts may end in any order; a step starts when the last one it waits for has ended."""
    script = Script({"a": Attempt.hold, "b": Attempt.hold, "c": Attempt.hold})
    run = start(repo(asset("a"), asset("b"), asset("c"), asset("all", "a", "b", "c")), script, wait=False)

    for name in "cab":
        assert "all" not in script.submitted
        script.attempt(name).succeed()

    assert ["c", "a", "b", "all"] == list(run.states)


def test_places(start: Start) -> None:
    """No more attempts are submitted than the executor has places; the next one goes when one has ended."""
    can = Capabilities(closures="local", reach=Reach.PROCESS, max_sync=2)
    script = Script(Attempt.hold, capabilities=can)
    run = start(repo(*(asset(name) for name in "abcd")), script, wait=False)

    script.attempt("b")
    assert ["a", "b"] == script.submitted
    script.attempt("b").succeed()
    script.attempt("c")
    assert ["a", "b", "c"] == script.submitted

    for name in "acd":
        script.attempt(name).succeed()
    assert {"a", "b", "c", "d"} == set(run.states)


def test_executors_side_by_side(start: Start) -> None:
    """Steps of different executors run at the same time, though one of them is full."""
    full = Capabilities(closures="local", reach=Reach.PROCESS, max_sync=1)
    one, two = Script(Attempt.hold, capabilities=full), Script(Attempt.hold)
    repository = repo(
        asset("a", metadata={"rivers/executor": "one"}),
        asset("b", metadata={"rivers/executor": "one"}),
        asset("c", metadata={"rivers/executor": "two"}),
        executors={"one": ScriptedExecutor(one), "two": ScriptedExecutor(two)},
    )
    run = start(repository, wait=False)

    one.attempt("a"), two.attempt("c")
    assert ["a"] == one.submitted
    two.attempt("c").succeed()
    one.attempt("a").succeed()
    one.attempt("b").succeed()

    assert {"succeeded"} == set(run.states.values())


def test_in_process_steps_do_not_stop_others(start: Start) -> None:
    """While a body keeps the calling thread, another executor's ends are taken in and its next steps submitted."""
    release, script = threading.Event(), Script({"a": Attempt.hold})

    @rs.Asset(metadata={"rivers/executor": "in_process"})
    def busy() -> bool:
        return release.wait(20)

    run = start(repo(busy, asset("a"), asset("b", "a"), asset("c", "b")), script, wait=False)
    script.attempt("a").succeed()
    script.attempt("c")  # would never come if the body stopped the feeding

    assert [] == run.events(StepSucceeded, step="busy")
    release.set()
    assert "busy" == list(run.states)[-1]


def test_a_value_crosses_executors(start: Start) -> None:
    """A body elsewhere loads the value of an in-process step, and the other way round."""

    @rs.Asset(metadata={"rivers/executor": "in_process"})
    def first() -> int:
        return 20

    @rs.Asset
    def second(first: int) -> int:
        return first + 1

    @rs.Asset(metadata={"rivers/executor": "in_process"})
    def third(second: int) -> int:
        return second * 2

    repository = repo(first, second, third)
    start(repository, Script(Attempt.run_aside))

    assert 42 == repository.load_node("third")


@pytest.mark.parametrize("second", [Ending.FAILED, Ending.SUCCEEDED, Ending.NOT_STARTED, Ending.CANCELLED])
def test_second_end_is_ignored(start: Start, second: Ending) -> None:
    """An attempt's first end counts; a second one, whatever it says, changes nothing and starts nothing."""

    def twice(attempt: Attempt) -> None:
        attempt.succeed()
        attempt.end(second)

    script = Script({"a": twice})
    run = start(repo(asset("a", retry=rs.RetryPolicy(3)), asset("b", "a")), script)

    assert {"a": "succeeded", "b": "succeeded"} == run.states
    assert ["a", "b"] == script.submitted
    assert 1 == len(run.events(StepSucceeded, step="a"))


def test_unknown_attempts_are_ignored(start: Start) -> None:
    """Events of attempts that nobody submitted change nothing; their logs become warnings of the run."""

    def stray(attempt: Attempt) -> None:
        attempt.report(StepResult(attempt_id="nobody's", ending=Ending.FAILED))
        attempt.report(LogRecord(attempt_id="nobody's", message="who am I?"))
        attempt.succeed()

    run = start(repo(asset("a")), Script(stray))

    assert {"a": "succeeded"} == run.states
    assert ["who am I?"] == [event.message for event in run.events(rs.events.RunWarning)]


def test_an_old_attempts_end_is_not_the_new_ones(start: Start) -> None:
    """The late success of an attempt that was given up does not end the one that was started in its place."""
    script = Script({"a": [Attempt.fail, Attempt.hold]})
    run = start(repo(asset("a", retry=rs.RetryPolicy(1))), script, wait=False)
    second = script.attempt("a", 2)

    script.attempt("a", 1).succeed()
    second.fail(message="the second one")

    assert "the second one" == run.end()["a"].failure.message
    first_id, second_id = (attempt.spec.attempt_id for attempt in script.attempts)
    assert first_id != second_id


def test_started_twice_is_told_once(start: Start) -> None:
    """StepStarted is emitted once, however often a backend reports it."""

    def eager(attempt: Attempt) -> None:
        for _ in range(3):
            attempt._started = False
            attempt.start()
        attempt.succeed()

    run = start(repo(asset("a")), Script(eager))

    assert 1 == len(run.events(StepStarted))


def test_skips_name_the_culprit(start: Start) -> None:
    """A failing step skips what is downstream of it, however deep, naming itself; nothing else is touched."""
    script = Script({"bad": Attempt.fail})
    steps = [asset("bad"), asset("child", "bad"), asset("grandchild", "child"), asset("sibling"), asset("n", "sibling")]
    run = start(repo(*steps), script)

    assert {"bad": "failed", "child": "skipped", "grandchild": "skipped", "sibling": "succeeded", "n": "succeeded"} == (
        dict(sorted(run.states.items(), key=lambda item: [step.name for step in steps].index(item[0])))
    )
    assert ["bad", "bad"] == [event.cause for event in run.events(StepSkipped)]
    assert ["bad", "sibling", "n"] == script.submitted


def test_first_and_last_event(start: Start) -> None:
    """A run's events begin with RunStarted and end with RunFinished, each once."""
    run = start(repo(asset("a"), asset("b", "a")), Script())

    events = run.events()
    assert (RunStarted, RunFinished) == (type(events[0]), type(events[-1]))
    assert 1 == len(run.events(RunStarted)) == len(run.events(RunFinished))
    assert 2 == events[0].steps


def test_mapped_with_max_concurrency(start: Start) -> None:
    """Of a mapped step no more instances are submitted than max_concurrency, whatever places there are."""

    @rs.Task
    def keys() -> list[int]:
        return [0, 1, 2]

    @rs.Task
    def double(x: int) -> int:
        return 2 * x

    @rs.Task
    def total(xs: list[int]) -> int:
        return sum(xs)

    @rs.Asset.from_graph
    def graph() -> Any:
        return total(keys().map(double, max_concurrency=2).collect())

    script = Script({"graph/keys": lambda attempt: attempt.succeed("abc"), "graph/double": Attempt.hold})
    run = start(repo(graph), script, wait=False)

    script.attempt("graph/double[b]")
    assert ["graph/keys", "graph/double[a]", "graph/double[b]"] == script.submitted
    script.attempt("graph/double[a]").succeed()
    script.attempt("graph/double[c]").succeed()
    assert "graph/total" not in script.submitted
    script.attempt("graph/double[b]").succeed()
    assert {"succeeded"} == set(run.states.values())
    assert "graph/total" == script.submitted[-1]
