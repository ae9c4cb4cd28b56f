"""Refs that travel to a worker, and refs that are refused before anything starts."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import user_steps as steps
from rivers_executor_subprocess import SubprocessExecutor

import rivers as rs
from rivers.exceptions import GraphValidationError


@pytest.fixture
def pickles(monkeypatch: pytest.MonkeyPatch) -> SubprocessExecutor:
    """An executor that sends pickles to workers that load them."""
    monkeypatch.setenv("RIVERS_ALLOW_PICKLE", "1")
    return SubprocessExecutor(allow_pickle=True)


def started(sink: rs.ListSink) -> list[str]:
    return [getattr(event, "step", "") for event in sink.events if type(event).__name__ == "StepStarted"]


def local_assets() -> list[rs.Asset]:
    """A closure, an asset in `<locals>`, an async one, and a graph asset with a task and a constant that is no JSON."""
    factor = 3

    @rs.Asset(io_handler="store")
    def closure() -> int:
        return 2 * factor

    @rs.Asset(io_handler="store")
    async def closure_async(closure: int) -> int:
        return closure + factor

    @rs.Task(io_handler="store")
    def add(value: int, options: set[int]) -> int:
        return value + sum(options)

    @rs.Asset.from_graph(io_handler="store")
    def closure_graph(closure: int) -> int:
        return add(closure, {factor})

    return [closure, closure_async, closure_graph]


def test_closures_go_as_pickles_where_both_sides_allow_it(
    store: rs.PickleIOHandler, pickles: SubprocessExecutor
) -> None:
    """With allow_pickle=True here and RIVERS_ALLOW_PICKLE=1 there, functions without module scope run in workers."""
    repo = rs.CodeRepository(local_assets(), resources={"store": store})

    result = repo.materialize(executor=pickles)

    assert {"subprocess"} == {report.executor for report in result.steps.values()}
    assert [6, 9, 9] == [repo.load_node(name) for name in ("closure", "closure_async", "closure_graph")]


def test_closures_are_refused_without_allow_pickle(store: rs.PickleIOHandler) -> None:
    """Without allow_pickle every function that has no module scope is named, with what to do, and nothing starts."""
    sink = rs.ListSink()
    repo = rs.CodeRepository([steps.base, *local_assets()], resources={"store": store})

    with pytest.raises(GraphValidationError, match="move the function to module scope") as refused:
        repo.materialize(executor=SubprocessExecutor(), on_event=sink)

    assert {"closure", "closure_async", "closure_graph/add"} == {problem.asset for problem in refused.value.problems}
    assert [] == started(sink)


def test_closures_are_refused_where_workers_do_not_allow_them(store: rs.PickleIOHandler) -> None:
    """allow_pickle=True alone is not enough: without the environment variable the run is refused, and it is named."""
    sink = rs.ListSink()
    repo = rs.CodeRepository(local_assets(), resources={"store": store})

    with pytest.raises(GraphValidationError, match="RIVERS_ALLOW_PICKLE=1"):
        repo.materialize(executor=SubprocessExecutor(allow_pickle=True), on_event=sink)

    assert [] == started(sink)


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: rs.Asset(name="odd", io_handler="store")(lambda: 1), id="lambda"),
        pytest.param(lambda: rs.Asset(name="odd", io_handler="store")(_main_function()), id="__main__"),
        pytest.param(lambda: rs.Asset(name="odd", io_handler="store")(_hidden_by_a_wrapper()), id="wrapper"),
    ],
)
def test_what_has_no_name_of_its_own(
    store: rs.PickleIOHandler, pickles: SubprocessExecutor, make: Callable[[], rs.Asset]
) -> None:
    """A lambda, a function of __main__ and one hidden by a wrapper go as pickles, and are refused otherwise (D3)."""
    repo = rs.CodeRepository([make()], resources={"store": store})

    with pytest.raises(GraphValidationError, match="module scope"):
        repo.materialize(executor=SubprocessExecutor())
    repo.materialize(executor=pickles)

    assert 1 == repo.load_node("odd")


def _main_function() -> Callable[[], int]:
    def odd() -> int:
        return 1

    odd.__module__, odd.__qualname__ = "__main__", "odd"
    return odd


def _hidden_by_a_wrapper() -> Callable[[], int]:
    """Its module and qualname are those of `steps.base`, which is something else."""

    def odd() -> int:
        return 1

    odd.__module__, odd.__qualname__ = "user_steps", "base"
    return odd


def test_what_pickles_a_lock_is_refused(store: rs.PickleIOHandler, pickles: SubprocessExecutor) -> None:
    """A closure that cannot be pickled is named before anything starts (L12)."""
    module = sys  # a module object is fine …
    frame = sys._getframe()  # … a frame is not

    @rs.Asset(io_handler="store")
    def holds_a_frame() -> str:
        return f"{module} {frame}"

    repo = rs.CodeRepository([holds_a_frame], resources={"store": store})

    with pytest.raises(GraphValidationError, match=r"holds_a_frame.*cannot be pickled"):
        repo.materialize(executor=pickles)


def test_values_in_memory_are_refused() -> None:
    """A value in this process's memory is refused by resolve(), with asset, handler and what to write instead (D5)."""
    resources = {"store": rs.InMemoryIOHandler()}
    repo = rs.CodeRepository([steps.base], default_executor=SubprocessExecutor(), resources=resources)

    with pytest.raises(GraphValidationError, match=r"base.*InMemoryIOHandler.*subprocess.*PickleIOHandler") as refused:
        repo.resolve()

    assert ["base"] == [problem.asset for problem in refused.value.problems]


class Socket(rs.Resource):
    """A resource whose field cannot be written as JSON."""

    connection: object
    timeout: float = 1.0


class Forgetful(rs.Resource):
    """A resource whose field is not what it was once it has been written as JSON."""

    words: object


@pytest.mark.parametrize(
    ("client", "field"),
    [(Socket(connection=object()), "connection"), (Forgetful(words=("a", "b")), "words")],
)
def test_a_resource_that_does_not_survive_json(store: rs.PickleIOHandler, client: rs.Resource, field: str) -> None:
    """A resource that a worker cannot build again is refused before anything starts, naming the field (D6)."""
    sink = rs.ListSink()
    repo = rs.CodeRepository([steps.fetched], resources={"store": store, "client": client})

    with pytest.raises(GraphValidationError, match=rf"'client'.*{field}"):
        repo.materialize(executor=SubprocessExecutor(), on_event=sink)

    assert [] == started(sink)


def test_a_secret_given_as_an_argument_is_refused(store: rs.PickleIOHandler) -> None:
    """A secret never travels: given as an argument it is refused, naming the field and not the secret."""
    repo = rs.CodeRepository([steps.secret], resources={"store": store, "vault": steps.Vault(token="hunter2-canary")})

    with pytest.raises(GraphValidationError, match=r"token.*secrets in the environment") as refused:
        repo.materialize(executor=SubprocessExecutor())

    assert "canary" not in str(refused.value)


def test_a_secret_from_the_environment_is_there_too(
    store: rs.PickleIOHandler, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A secret that the resource takes from the environment is taken from there by the worker, too; none is sent."""
    monkeypatch.setenv("TOKEN", "hunter2-canary")
    sink = rs.ListSink()
    repo = rs.CodeRepository([steps.secret], resources={"store": store, "vault": steps.Vault()})

    repo.materialize(executor=SubprocessExecutor(), on_event=sink)

    assert 14 == repo.load_node("secret")
    assert "canary" not in repr(sink.events)
