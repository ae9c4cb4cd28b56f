"""An asset with many inputs and a group of many instances, at module scope, for any executor.

What makes the inputs and the instances runs in process; what takes them runs on the repository's executor.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import rivers as rs
from rivers.spi import Reach

HERE: dict[str, str] = {"rivers/executor": "in_process"}


def seven() -> int:
    """The body of every part."""
    return 7


def made(name: str, inputs: int) -> Any:
    """A function of this module that has so many parameters, `part_0` and so on, and returns their sum and number."""
    parameters = ", ".join(f"part_{number}" for number in range(inputs))
    exec(f"def {name}({parameters}):\n    return sum(locals().values()), len(locals())", globals())
    return globals()[name]


def parts(number: int) -> list[rs.Asset]:
    """The upstreams of an asset with so many inputs, each with metadata of its own."""
    return [rs.Asset(seven, name=f"part_{n}", metadata={**HERE, "number": str(n)}) for n in range(number)]


joined = rs.Asset(made("joined", 10_000))
too_many = rs.Asset(made("too_many", 10_001))


@rs.Task(metadata=HERE)
def numbers() -> list[int]:
    return list(range(1_200))


@rs.Task(metadata=HERE)
def many_numbers() -> Iterable[rs.DynamicOutput]:
    return [rs.DynamicOutput(f"item-{number:06}", number) for number in range(21_000)]


@rs.Task(metadata=HERE)
def doubled(number: int) -> int:
    return 2 * number


@rs.Task
def listed(values: list[int]) -> list[int]:
    return [len(values), *values[:3], values[-1]]


@rs.Task
def streamed(values: Iterable[int]) -> list[int]:
    found = sorted(values)
    return [len(found), *found[:3], found[-1]]


@rs.Asset.from_graph
def collected() -> Any:
    return listed(numbers().map(doubled).collect())


@rs.Asset.from_graph
def taken() -> Any:
    return streamed(numbers().map(doubled).collect_stream())


@rs.Asset.from_graph
def chained() -> Any:
    return listed(numbers().map(doubled).map(doubled).collect())


@rs.Asset.from_graph
def huge() -> Any:
    """More instances than protocol 1.0 had values in a spec."""
    return listed(many_numbers().map(doubled).collect())


class PlainFiles(rs.BaseIOHandler):
    """Stores each value in a file, and knows nothing of mapping keys."""

    folder: str

    @property
    def reach(self) -> Reach:
        return Reach.MACHINE

    def handle_output(self, context: rs.OutputContext, value: Any) -> None:
        (Path(self.folder) / context.asset_name.replace("/", "_")).write_text(repr(value))

    def load_input(self, context: rs.InputContext) -> Any:
        return ast.literal_eval((Path(self.folder) / context.asset_name.replace("/", "_")).read_text())


GROUPS = [collected, taken, chained]
EXPECTED = {
    "joined": (70_000, 10_000),
    "collected": [1_200, 0, 2, 4, 2_398],
    "taken": [1_200, 0, 2, 4, 2_398],
    "chained": [1_200, 0, 4, 8, 4_796],
    "huge": [21_000, 0, 2, 4, 41_998],
}
