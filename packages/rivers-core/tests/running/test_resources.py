"""Resources and IO handlers in a run: when they are set up, shared, torn down, and what their faults cost."""

from __future__ import annotations

import threading
from typing import Any

import pytest

import rivers as rs
from rivers._events.event import RunWarning, StepLog
from rivers.exceptions import InputLoadError, OutputCommitError

journal: list[str] = []


class Noted(rs.Resource):
    """Writes down its setup and teardown; `fail` names the one that raises."""

    label: str
    fail: str = ""

    def setup(self) -> None:
        self._note("setup")

    def teardown(self) -> None:
        self._note("teardown")

    def _note(self, what: str) -> None:
        journal.append(f"{what} {self.label}")
        if self.fail == what:
            raise ConnectionError(f"{what} of {self.label}")


@pytest.fixture(autouse=True)
def empty_journal() -> None:
    journal.clear()


def uses_first(first: Noted) -> int:
    journal.append("body 1")
    return 1


def uses_both(uses_first: int, second: Noted, first: Noted) -> int:
    journal.append("body 2")
    return 2


def raises(first: Noted) -> None:
    raise ValueError


def interrupts(first: Noted) -> None:
    raise KeyboardInterrupt


def without() -> int:
    return 1


def repository(*bodies: Any, fail: str = "") -> rs.CodeRepository:
    resources = {name: Noted(label=name, fail=fail) for name in ("first", "second", "unused")}
    return rs.CodeRepository([rs.Asset(body) for body in bodies], resources=resources)


def test_setup_before_first_use_teardown_in_reverse() -> None:
    """A resource is set up once, before its first use, and torn down at the run's end, the last one first."""
    repository(uses_first, uses_both).materialize()

    assert ["setup first", "body 1", "setup second", "body 2", "teardown second", "teardown first"] == journal


def test_each_run_sets_up_again() -> None:
    """A second run sets up and tears down again."""
    made = repository(uses_first)

    made.materialize()
    made.materialize()

    assert ["setup first", "body 1", "teardown first"] * 2 == journal


@pytest.mark.parametrize("body", [raises, interrupts], ids=["fails", "interrupted"])
def test_teardown_whatever_happened(body: Any) -> None:
    """teardown runs after a failed and after an interrupted run."""
    with pytest.raises((ValueError, KeyboardInterrupt)):
        repository(body).materialize()

    assert ["setup first", "teardown first"] == journal


def test_failing_setup_fails_dependants_only() -> None:
    """A setup that raises fails the steps that need it, with its own exception; it is tried again for the next one."""
    result = repository(uses_first, raises, without, fail="setup").materialize(raise_on_error=False)

    assert {"uses_first": "failed", "raises": "failed", "without": "succeeded"} == {
        step: report.state.value for step, report in result.steps.items()
    }
    failure = result.steps["uses_first"].failure
    assert failure is not None
    assert ("infrastructure", "ConnectionError") == (failure.reason.value, failure.type)
    assert "setup() of Noted 'first' raised ConnectionError" in failure.notes[0]
    assert ["setup first", "setup first"] == journal


def test_async_setup_is_refused() -> None:
    """A setup that is async by mistake fails the steps that need it instead of never being awaited."""

    class Async(Noted):
        async def setup(self) -> None:  # type: ignore[override]  # the mistake
            journal.append("never")

    result = rs.CodeRepository([rs.Asset(uses_first)], resources={"first": Async(label="a")}).materialize(
        raise_on_error=False
    )

    failure = result.steps["uses_first"].failure
    assert failure is not None
    assert "setup is async" in failure.message
    assert [] == journal


def test_failing_teardown_is_told() -> None:
    """A teardown that raises fails nothing, stops no other teardown, and is a warning of the run."""
    sink = rs.ListSink()
    result = repository(uses_first, uses_both, fail="teardown").materialize(on_event=sink)

    assert result.success
    assert ["teardown second", "teardown first"] == journal[-2:]
    warned = [event.message for event in sink.events if isinstance(event, RunWarning)]
    assert any("teardown() of resource 'second'" in message for message in warned)


def test_runs_side_by_side_share_one_setup() -> None:
    """An object that two runs use at once is set up by the first and torn down by the last of them."""
    both = threading.Barrier(2)

    def meets(first: Noted) -> None:
        both.wait(30)

    made = repository(meets)
    handles = [made.submit(), made.submit()]

    assert all(handle.wait(30).success for handle in handles)
    assert ["setup first", "teardown first"] == journal


def test_fields_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A field that is not given comes from the environment."""
    monkeypatch.setenv("LABEL", "from the environment")
    seen: list[str] = []

    def looks(noted: Noted) -> None:
        seen.append(noted.label)

    rs.CodeRepository([rs.Asset(looks)], resources={"noted": Noted()}).materialize()  # type: ignore[call-arg]  # what pydantic-settings fills

    assert ["from the environment"] == seen


class Shelf(rs.BaseIOHandler):
    """Keeps values in a list of this module and records its calls."""

    prefix: str = ""

    def handle_output(self, context: rs.OutputContext, obj: Any) -> None:
        journal.append(
            f"store {context.asset_name} of {context.step} attempt {context.attempt} {context.asset_metadata}"
        )
        shelf[self.prefix + context.asset_name] = obj

    def load_input(self, context: rs.InputContext) -> Any:
        journal.append(f"load {context.asset_name} for {context.downstream_asset}")
        return shelf[self.prefix + context.asset_name]


shelf: dict[str, Any] = {}


@rs.Asset(io_handler=Shelf(), metadata={"owner": "me"})
def shelved() -> int:
    return 1


@rs.Asset
def reader(shelved: int) -> int:
    return shelved + 1


def test_own_handler_is_told_who_and_what() -> None:
    """A handler of the user's own gets key, step, attempt and metadata when it stores, key and reader when it loads."""
    rs.CodeRepository([shelved, reader]).materialize()

    assert ["store shelved of shelved attempt 1 {'owner': 'me'}", "load shelved for reader"] == journal


def test_what_a_handler_raises_is_raised() -> None:
    """An error of a handler that loads is the very error that materialize raises, with a note that says what for."""
    shelf.clear()

    with pytest.raises(KeyError) as caught:
        rs.CodeRepository([shelved, reader]).materialize(["reader"])
    assert any("loading 'shelved' with Shelf raised KeyError" in note for note in caught.value.__notes__)


def test_what_handlers_print_belongs_to_the_step() -> None:
    """The prints of an IO handler and of a setup are the step's output."""

    class Chatty(Shelf):
        def handle_output(self, context: rs.OutputContext, obj: Any) -> None:
            print("storing")

    def body() -> int:
        return 1

    sink = rs.ListSink()
    rs.CodeRepository([rs.Asset(body, io_handler=Chatty())]).materialize(on_event=sink)

    assert [("body", "storing")] == [(e.step, e.message) for e in sink.events if isinstance(e, StepLog)]


def test_typed_storage_errors_keep_their_word() -> None:
    """InputLoadError and OutputCommitError of a handler are passed on, and say whether another attempt may help."""

    class Full(Shelf):
        def handle_output(self, context: rs.OutputContext, obj: Any) -> None:
            error = OutputCommitError("disk full")
            error.retryable = False
            raise error

    def body() -> int:
        return 1

    asset = rs.Asset(retry=rs.RetryPolicy(3), io_handler=Full())(body)
    result = rs.CodeRepository([asset]).materialize(raise_on_error=False)

    assert 1 == result.steps["body"].attempts
    with pytest.raises(OutputCommitError, match="disk full"):
        rs.CodeRepository([asset]).materialize()


def test_load_node_of_everything() -> None:
    """load_node takes assets, outputs of multi-assets, mapped instances of a graph, standalone tasks, externals."""

    def task() -> list[int]:
        return [1, 2]

    def double(x: int) -> int:
        return 2 * x

    def graph() -> Any:
        return rs.Task(task)().map(rs.Task(double)).collect()

    def pair() -> tuple[int, int]:
        return 3, 4

    shelf["outside"] = 5
    made = rs.CodeRepository(
        [
            rs.Asset.from_graph(graph),
            rs.Asset.from_multi(pair, output_defs=[rs.AssetDef("left"), rs.AssetDef("right")]),
            rs.Asset.external(name="outside", io_handler=Shelf()),
        ],
        tasks=[rs.BashTask("words", "printf words")],
    )
    made.materialize()

    expected = {
        "graph": [2, 4],
        "graph/task": [1, 2],
        "graph/task[0]": 1,
        "graph/double": [2, 4],
        "graph/double[0]": 2,
        "graph/gather": [2, 4],
        "left": 3,
        "right": 4,
        "words": "words",
        "outside": 5,
    }
    assert expected == {name: made.load_node(name) for name in expected}
    with pytest.raises(rs.exceptions.NodeNotFoundError, match="did you mean 'right'"):
        made.load_node("rigth")


def test_load_node_before_any_run() -> None:
    """A node without a value yet is an InputLoadError, not None."""
    with pytest.raises(InputLoadError, match="'reader'"):
        rs.CodeRepository([shelved, reader]).load_node("reader")
