"""Any interleaving of runs, failures and edits ends with the values of a clean run from scratch."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import rivers as rs

SEQUENCES = 60
OPERATIONS = 12
FAILS = "RIVERS_TEST_FAILS"


@dataclass
class Version:
    """One version of the code and the config of a repository."""

    first: int = 1
    factor: int = 2
    keys: tuple[str, ...] = ("x", "y")
    table: int = 5
    pair: tuple[int, int] = (1, 2)
    config: int = 0
    tags: tuple[str, ...] = ()


def make_assets(version: Version, folder: Path) -> list[rs.Asset]:
    """Return the assets of a version; a table is written to and read from `folder`, beside the values."""
    first, factor, keys, pair, tags = version.first, version.factor, version.keys, version.pair, list(version.tags)
    table, path = version.table, str(folder / "table")

    def may_fail(name: str) -> None:
        # The environment is no part of the code.
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
        return pair[0], pair[1] * source

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
        return element * factor

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


def edit(version: Version, rng: random.Random) -> None:
    """Change something in a version."""
    choose: dict[str, Callable[[], Any]] = {
        "first": lambda: rng.randrange(3),
        "factor": lambda: rng.randrange(1, 4),
        "keys": lambda: tuple(rng.sample(["x", "y", "zz", "w"], rng.randrange(4))),
        "table": lambda: rng.randrange(3),
        "pair": lambda: (rng.randrange(2), rng.randrange(2)),
        "config": lambda: rng.randrange(2),
        "tags": lambda: tuple(rng.sample(["a", "b"], rng.randrange(3))),
    }
    name = rng.choice(list(choose))
    setattr(version, name, choose[name]())


def run(version: Version, handler: rs.BaseIOHandler, folder: Path, **settings: Any) -> Any:
    with rs.CodeRepository(make_assets(version, folder), default_io_handler=handler) as repo:
        result = repo.materialize(
            config={"scaled": {"plus": version.config}} if "scaled" in settings.pop("names", ASSETS) else None,
            **settings,
        )
        return result, repo.load_node("everything") if result.success and settings.get("selection") is None else None


@pytest.mark.parametrize("seed", range(SEQUENCES))
def test_values_are_those_of_a_clean_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    """After edits, failed runs and runs of parts, skipping what did not change gives the values of a clean run."""
    rng = random.Random(seed)
    version = Version()
    handler = rs.PickleIOHandler(tmp_path / "store", fsync=False) if seed % 2 else rs.InMemoryIOHandler()
    (tmp_path / "clean").mkdir()
    run(version, handler, tmp_path, skip_unchanged=True)
    for _ in range(OPERATIONS):
        operation = rng.choice(["edit", "edit", "part", "fail", "plain", "all"])
        if operation == "edit":
            edit(version, rng)
        elif operation == "part":
            names = rng.sample(ASSETS, rng.randrange(1, 4))
            run(
                version,
                handler,
                tmp_path,
                selection=names,
                names=names,
                skip_unchanged=rng.choice([True, None]),
                raise_on_error=False,
            )
        elif operation == "fail":
            with monkeypatch.context() as patch:
                patch.setenv(FAILS, rng.choice(BODIES))
                run(version, handler, tmp_path, skip_unchanged=True, raise_on_error=False)
        else:
            run(version, handler, tmp_path, skip_unchanged=True if operation == "all" else None)
    expected = run(version, rs.InMemoryIOHandler(), tmp_path / "clean")[1]

    _, found = run(version, handler, tmp_path, skip_unchanged=True)

    assert expected == found
    again = run(version, handler, tmp_path, skip_unchanged=True)[0]
    assert {"unchanged"} == {report.state.value for report in again.steps.values()}
