"""Steps without an IO handler, whose values are small."""

from __future__ import annotations

import os
from typing import Any

import rivers as rs


@rs.Asset
def words() -> dict[str, tuple[str, ...]]:
    return {"a": ("ant", "ape"), "b": ("bee",)}


@rs.Task
def split(words: dict[str, tuple[str, ...]]) -> list[rs.DynamicOutput]:
    return [rs.DynamicOutput(key=key, value={"words": found}) for key, found in words.items()]


@rs.Task
def counted(one: dict[str, Any]) -> tuple[int, int]:
    return os.getpid(), len(one["words"])


@rs.Task
def listed(counts: list[tuple[int, int]]) -> list[tuple[int, int]]:
    return counts


@rs.Asset.from_graph
def counts(words: Any) -> Any:
    return listed(split(words).map(counted).collect())
