"""Assets for runs that skip what did not change; workers import them by name."""

from __future__ import annotations

from typing import Any

import numpy as np

import rivers as rs

FACTOR = 2


@rs.Asset
def base() -> Any:
    return np.arange(100_000)


@rs.Asset.from_multi(output_defs=[rs.AssetDef("low"), rs.AssetDef("high")])
def both(base: Any) -> tuple[int, int]:
    return int(base.min()), int(base.max())


@rs.Task
def split(base: Any) -> list[rs.DynamicOutput]:
    return [rs.DynamicOutput(key=str(index), value=int(base[index])) for index in range(3)]


@rs.Task
def scale(number: int) -> int:
    return number * FACTOR


@rs.Task
def add_up(numbers: list[int]) -> int:
    return sum(numbers)


@rs.Asset.from_graph
def total(base: Any) -> Any:
    return add_up(split(base).map(scale).collect())


@rs.Asset.from_graph(metadata={"rivers/executor": "parallel", "rivers/node/executor": "in_process"})
def fused(base: Any) -> Any:
    return add_up(split(base).map(scale).collect())
