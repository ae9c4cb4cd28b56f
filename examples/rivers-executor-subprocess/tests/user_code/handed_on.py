"""Assets with no IO handler at all, some of which must run in this process."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import numpy as np

import rivers as rs

HERE = {"rivers/executor": "in_process"}


@rs.Asset
def numbers() -> object:
    return np.arange(100_000.0)


@rs.Asset
def seen(numbers: object) -> tuple[int, bool, float]:
    assert isinstance(numbers, np.ndarray)
    return os.getpid(), numbers.flags.writeable, float(numbers.sum())


@rs.Asset(metadata=HERE)
def kept_here(seen: tuple[int, bool, float], numbers: object) -> tuple[int, bool]:
    assert isinstance(numbers, np.ndarray)
    return os.getpid(), numbers.flags.writeable


@rs.Asset
def lock() -> object:
    return threading.Lock()


@rs.Asset
def locked(lock: object) -> str:
    return type(lock).__name__


@rs.Asset(metadata=HERE)
def stays_here(lock: object) -> str:
    return type(lock).__name__


@rs.Task
def split(numbers: object) -> Iterator[rs.DynamicOutput]:
    assert isinstance(numbers, np.ndarray)
    for part in range(4):
        yield rs.DynamicOutput(key=f"p{part}", value=numbers[part::4])


@rs.Task
def total(part: object) -> float:
    assert isinstance(part, np.ndarray)
    return float(part.sum())


@rs.Task
def whole(totals: list[float]) -> float:
    return sum(totals)


@rs.Asset.from_graph
def sums(numbers: object) -> float:
    return whole(split(numbers).map(total).collect())


@rs.Asset
def after_sums(sums: float) -> float:
    return sums + 1
