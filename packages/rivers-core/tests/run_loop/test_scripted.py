"""The scripted executor itself: what authors of executors and users of rivers build their tests on."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest

import rivers as rs
from rivers.exceptions import AssetOutputValidationError
from rivers.spi import Capabilities, Reach
from rivers.testing import Attempt, Script, ScriptedBackend, ScriptedExecutor


@rs.Asset
def a() -> int:
    return 3


@rs.Asset
def b(a: int) -> str:
    return a  # type: ignore[return-value]  # the point of it


def test_it_is_registered_like_any_executor() -> None:
    """Core itself registers it in the group `rivers.executors`; nothing but the entry point leads to it."""
    (point,) = [point for point in entry_points(group="rivers.executors") if point.name == "scripted"]

    assert ScriptedBackend is point.load()
    assert [ScriptedExecutor()] == list(rs.CodeRepository([a]).plan(executor=ScriptedExecutor()).executors)


def test_by_name_it_succeeds_at_everything() -> None:
    """`rivers/executor: scripted` alone is an executor on which every step succeeds and none is run."""

    @rs.Asset(metadata={"rivers/executor": "scripted"})
    def never() -> int:
        raise AssertionError

    assert rs.CodeRepository([never]).materialize().success


def test_executors_with_the_same_script_are_equal() -> None:
    """It is a value like any executor: equal and hashed by its script."""
    script = Script()

    assert ScriptedExecutor(script) == ScriptedExecutor(script)
    assert 1 == len({ScriptedExecutor(script), ScriptedExecutor(script)})
    assert ScriptedExecutor(script) != ScriptedExecutor(Script())


@pytest.mark.parametrize("blocking", [False, True])
def test_run_is_the_real_body(blocking: bool) -> None:
    """`Attempt.run` runs the body: its value is stored, and its own exception is what the run raises."""
    can = Capabilities(blocking=blocking, isolation="none", closures="local", reach=Reach.PROCESS)
    repository = rs.CodeRepository([a, b])

    with pytest.raises(AssetOutputValidationError):
        repository.materialize(executor=ScriptedExecutor(Script(Attempt.run, capabilities=can)))
    assert 3 == repository.load_node("a")


def test_acts_of_a_list_are_taken_in_turn() -> None:
    """The n-th submit of a step does the n-th act, further ones the last."""
    script = Script({"a": [Attempt.fail, Attempt.fail, Attempt.succeed]})
    retry = rs.RetryPolicy(5)
    result = rs.CodeRepository([a]).materialize(executor=ScriptedExecutor(script), retry=retry)

    assert 3 == result.steps["a"].attempts
    assert ["a", "a", "a"] == script.submitted


def test_calls_are_written_down() -> None:
    """`calls` has what core asked, in order."""
    script = Script()
    rs.CodeRepository([a]).materialize(executor=ScriptedExecutor(script))

    assert [("preflight",), ("open",), ("submit", "a"), ("close",)] == script.calls


def test_waiting_for_an_attempt_that_never_comes() -> None:
    """`Script.attempt` says what it waited for and what it saw instead."""
    script = Script()
    rs.CodeRepository([a]).materialize(executor=ScriptedExecutor(script))

    with pytest.raises(TimeoutError, match=r"submit 2 of 'a' has not come within 0.01 s; seen: <Attempt 1 of 'a'>"):
        script.attempt("a", 2, timeout=0.01)
    with pytest.raises(TimeoutError, match="seen: nothing"):
        Script().attempt("a", timeout=0.01)
