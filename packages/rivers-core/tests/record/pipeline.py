"""Assets with every kind of end, for records."""

from __future__ import annotations

import rivers as rs


@rs.Asset(group="source", kinds=["python"], tags=["daily"])
def numbers() -> list[int]:
    """Return three numbers.

    They are small.
    """
    print("hello")
    return [3, 1, 2]


@rs.Task
def split(numbers: list[int]) -> list[rs.DynamicOutput]:
    return [rs.DynamicOutput(key=str(number), value=number) for number in numbers]


@rs.Task
def twice(part: int) -> int:
    return part * 2


@rs.Task
def add(parts: list[int]) -> int:
    return sum(parts)


@rs.Asset.from_graph
def total(numbers: list[int]) -> object:
    return add(split(numbers).map(twice).collect())


@rs.Asset(retry=rs.RetryPolicy(1))
def fails(numbers: list[int]) -> int:
    raise ValueError("the token is tok-12345")


@rs.Asset
def skipped(fails: int) -> int:
    return fails


REPOSITORY = rs.CodeRepository([numbers, total, fails, skipped])
