"""Assets whose steps end in every way, importable by workers."""

from __future__ import annotations

import rivers as rs


@rs.Asset
def numbers(context: rs.AssetExecutionContext) -> list[int]:
    context.add_output_metadata({"rows": 3, "note": "the token is tok-12345"})
    return [3, 1, 2]


@rs.Asset(retry=rs.RetryPolicy(1))
def fails(numbers: list[int]) -> int:
    raise ValueError("the token is tok-12345")


@rs.Asset
def skipped(fails: int) -> int:
    return fails


@rs.Task
def split(numbers: list[int]) -> list[rs.DynamicOutput]:
    return [rs.DynamicOutput(key=str(number), value=number) for number in numbers]


@rs.Task
def twice(part: int) -> int:
    if part == 1:
        raise KeyError(part)
    return part * 2


@rs.Task
def add(parts: list[int]) -> int:
    return sum(parts)


@rs.Asset.from_graph
def doubled(numbers: list[int]) -> object:
    return add(split(numbers).map(twice).collect())
