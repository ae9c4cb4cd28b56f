"""Assets of which code, config and the constants of a helper change, and whose bodies fail or are killed."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import rivers as rs

FAILS, KILLED = "RIVERS_TEST_FAILS", "RIVERS_TEST_KILLED"
"""The variables that name the body that fails, and the one whose process is killed."""
RATE = 1
"""A constant of this module, which a helper of the bodies reads."""


def with_rate(value: int) -> int:
    """Return a value that a constant of the module decides."""
    return value * RATE


@dataclass
class Version:
    """One version of the code and the config of a repository."""

    first: int = 1
    factor: int = 2
    keys: tuple[str, ...] = ("x", "y")
    table: int = 5
    pair: tuple[int, int] = (1, 2)
    config: int = 0
    rate: int = 1
    tags: tuple[str, ...] = ()


def make_assets(version: Version, folder: Path) -> list[rs.Asset]:
    """Return the assets of a version; a table is written to and read from `folder`, beside the values."""
    first, factor, keys, pair, tags = version.first, version.factor, version.keys, version.pair, list(version.tags)
    table, path = version.table, str(folder / "table")

    def may_fail(name: str) -> None:
        # The environment is no part of the code.
        if os.environ.get(KILLED) == name:
            os.kill(os.getpid(), signal.SIGKILL)
        if os.environ.get(FAILS) == name:
            raise ValueError(name)

    @rs.Asset(tags=tags)
    def source() -> int:
        may_fail("source")
        return first

    @rs.Asset
    def scaled(context: rs.AssetExecutionContext, source: int) -> int:
        may_fail("scaled")
        return source * factor + (context.config or {}).get("plus", 0)

    @rs.Asset.from_multi(output_defs=[rs.AssetDef("left"), rs.AssetDef("right")])
    def both(source: int) -> tuple[int, int]:
        may_fail("both")
        return pair[0], with_rate(pair[1] * source)

    @rs.Asset
    def write_table(source: int) -> int:
        may_fail("write_table")
        # Its value is the same whatever it writes.
        return Path(path).write_text(f"{table + source:04}")

    @rs.Asset(deps=["write_table"])
    def read_table() -> int:
        may_fail("read_table")
        return int(Path(path).read_text())

    @rs.Task
    def split(source: int) -> list[rs.DynamicOutput]:
        may_fail("split")
        return [rs.DynamicOutput(key=key, value=len(key) + index) for index, key in enumerate(keys)]

    @rs.Task
    def grow(element: int) -> int:
        may_fail("grow")
        return with_rate(element) + factor

    @rs.Task
    def add_up(grown: list[int]) -> int:
        may_fail("add_up")
        return sum(grown)

    @rs.Asset.from_graph
    def total(source: Any) -> Any:
        return add_up(split(source).map(grow).collect())

    @rs.Asset
    def everything(scaled: int, left: int, right: int, read_table: int, total: int) -> list[int]:
        may_fail("everything")
        return [scaled, left, right, read_table, total]

    return [source, scaled, both, write_table, read_table, total, everything]


ASSETS = ("source", "scaled", "both", "write_table", "read_table", "total", "everything")
BODIES = ("source", "scaled", "both", "write_table", "read_table", "split", "grow", "add_up", "everything")
