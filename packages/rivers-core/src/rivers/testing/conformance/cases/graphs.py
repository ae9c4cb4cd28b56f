"""Cases of graph assets: tasks, bash tasks, fan-out, streams."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import rivers as rs
from rivers.testing.conformance.cases.case import Case, Fails, broken, graph, instances

__all__ = ["CASES"]


@rs.Asset
def numbers() -> list[int]:
    return [1, 2, 3]


@rs.Task
def double(x: int) -> int:
    return 2 * x


@rs.Task
async def triple(x: int) -> int:
    await asyncio.sleep(0)
    return 3 * x


@rs.Task
def total(xs: list[int]) -> int:
    return sum(xs)


@rs.Task
def keyed(xs: list[int]) -> Iterator[rs.DynamicOutput]:
    for x in xs:
        yield rs.DynamicOutput(f"n{x}", x)


@rs.Task
def same_key() -> Iterator[rs.DynamicOutput]:
    yield rs.DynamicOutput("k", 1)
    yield rs.DynamicOutput("k", 2)


@rs.Task
def no_items() -> list[int]:
    return []


@rs.Task
def text() -> str:
    return "abc"


@rs.Asset
def regions() -> dict[str, int]:
    return {"north": 10, "south": 20}


@rs.Task
def regions_task() -> dict[str, int]:
    return {"north": 10, "south": 20}


class Rows:
    """Iterates over its column names, like a DataRows."""

    def __iter__(self) -> Iterator[str]:
        return iter(["price"])


@rs.Asset
def frame() -> Any:
    return Rows()


@rs.Task
def frame_task() -> Any:
    return Rows()


@rs.Task
def not_two(x: int) -> int:
    if x == 2:
        raise ValueError("two")
    return x


@rs.Task(retry=rs.RetryPolicy(2))
def flaky(context: rs.TaskExecutionContext, x: int) -> int:
    if x == 2 and context.attempt < 3:
        raise ValueError(f"attempt {context.attempt}")
    return x


@rs.Task
def streamed(xs: Iterator[int]) -> list[int]:
    return sorted(xs)


@rs.Task
def in_order(xs: Iterator[int]) -> list[int]:
    return list(xs)


@rs.Task
def first_only(xs: Iterator[int]) -> int:
    return next(xs) * 0


@rs.Task
def swallows(xs: Iterator[int]) -> list[int]:
    found = []
    try:
        for x in xs:
            found.append(x)
    except Exception:
        pass
    return found


@rs.Task
def add(x: int, plus: int, factor: int = 1) -> int:
    return factor * x + plus


@rs.Task
def named(context: rs.TaskExecutionContext) -> tuple[str, Any]:
    return context.task_name, context.config


@rs.Asset.from_graph
def chain(numbers: Any) -> Any:
    return double(total(numbers))


@rs.Asset.from_graph
def fan(numbers: Any) -> Any:
    return total(keyed(numbers).map(double).collect())


@rs.Asset.from_graph
def fan_async(numbers: Any) -> Any:
    return total(keyed(numbers).map(triple).collect())


@rs.Asset.from_graph
def fan_upstream(numbers: Any) -> Any:
    return total(numbers.map(double, max_concurrency=1).collect())


@rs.Asset.from_graph
def fan_twice(numbers: Any) -> Any:
    return total(keyed(numbers).map(double).map(triple).collect())


@rs.Asset.from_graph
def fan_plus(numbers: Any) -> Any:
    return in_order(keyed(numbers).map(add, plus=10).collect())


@rs.Asset.from_graph
def fan_empty() -> Any:
    return total(no_items().map(double).collect())


@rs.Asset.from_graph
def fan_same_key() -> Any:
    return total(same_key().map(double).collect())


@rs.Asset.from_graph
def fan_text() -> Any:
    return total(text().map(double).collect())


@rs.Asset.from_graph
def fan_regions(regions: Any) -> Any:
    return total(regions.map(double).collect())


@rs.Asset.from_graph
def fan_regions_task() -> Any:
    return total(regions_task().map(double).collect())


@rs.Asset.from_graph
def fan_frame(frame: Any) -> Any:
    return total(frame.map(double).collect())


@rs.Asset.from_graph
def fan_frame_task() -> Any:
    return total(frame_task().map(double).collect())


@rs.Asset.from_graph
def fan_breaks(numbers: Any) -> Any:
    return total(keyed(numbers).map(not_two).collect())


@rs.Asset.from_graph
def fan_flaky(numbers: Any) -> Any:
    return total(keyed(numbers).map(flaky).collect())


@rs.Asset.from_graph
def fan_result(numbers: Any) -> Any:
    return keyed(numbers).map(double).collect()


@rs.Asset.from_graph
def stream(numbers: Any) -> Any:
    return streamed(keyed(numbers).map(double).collect_stream())


@rs.Asset.from_graph
def stream_ordered(numbers: Any) -> Any:
    return in_order(keyed(numbers).map(triple).collect_stream(ordered=True))


@rs.Asset.from_graph
def stream_empty() -> Any:
    return in_order(no_items().map(double).collect_stream())


@rs.Asset.from_graph
def stream_breaks(numbers: Any) -> Any:
    return in_order(keyed(numbers).map(not_two).collect_stream(ordered=True))


@rs.Asset.from_graph
def stream_swallowed(numbers: Any) -> Any:
    return swallows(keyed(numbers).map(not_two).collect_stream(ordered=True))


@rs.Asset.from_graph
def stream_flaky(numbers: Any) -> Any:
    return streamed(keyed(numbers).map(flaky).collect_stream())


@rs.Asset.from_graph
def stream_left_early(numbers: Any) -> Any:
    return first_only(keyed(numbers).map(double).collect_stream())


@rs.Asset.from_graph
def constants() -> Any:
    return add(add(1, plus=2), plus=3, factor=10)


@rs.Asset.from_graph
def names() -> Any:
    return named()


@rs.Asset
def after_breaks(fan_breaks: int) -> int:
    return fan_breaks


OK, BAD = "succeeded", "failed"
THREE = instances("double", OK, OK, OK)
BY_REGION = {"double[north]": OK, "double[south]": OK}
BROKEN = {"keyed": OK, **instances("not_two", OK, BAD, OK)}
TWO = Fails("error", "ValueError", "two")

CASES = [
    graph("chain of tasks", chain, 12, {"total": OK, "double": OK}, numbers),
    graph("fan-out", fan, 12, {"keyed": OK, **THREE, "total": OK}, numbers, absent=("fan/double[n4]",)),
    graph("fan-out async", fan_async, 18, {"keyed": OK, **instances("triple", OK, OK, OK), "total": OK}, numbers),
    graph(
        "fan-out of an upstream",
        fan_upstream,
        12,
        {"each": OK, "double[0]": OK, "double[1]": OK, "double[2]": OK, "total": OK},
        numbers,
    ),
    graph(
        "fan-out chained",
        fan_twice,
        36,
        {"keyed": OK, **THREE, **instances("triple", OK, OK, OK), "total": OK},
        numbers,
    ),
    graph(
        "fan-out with constants",
        fan_plus,
        [11, 12, 13],
        {"keyed": OK, **instances("add", OK, OK, OK), "in_order": OK},
        numbers,
    ),
    graph("fan-out empty", fan_empty, 0, {"no_items": OK, "total": OK}),
    graph("fan-out as the value", fan_result, [2, 4, 6], {"keyed": OK, **THREE, "gather": OK}, numbers),
    broken(
        "fan-out duplicate key",
        fan_same_key,
        {"same_key": BAD, "double": "skipped", "total": "skipped"},
        failures={"fan_same_key/same_key": Fails("error", "ResultDefinitionError", "'k' twice")},
        causes={"fan_same_key/total": "fan_same_key/same_key"},
    ),
    broken(
        "fan-out of no list",
        fan_text,
        {"text": BAD, "double": "skipped", "total": "skipped"},
        failures={"fan_text/text": Fails("error", "ResultDefinitionError", "of type str")},
    ),
    graph("fan-out of an asset's dict", fan_regions, 60, {"each": OK, **BY_REGION, "total": OK}, regions),
    graph("fan-out of a task's dict", fan_regions_task, 60, {"regions_task": OK, **BY_REGION, "total": OK}),
    broken(
        "fan-out of an asset's frame",
        fan_frame,
        {"each": BAD, "double": "skipped", "total": "skipped"},
        frame,
        failures={"fan_frame/each": Fails("error", "ResultDefinitionError", "the value of 'frame', which is of type")},
    ),
    broken(
        "fan-out of a task's frame",
        fan_frame_task,
        {"frame_task": BAD, "double": "skipped", "total": "skipped"},
        failures={"fan_frame_task/frame_task": Fails("error", "ResultDefinitionError", "which is of type Rows")},
    ),
    Case(
        name="fan-out breaks",
        parts={"assets": [numbers, fan_breaks, after_breaks]},
        states={
            "numbers": OK,
            **{f"fan_breaks/{step}": state for step, state in {**BROKEN, "total": "skipped"}.items()},
            "after_breaks": "skipped",
        },
        failures={"fan_breaks/not_two[n2]": TWO},
        causes={"fan_breaks/total": "fan_breaks/not_two[n2]", "after_breaks": "fan_breaks/not_two[n2]"},
        values={"fan_breaks/not_two[n3]": 3},
        absent=("fan_breaks", "fan_breaks/not_two[n2]"),
    ),
    graph(
        "fan-out retried instance",
        fan_flaky,
        6,
        {"keyed": OK, **instances("flaky", OK, OK, OK), "total": OK},
        numbers,
        attempts={"fan_flaky/flaky[n1]": 1, "fan_flaky/flaky[n2]": 3},
    ),
    graph("stream", stream, [2, 4, 6], {"keyed": OK, **THREE, "streamed": OK}, numbers),
    graph(
        "stream ordered",
        stream_ordered,
        [3, 6, 9],
        {"keyed": OK, **instances("triple", OK, OK, OK), "in_order": OK},
        numbers,
    ),
    graph("stream empty", stream_empty, [], {"no_items": OK, "in_order": OK}),
    broken(
        "stream breaks",
        stream_breaks,
        {**BROKEN, "in_order": "skipped"},
        numbers,
        failures={"stream_breaks/not_two[n2]": TWO},
        causes={"stream_breaks/in_order": "stream_breaks/not_two[n2]"},
    ),
    broken(
        "stream breaks under a body that goes on",
        stream_swallowed,
        {**BROKEN, "swallows": "skipped"},
        numbers,
        failures={"stream_swallowed/not_two[n2]": TWO},
    ),
    graph(
        "stream retried instance",
        stream_flaky,
        [1, 2, 3],
        {"keyed": OK, **instances("flaky", OK, OK, OK), "streamed": OK},
        numbers,
        attempts={"stream_flaky/flaky[n2]": 3},
    ),
    graph("stream left early", stream_left_early, 0, {"keyed": OK, **THREE, "first_only": OK}, numbers),
    graph("constants", constants, 33, {"add": OK, "add_2": OK}),
    graph(
        "task context and config",
        names,
        ("names/named", {"deep": [1]}),
        {"named": OK},
        run={"config": {"named": {"deep": [1]}}},
    ),
]
