"""collect_stream: whoever takes the results of a mapped step as they come, wherever both of them run."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

import pytest

import rivers as rs
from rivers.events import StepSkipped, StepStarted, StepSucceeded
from rivers.spi import Capabilities, Reach
from rivers.testing import Attempt, Script, ScriptedExecutor

Start = Callable[..., Any]
HERE = {"rivers/executor": "in_process"}
ELSEWHERE = {"rivers/executor": "elsewhere"}


@rs.Task(metadata=HERE)
def letters() -> Iterable[rs.DynamicOutput]:
    for letter in "abc":
        yield rs.DynamicOutput(key=letter, value=letter)


@rs.Task(metadata=ELSEWHERE)
def upper(letter: str) -> str:
    return letter.upper()


@rs.Task(metadata=HERE)
async def upper_here(letter: str) -> str:
    return letter.upper()


@rs.Task(metadata=HERE)
def doubled_here(letter: str) -> str:
    return letter * 2


@rs.Task(metadata=HERE)
def joined(parts: Iterable[str]) -> str:
    return "".join(parts)


@rs.Task(metadata=ELSEWHERE)
def joined_elsewhere(parts: Iterable[str]) -> str:
    return "".join(parts)


def streamed(script: Script, task: rs.Task, instances: tuple[rs.Task, ...] = (upper,), **how: Any) -> rs.CodeRepository:
    @rs.Asset.from_graph
    def graph() -> Any:
        mapped: Any = letters()
        for instance in instances:
            mapped = mapped.map(instance)
        return task(mapped.collect_stream(**how))

    return rs.CodeRepository([graph], executors={"elsewhere": ScriptedExecutor(script)})


def test_a_consumer_here_is_fed_from_elsewhere(start: Start) -> None:
    """A consumer in the calling thread starts at once and gets each result when it is there, in the order they end."""
    script = Script({"graph/upper": Attempt.hold})
    repository = streamed(script, joined)
    run = start(repository, wait=False)
    held = {key: script.attempt(f"graph/upper[{key}]") for key in "abc"}

    assert 1 == len(run.events(StepStarted, step="graph/joined"))
    for key in "cab":
        held[key].run()
    run.end()

    assert "CAB" == repository.load_node("graph")


def test_an_ordered_stream(start: Start) -> None:
    """ordered=True gives the results in the order of their keys, whatever ended first."""
    script = Script({"graph/upper": Attempt.hold})
    repository = streamed(script, joined, ordered=True)
    run = start(repository, wait=False)
    for key in "cba":
        script.attempt(f"graph/upper[{key}]").run()
    run.end()

    assert "ABC" == repository.load_node("graph")


@pytest.mark.parametrize("live", [True, False])
def test_a_consumer_elsewhere(start: Start, live: bool) -> None:
    """A backend with live streams is fed while it runs; any other gets its step when all instances have ended."""
    can = Capabilities(isolation="none", closures="local", reach=Reach.PROCESS, streams=live)
    acts = {"graph/upper": Attempt.hold, "graph/joined_elsewhere": Attempt.run_aside}
    script = Script(acts, capabilities=can)
    repository = streamed(script, joined_elsewhere)
    run = start(repository, wait=False)
    script.attempt("graph/upper[b]").run()
    held = script.attempt("graph/upper[a]"), script.attempt("graph/upper[c]")
    if live:
        script.attempt("graph/joined_elsewhere")
    assert live == ("graph/joined_elsewhere" in script.submitted)

    for attempt in held:
        attempt.run()
    run.end()

    assert "BAC" == repository.load_node("graph")


def test_a_consumer_does_not_take_its_instances_last_place(start: Start) -> None:
    """A stream is not live where slots are few: its consumer waits without one, else nothing would run."""
    can = Capabilities(isolation="none", closures="local", reach=Reach.PROCESS, streams=True, max_sync=1)
    script = Script(Attempt.run_aside, capabilities=can)
    repository = streamed(script, joined_elsewhere)
    run = start(repository)

    assert "graph/joined_elsewhere" == script.submitted[-1]
    assert {"succeeded"} == set(run.states.values())


@pytest.mark.parametrize(
    "instances", [(upper_here,), (doubled_here,), (upper_here, doubled_here), (doubled_here, upper_here, doubled_here)]
)
def test_all_in_the_calling_thread(start: Start, instances: tuple[rs.Task, ...]) -> None:
    """Instances run while their consumer waits for them, when they share one thread."""
    repository = streamed(Script(), joined, instances)
    run = start(repository)

    whole = "ABC" if doubled_here not in instances else "aabbcc"
    if upper_here in instances and doubled_here in instances:
        whole = "AABBCC" if instances.count(doubled_here) == 1 else "AAAABBBBCCCC"
    assert whole == repository.load_node("graph")
    starts = [event.step for event in run.events(StepStarted)]
    first_end = next(event.step for event in run.events(StepSucceeded) if "[" in event.step)
    assert starts.index("graph/joined") <= starts.index(first_end) + 1


def test_two_executors_that_share_the_calling_thread(start: Start) -> None:
    """A consumer here gets what instances on another executor make that also runs in the calling thread."""
    can = Capabilities(
        blocking=True, isolation="none", closures="local", reach=Reach.PROCESS, streams=True, max_sync=1, max_async=1
    )
    repository = streamed(Script(Attempt.run, capabilities=can), joined)
    start(repository)

    assert "ABC" == repository.load_node("graph")


def test_a_broken_stream(start: Start) -> None:
    """When an instance fails, a consumer that runs gets an error at its next item, stores nothing and is skipped."""
    script = Script({"graph/upper": Attempt.hold})
    repository = streamed(script, joined)
    run = start(repository, wait=False)
    held = {key: script.attempt(f"graph/upper[{key}]") for key in "abc"}
    held["a"].run()
    held["b"].fail()
    held["c"].run()

    assert ("failed", "skipped") == (run.states["graph/upper[b]"], run.states["graph/joined"])
    assert ["graph/upper[b]"] == [event.cause for event in run.events(StepSkipped)]
    assert "graph/upper[b]" == run.end()["graph/joined"].cause
    with pytest.raises(rs.exceptions.InputLoadError):
        repository.load_node("graph")


def test_cancel_of_a_waiting_consumer(start: Start) -> None:
    """A consumer that waits for its next item ends when the run is cancelled."""
    script = Script({"graph/upper": Attempt.hold})
    run = start(streamed(script, joined), wait=False)
    script.attempt("graph/upper[c]")
    run.loop.cancel()

    assert "cancelled" == run.states["graph/joined"]


def test_a_consumer_may_stop_early(start: Start) -> None:
    """A consumer that takes one item and returns has succeeded; the instances it did not want still run."""
    ready = threading.Event()

    @rs.Task(metadata=HERE)
    def first_only(parts: Iterable[str]) -> str:
        return next(iter(parts))

    def slow(attempt: Attempt) -> None:
        attempt.start()
        if attempt.spec.step == "graph/upper[a]":
            attempt.run()
        elif attempt.spec.step == "graph/upper[c]":
            ready.set()

    script = Script({"graph/upper": slow})
    repository = streamed(script, first_only)
    run = start(repository, wait=False)
    assert ready.wait(10)
    script.attempt("graph/upper[b]").run()
    script.attempt("graph/upper[c]").run()

    assert {"succeeded"} == set(run.states.values())
    assert "A" == repository.load_node("graph")
