"""The begin and the end of a run: refusals, opening and closing of backends, sinks that raise, bugs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import pytest

import rivers as rs
from rivers.events import RunFinished, RunWarning, StepLog
from rivers.exceptions import GraphValidationError, Problem
from rivers.protocol import Ending, StepResult, StepSpec
from rivers.spi import Capabilities, Reach
from rivers.testing import Attempt, Script, ScriptedExecutor
from rivers.testing.scripted import ScriptedBackend

Start = Callable[..., Any]


def asset(name: str, executor: str | None = None) -> rs.Asset:
    return rs.Asset(lambda: name, name=name, metadata={"rivers/executor": executor} if executor else None)


def two(first: Script, second: Script) -> rs.CodeRepository:
    executors = {"first": ScriptedExecutor(first), "second": ScriptedExecutor(second)}
    return rs.CodeRepository([asset("a", "first"), asset("b", "second")], executors=executors)


@pytest.mark.parametrize("blocking", [False, True])
def test_preflight_refuses_the_run(start: Start, blocking: bool) -> None:
    """All problems of preflight are raised together, before any backend is opened or any event emitted."""
    can = Capabilities(blocking=blocking, closures="local", reach=Reach.PROCESS)
    first = Script(problems=[Problem("no quota"), Problem("no namespace")], capabilities=can)
    second = Script(problems=[Problem("no image")])
    run = start(two(first, second), wait=False)

    with pytest.raises(GraphValidationError, match=r"no quota(?s:.*)no namespace(?s:.*)no image"):
        run.end()
    assert [("preflight",), ("abandon",)] == first.calls == second.calls
    assert [] == run.events()


@pytest.mark.parametrize("blocking", [False, True])
def test_preflight_reports(start: Start, blocking: bool) -> None:
    """A report of preflight is an event before the run's first one, also where the run is refused."""
    can = Capabilities(blocking=blocking, closures="local", reach=Reach.PROCESS)
    good = start(two(Script(warnings=["it waits"], capabilities=can), Script()))
    good.end()
    bad = Script(warnings=["it waits"], problems=[Problem("no quota")], capabilities=can)
    refused = start(two(bad, Script()), wait=False)

    assert ["RunWarning", "RunStarted"] == [type(event).__name__ for event in good.events()][:2]
    with pytest.raises(GraphValidationError, match="no quota"):
        refused.end()
    assert ["it waits"] == [event.message for event in refused.events()]


@pytest.mark.parametrize("blocking", [False, True])
def test_preflight_reports_to_the_log(blocking: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Without a sink it is a line in the log `rivers.run`."""
    script = Script(
        warnings=["it waits"], capabilities=Capabilities(blocking=blocking, closures="local", reach=Reach.PROCESS)
    )
    rs.CodeRepository([asset("a")], default_executor=ScriptedExecutor(script)).materialize()

    assert ["rivers.run"] == [record.name for record in caplog.records if "it waits" in record.getMessage()]


def test_a_later_open_that_raises(start: Start) -> None:
    """When a backend cannot be opened the run is refused, and every backend that was tried is closed, this one too."""

    def broken() -> None:
        raise ConnectionError("no cluster")

    first, second = Script(), Script(on_open=broken)
    run = start(two(first, second), wait=False)

    with pytest.raises(ConnectionError, match="no cluster"):
        run.end()
    assert [("preflight",), ("open",), ("close",)] == first.calls == second.calls
    assert [] == run.events(RunFinished)
    assert "failure" == run.loop.status


def test_a_close_that_raises(start: Start) -> None:
    """When closing one backend raises, the others are closed all the same, and the run is what it was."""

    def broken() -> None:
        raise ConnectionError("no cluster")

    first, second = Script(on_close=broken), Script()
    run = start(two(first, second))

    assert ("close",) == first.calls[-1] == second.calls[-1]
    assert "success" == run.loop.status
    assert ["closing the executor ScriptedExecutor"] == [e.message.partition("(")[0] for e in run.events(RunWarning)]
    assert "ConnectionError: no cluster" in run.events(RunWarning)[0].message


def test_what_is_told_while_closing(start: Start) -> None:
    """A backend's report during close is emitted before the run's last event."""
    script = Script()
    script.on_close = lambda: script.attempts[0].log("a worker did not go quietly")
    run = start(rs.CodeRepository([asset("a")]), script)

    assert ["a worker did not go quietly"] == [event.message for event in run.events(RunWarning)]
    assert isinstance(run.events()[-1], RunFinished)


def test_logs_belong_to_their_attempt(start: Start) -> None:
    """A log record is emitted with its step and attempt."""

    def chatty(attempt: Attempt) -> None:
        attempt.log(f"hello from {attempt.spec.attempt}", 30)
        (attempt.fail if attempt.spec.attempt == 1 else attempt.succeed)()

    run = start(rs.CodeRepository([rs.Asset(lambda: 1, name="a", retry=rs.RetryPolicy(1))]), Script(chatty))

    assert [("a", 1, 30, "hello from 1"), ("a", 2, 30, "hello from 2")] == [
        (event.step, event.attempt, event.level, event.message) for event in run.events(StepLog)
    ]


def test_a_sink_that_raises() -> None:
    """A sink that raises is left out from then on, and warned of when the run is over; the run does not fail for it."""
    seen: list[object] = []

    def broken(event: object) -> None:
        seen.append(event)
        raise OSError("disk full")

    with pytest.warns(RuntimeWarning, match=r"event sink .*broken.* raised OSError: disk full"):
        result = rs.CodeRepository([asset("a")]).materialize(executor=ScriptedExecutor(), on_event=broken)

    assert result.success
    assert 1 == len(seen)


def test_a_sink_that_raises_does_not_silence_others(start: Start) -> None:
    """The other sinks get all events, and a warning about the sink that raised."""

    def broken(event: object) -> None:
        raise OSError("disk full")

    run = start(rs.CodeRepository([asset("a")]), Script(), sink=broken, wait=False)
    with pytest.raises(RuntimeWarning, match="disk full"):  # warnings are errors here; it comes after the run's end
        run.end()

    assert isinstance(run.events()[-1], RunFinished)
    assert ["disk full"] == [event.message[event.message.index("disk") :][:9] for event in run.events(RunWarning)]


def test_a_backend_that_reports_nonsense(start: Start) -> None:
    """A backend whose result core cannot read ends the run with an error; it does not hang, and is closed."""

    def nonsense(attempt: Attempt) -> None:
        result = StepResult(attempt_id=attempt.spec.attempt_id, ending=Ending.SUCCEEDED, outputs=None)  # type: ignore[arg-type]  # the point
        attempt.report(result)

    script = Script(nonsense)
    run = start(rs.CodeRepository([asset("a")]), script, wait=False)

    with pytest.raises(TypeError):
        run.end()
    assert ("close",) == script.calls[-1]


def test_events_after_the_end_are_harmless(start: Start) -> None:
    """A backend's report after the run changes nothing and raises nothing."""
    script = Script()
    run = start(rs.CodeRepository([asset("a")]), script)
    before = len(run.events())

    script.attempts[0].fail()

    assert {"a": "succeeded"} == run.states
    assert before == len(run.events())


def test_from_many_threads(start: Start) -> None:
    """Ends reported from many threads at once are each taken in once."""
    script = Script(Attempt.hold)
    run = start(rs.CodeRepository([asset(f"a{n}") for n in range(40)]), script, wait=False)
    script.attempt("a39")
    together = threading.Barrier(40)

    def end(attempt: Attempt) -> None:
        together.wait(10)
        attempt.succeed()
        attempt.fail()

    threads = [threading.Thread(target=end, args=(attempt,)) for attempt in list(script.attempts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert ["succeeded"] * 40 == list(run.states.values())


def test_preflight_knows_the_first_attempt() -> None:
    """A spec in preflight has the attempt id under which the step is submitted first; no other attempt has it."""
    can = Capabilities(closures="pickled", reach=Reach.PROCESS)
    script = Script({"a": [Attempt.not_started, Attempt.fail, Attempt.succeed]}, capabilities=can)
    seen: list[str] = []
    preflight = ScriptedBackend.preflight

    def asked(backend: ScriptedBackend, specs: Iterable[StepSpec]) -> Sequence[Problem]:
        seen.extend(spec.attempt_id for spec in specs)
        return preflight(backend, ())

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ScriptedBackend, "preflight", asked)
        repository = rs.CodeRepository([asset("a"), asset("b")], default_executor=ScriptedExecutor(script))
        repository.materialize(retry=rs.RetryPolicy(1))

    ids = [attempt.spec.attempt_id for attempt in script.attempts]
    assert seen == [next(one.spec.attempt_id for one in script.attempts if one.spec.step == step) for step in "ab"]
    assert 4 == len(set(ids)) == len(ids)
