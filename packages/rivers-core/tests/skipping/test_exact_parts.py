"""Resources, IO handlers, config and versions: what is not known exactly is made again, and ends no run."""

from __future__ import annotations

import datetime as dt
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field

import rivers as rs
from rivers.io_handlers import Memo

Run = Callable[..., set[str]]


class Inner(BaseModel):
    """A model within a resource."""


class Wide(Inner):
    """One with a field more."""

    size: int


class Fields(rs.Resource):
    """A resource with fields that JSON has no place for."""

    limit: float | None = None
    hidden: int = Field(1, exclude=True)
    inner: Inner = Inner()
    raw: bytes = b"\xff"


class Times(rs.PickleIOHandler):
    """A handler that loads what is stored, some times."""

    times: int = 1

    def load_input(self, context: rs.InputContext) -> Any:
        return super().load_input(context) * self.times


class Versioned(rs.BaseIOHandler):
    """A handler of values that are made elsewhere, of one version."""

    times: int = 1
    version: Any = "v1"

    def handle_output(self, context: rs.OutputContext, obj: object) -> None:
        raise AssertionError("nothing is stored here")

    def load_input(self, context: rs.InputContext) -> int:
        return self.times

    def read_memo(self, key: str) -> Memo | None:
        return Memo("", self.version)


@rs.Asset
def uses(fields: Fields) -> int:
    return 1


@rs.Asset
def reads(elsewhere: int) -> int:
    return elsewhere


def _elsewhere(**fields: Any) -> rs.Asset:
    return rs.Asset.external(name="elsewhere", io_handler=Versioned(**fields))


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"limit": None}, {"limit": float("inf")}),
        ({"limit": float("nan")}, {"limit": float("inf")}),
        ({"hidden": 2}, {"hidden": 3}),
        ({"inner": Wide(size=2)}, {"inner": Wide(size=3)}),
        ({"inner": Inner()}, {"inner": Wide(size=3)}),
        ({"raw": b"\xff"}, {"raw": b"\xfe"}),
    ],
)
def test_each_field_of_a_resource_counts(run: Run, before: dict[str, Any], after: dict[str, Any]) -> None:
    """Also those that are equal as JSON, or are left out there."""
    assert {"uses"} == run(uses, resources={"fields": Fields(**before)})
    assert set() == run(uses, resources={"fields": Fields(**before)})
    assert {"uses"} == run(uses, resources={"fields": Fields(**after)})


def test_each_field_of_a_config_counts(run: Run) -> None:
    """Also those that are equal as JSON, or are left out there."""

    class Config(BaseModel):
        limit: float | None = None
        hidden: int = Field(1, exclude=True)
        raw: bytes = b"\xff"

    @rs.Asset
    def limited(context: rs.AssetExecutionContext[Config]) -> int:
        return 1

    for fields in ({"limit": None}, {"limit": "inf"}, {"limit": "inf", "hidden": 7}):
        assert {"limited"} == run(limited, config={"limited": fields})
        assert set() == run(limited, config={"limited": fields})


def test_a_resource_whose_code_is_unknown_is_never_unchanged(tmp_path: Path) -> None:
    """The reason names it."""
    lock = threading.Lock()

    class Locked(rs.Resource):
        def query(self) -> bool:
            return lock.locked()

    @rs.Asset
    def locked(database: Locked) -> int:
        return 1

    handler = rs.PickleIOHandler(tmp_path / "store", fsync=False)
    with rs.CodeRepository([locked], resources={"database": Locked()}, default_io_handler=handler) as repo:
        repo.materialize(skip_unchanged=True)
        reasons = repo.plan(skip_unchanged=True).reasons

    assert reasons is not None
    assert ("resource `database`: a _thread.lock is no plain value",) == reasons["locked"]


def test_a_handler_made_of_a_plain_one_counts(run: Run, tmp_path: Path) -> None:
    """Its fields count for what it stores, and for what reads it though the stored content is the same."""

    def assets(times: int) -> list[rs.Asset]:
        @rs.Asset(io_handler=Times(tmp_path / "own", times=times))
        def made() -> int:
            return 1

        @rs.Asset
        def read(made: int) -> int:
            return made

        return [made, read]

    assert {"made", "read"} == run(*assets(2))
    assert set() == run(*assets(2))
    assert {"made", "read"} == run(*assets(3))


def test_the_handler_that_loads_an_external_asset_counts(run: Run) -> None:
    """Though the version of what it loads is the same."""
    assert {"reads"} == run(_elsewhere(times=2), reads)
    assert set() == run(_elsewhere(times=2), reads)
    assert {"reads"} == run(_elsewhere(times=3), reads)


@pytest.mark.parametrize("version", [42, 1.5, dt.date(2026, 1, 2), dt.datetime(2026, 1, 2, tzinfo=dt.UTC), "ä\udc80"])
def test_a_version_may_be_a_number_or_a_date(run: Run, version: Any) -> None:
    """It counts by its text."""
    assert {"reads"} == run(_elsewhere(version=version), reads)
    assert set() == run(_elsewhere(version=version), reads)
    assert {"reads"} == run(_elsewhere(version="other"), reads)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("version", [b"1", ["1"], object])
def test_another_version_is_unknown(run: Run, version: Any) -> None:
    """It ends no run, and what loads the value runs each time."""
    assert {"reads"} == run(_elsewhere(version=version), reads)
    assert {"reads"} == run(_elsewhere(version=version), reads)
