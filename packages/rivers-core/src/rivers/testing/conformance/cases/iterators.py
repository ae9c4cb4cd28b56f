"""Cases of iterators that bodies return: each reader gets all of their items, or the step that returns one fails."""

from __future__ import annotations

import csv
import io
import itertools
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import rivers as rs
from rivers.testing.conformance.cases.case import Case, Fails, succeeds

__all__ = ["CASES"]

LINES = ("a,1", "b,2")


class Countdown:
    """An iterator of a user's own, with a lock, as a database cursor has one: a store of pickles refuses it, too."""

    def __init__(self, start: int) -> None:
        self.left = start
        self.lock = threading.Lock()

    def __iter__(self) -> Iterator[int]:
        return self

    def __next__(self) -> int:
        if self.left == 0:
            raise StopIteration
        self.left -= 1
        return self.left


@rs.Asset
def mapped() -> map[str]:
    return map(str, range(3))


@rs.Asset
def zipped() -> zip[tuple[str, int]]:
    return zip("ab", (1, 2), strict=True)


@rs.Asset
def filtered() -> Iterator[int]:
    return filter(None, (0, 1, 2))


@rs.Asset
def parsed() -> Any:
    return csv.reader(LINES)


@rs.Asset
def parsed_by_name() -> Any:
    return csv.DictReader(LINES, ("letter", "number"))


@rs.Asset
def iterated() -> Iterator[int]:
    return iter([1, 2])


@rs.Asset
def chained() -> Iterator[int]:
    return itertools.chain([1], itertools.islice(itertools.count(2), 1))


@rs.Asset
async def awaited_map() -> Iterator[str]:
    return map(str, range(2))


@rs.Asset
async def awaited_generator() -> Iterator[int]:
    return (number for number in (1, 2))


@rs.Asset
def in_output() -> Any:
    return rs.Output(map(str, range(2)), metadata={"rows": 2})


@rs.Asset
def in_a_pair() -> Any:
    return map(str, range(2)), 1


@rs.Asset
def in_a_dict() -> dict[str, Any]:
    return {"train": (number for number in (1, 2)), "name": "n"}


@rs.Asset(retry=rs.RetryPolicy(1))
def read_twice(context: rs.AssetExecutionContext, mapped: list[str]) -> int:
    count = len(list(mapped))
    if context.attempt == 1:
        raise ConnectionError("a hiccup after reading")
    return count


@rs.Asset
def also_reads(read_twice: int, mapped: list[str]) -> list[str]:
    return list(mapped)


@rs.Asset.from_multi(output_defs=[rs.AssetDef("low"), rs.AssetDef("high")])
def halves() -> Any:
    return {"low": map(int, "01"), "high": rs.Output(iter([2, 3]))}


@rs.Task
def letters() -> Iterator[rs.DynamicOutput]:
    for letter in "ab":
        yield rs.DynamicOutput(letter, map(str, range(2)))


@rs.Task(retry=rs.RetryPolicy(1))
def counted(context: rs.TaskExecutionContext, items: list[str]) -> int:
    count = len(list(items))
    if context.attempt == 1:
        raise ConnectionError("a hiccup after reading")
    return count


@rs.Task
def added(counts: list[int]) -> int:
    return sum(counts)


@rs.Asset.from_graph
def counted_letters() -> Any:
    return added(letters().map(counted).collect())


@rs.Task
def lazy() -> Iterator[int]:
    return map(int, "12")


@rs.Task
def first_reader(items: list[int]) -> int:
    return sum(items)


@rs.Task
def second_reader(total: int, items: list[int]) -> list[int]:
    return [total, *items]


@rs.Asset.from_graph
def both_read() -> Any:
    items = lazy()
    return second_reader(first_reader(items), items)


@rs.Asset.from_graph(metadata={"rivers/executor": "parallel", "rivers/node/executor": "in_process"})
def both_read_in_one_worker() -> Any:
    items = lazy()
    return second_reader(first_reader(items), items)


@rs.Task
def opened() -> Any:
    return Countdown(2)


@rs.Asset.from_graph(metadata={"rivers/executor": "parallel", "rivers/node/executor": "in_process"})
def drained_in_one_worker() -> Any:
    items = opened()
    return second_reader(first_reader(items), items)


@rs.Asset
def own_iterator() -> Any:
    return Countdown(2)


@rs.Asset
def open_file() -> Any:
    return io.TextIOWrapper(io.BytesIO(b"a line"))


@rs.Asset
def file_in_memory() -> io.StringIO:
    return io.StringIO("text")


@rs.Asset
def reads_it(file_in_memory: io.StringIO) -> str:
    return file_in_memory.read()


@rs.Asset
def reads_it_again(reads_it: str, file_in_memory: io.StringIO) -> str:
    return file_in_memory.read()


@rs.Asset
def own_async_iterator() -> Any:
    return Ticks()


class Ticks:
    def __init__(self) -> None:
        self.lock = threading.Lock()

    def __aiter__(self) -> AsyncIterator[int]:
        return self

    async def __anext__(self) -> int:
        raise StopAsyncIteration


@rs.Asset
def endless() -> Iterator[int]:
    return itertools.count()


@rs.Asset
def fails_when_read() -> Iterator[float]:
    return map((1).__truediv__, (1, 0))


def refused(asset: rs.Asset, text: str, type: str = "OutputCommitError", reason: str = "infrastructure") -> Case:
    return Case(
        name=f"one-shot: {asset.name}",
        parts={"assets": [asset]},
        states={asset.name: "failed"},
        failures={asset.name: Fails(reason, type, text)},
        absent=(asset.name,),
        attempts={asset.name: 1},
    )


CASES = [
    succeeds("map", mapped, values={"mapped": ["0", "1", "2"]}),
    succeeds("zip", zipped, values={"zipped": [("a", 1), ("b", 2)]}),
    succeeds("filter", filtered, values={"filtered": [1, 2]}),
    succeeds("csv.reader", parsed, values={"parsed": [["a", "1"], ["b", "2"]]}),
    succeeds(
        "csv.DictReader",
        parsed_by_name,
        values={"parsed_by_name": [{"letter": "a", "number": "1"}, {"letter": "b", "number": "2"}]},
    ),
    succeeds("iter", iterated, values={"iterated": [1, 2]}),
    succeeds("itertools", chained, values={"chained": [1, 2]}),
    succeeds("map from an async body", awaited_map, values={"awaited_map": ["0", "1"]}),
    succeeds("generator from an async body", awaited_generator, values={"awaited_generator": [1, 2]}),
    succeeds("map in an output", in_output, values={"in_output": ["0", "1"]}, metadata={"in_output": {"rows": 2}}),
    succeeds("map in a tuple", in_a_pair, values={"in_a_pair": (["0", "1"], 1)}),
    succeeds("generator in a dict", in_a_dict, values={"in_a_dict": {"train": [1, 2], "name": "n"}}),
    succeeds(
        "two readers and a retry of one",
        mapped,
        read_twice,
        also_reads,
        values={"read_twice": 3, "also_reads": ["0", "1", "2"]},
    ),
    Case(
        name="iterators of a multi-asset",
        parts={"assets": [halves]},
        states={"halves": "succeeded"},
        values={"low": [0, 1], "high": [2, 3]},
    ),
    Case(
        name="iterators as elements",
        parts={"assets": [counted_letters]},
        states={
            "counted_letters/letters": "succeeded",
            "counted_letters/counted[a]": "succeeded",
            "counted_letters/counted[b]": "succeeded",
            "counted_letters/added": "succeeded",
        },
        values={"counted_letters": 4},
        attempts={"counted_letters/counted[a]": 2, "counted_letters/counted[b]": 2},
    ),
    Case(
        name="iterator between tasks",
        parts={"assets": [both_read]},
        states={
            "both_read/lazy": "succeeded",
            "both_read/first_reader": "succeeded",
            "both_read/second_reader": "succeeded",
        },
        values={"both_read": [3, 1, 2]},
    ),
    succeeds(
        "a file in memory",
        file_in_memory,
        reads_it,
        reads_it_again,
        values={"reads_it": "text", "reads_it_again": "text"},
    ),
    refused(own_iterator, "the value of 'own_iterator', a rivers.testing.conformance.cases.iterators.Countdown"),
    refused(
        own_async_iterator, "the value of 'own_async_iterator', a rivers.testing.conformance.cases.iterators.Ticks"
    ),
    refused(open_file, "the value of 'open_file', a _io.TextIOWrapper"),
    refused(endless, "an iterator with an end", "ResultDefinitionError", "error"),
    refused(fails_when_read, "division", "ZeroDivisionError", "error"),
]
