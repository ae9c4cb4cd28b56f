"""collect_stream really streams; a graph's instances and their consumer interleave."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterator
from typing import Any

import pytest

import rivers as rs
from rivers._events.event import Event, StepLog
from rivers.exceptions import StepCancelledError

journal: list[str] = []
variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@pytest.fixture(autouse=True)
def empty_journal() -> None:
    journal.clear()


@rs.Task
def numbers() -> list[int]:
    return [0, 1, 2]


@rs.Task
def made(x: int) -> int:
    journal.append(f"made {x} {variable.get()}")
    return x


@rs.Task
async def made_async(x: int) -> int:
    journal.append(f"made {x} {variable.get()}")
    return x


@rs.Task
def taken(xs: Iterator[int]) -> int:
    variable.set("the consumer's")
    for x in xs:
        journal.append(f"taken {x}")
    return len(journal)


@rs.Task
async def taken_async(xs: Iterator[int]) -> int:
    variable.set("the consumer's")
    for x in xs:
        journal.append(f"taken {x}")
    return len(journal)


@rs.Task
def taken_generator(xs: Iterator[int]) -> Iterator[int]:
    for x in xs:
        journal.append(f"taken {x}")
        yield x


@rs.Task
def fails_at_one(x: int) -> int:
    if x == 1:
        raise ValueError("one")
    return x


@rs.Task
def tells_error(xs: Iterator[int]) -> int:
    try:
        for x in xs:
            journal.append(f"taken {x}")
    except StepCancelledError as error:
        journal.append(str(error))
        raise
    return 0


def graph(body: Any) -> rs.CodeRepository:
    return rs.CodeRepository([rs.Asset.from_graph(body, name="graph")])


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "as they come"])
@pytest.mark.parametrize("taker", [taken, taken_async, taken_generator], ids=lambda task: task.name)
@pytest.mark.parametrize("maker", [made, made_async], ids=lambda task: task.name)
def test_each_item_is_taken_as_it_is_made(maker: rs.Task, taker: rs.Task, ordered: bool) -> None:
    """The consumer gets an item before the next instance runs, sync or async, and instances see none of its context."""
    graph(lambda: taker(numbers().map(maker).collect_stream(ordered=ordered))).materialize()

    assert [text for x in range(3) for text in (f"made {x} unset", f"taken {x}")] == journal


def test_what_listeners_print_is_not_the_consumers() -> None:
    """Sinks get the events of instances while their consumer waits; what sinks print is not the consumer's output."""
    sink = rs.ListSink()

    def prints(event: Event) -> None:
        sink(event)
        print("heard of", type(event).__name__)

    graph(lambda: taken(numbers().map(made).collect_stream())).materialize(on_event=prints)

    assert [] == [event for event in sink.events if isinstance(event, StepLog)]


def test_a_broken_stream_says_by_whom() -> None:
    """The consumer's loop gets the items before the failed one, then a StepCancelledError that names the instance."""
    repository = graph(lambda: tells_error(numbers().map(fails_at_one).collect_stream(ordered=True)))
    result = repository.materialize(raise_on_error=False)

    assert "taken 0" == journal[0]
    assert "graph/fails_at_one[1]" in journal[1]
    assert ("skipped", "graph/fails_at_one[1]") == (
        result.steps["graph/tells_error"].state,
        result.steps["graph/tells_error"].cause,
    )


def test_two_streams_at_once() -> None:
    """A consumer may read two streams in turns."""

    @rs.Task
    def zipped(left: Iterator[int], right: Iterator[int]) -> list[tuple[int, int]]:
        return list(zip(left, right, strict=True))

    repository = graph(
        lambda: zipped(
            left=numbers().map(made).collect_stream(ordered=True),
            right=numbers().map(made_async).collect_stream(ordered=True),
        )
    )
    repository.materialize()

    assert [(0, 0), (1, 1), (2, 2)] == repository.load_node("graph")


def test_cancel_while_streaming() -> None:
    """A cancelled run ends a consumer that waits for its stream."""
    handles: list[rs.RunHandle] = []
    gate = threading.Event()

    @rs.Task
    def waits(x: int) -> int:
        gate.wait(30)
        handles[0].cancel()
        return x

    repository = graph(lambda: taken(numbers().map(waits).collect_stream()))
    handles.append(repository.submit())
    gate.set()

    result = handles[0].wait(30)
    assert "cancelled" == result.status
    assert "cancelled" == result.steps["graph/taken"].state
    assert [] == journal
