"""The plan says of each step why it runs."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rivers as rs

BASE = """
import rivers as rs
from pydantic import BaseModel


class Limits(BaseModel):
    most: int = 3
    least: int = 0


class Database(rs.Resource):
    host: str = "here"


def helper(x):
    return x + 1


@rs.Asset
def flights() -> int:
    return 1


@rs.Asset
def clean_flights(context: rs.AssetExecutionContext[Limits], flights: int) -> int:
    return helper(flights)


@rs.Asset
def delays(clean_flights: int, database: Database) -> int:
    return clean_flights


@rs.Asset(deps=["delays"])
def report() -> None:
    pass
"""


@pytest.fixture
def reasons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, tuple[str, ...]]]:
    """Return a function that stores the values of BASE, and explains the plan of an edited version."""
    handler = rs.PickleIOHandler(tmp_path / "store", fsync=False)
    count = iter(range(10))

    def load(text: str, **resources: Any) -> rs.CodeRepository:
        folder = tmp_path / str(next(count))
        folder.mkdir()
        (folder / "has_reasons.py").write_text(text)
        monkeypatch.syspath_prepend(str(folder))
        sys.modules.pop("has_reasons", None)
        module = importlib.import_module("has_reasons")
        assets = [value for value in vars(module).values() if isinstance(value, rs.Asset)]
        made = {name: module.Database(**fields) for name, fields in resources.items()}
        return rs.CodeRepository(assets, resources={"database": module.Database(), **made}, default_io_handler=handler)

    def explain(old: str = "", new: str = "", *, config: Any = None, **resources: Any) -> dict[str, tuple[str, ...]]:
        load(BASE).materialize(skip_unchanged=True)
        assert not old or BASE.count(old) == 1
        found = load(BASE.replace(old, new) if old else BASE, **resources).plan(config=config, skip_unchanged=True)
        assert found.reasons is not None
        return {key: why for key, why in found.reasons.items() if why}

    yield explain
    sys.modules.pop("has_reasons", None)


Reasons = Callable[..., dict[str, tuple[str, ...]]]


def test_unchanged(reasons: Reasons) -> None:
    """No step of an unchanged repository has a reason to run."""
    assert {} == reasons()


def test_code(reasons: Reasons) -> None:
    """A changed function is named, also one that the step only calls; what is downstream names the step."""
    found = reasons("return x + 1", "return x + 2")

    assert ("code of `helper`",) == found["clean_flights"]
    assert ("`clean_flights` runs",) == found["delays"]
    assert ("`delays` runs",) == found["report"]


def test_config(reasons: Reasons) -> None:
    """A changed field of the config is named."""
    assert ("config field `least`",) == reasons(config={"clean_flights": {"least": 1}})["clean_flights"]


def test_resource(reasons: Reasons) -> None:
    """A resource with other fields is named."""
    assert ("resource `database`",) == reasons(database={"host": "there"})["delays"]


def test_code_version(reasons: Reasons) -> None:
    """A new code version is named."""
    found = reasons("@rs.Asset\ndef flights", '@rs.Asset(code_version="2")\ndef flights')

    assert "code_version" in found["flights"]


def test_input(reasons: Reasons, tmp_path: Path) -> None:
    """An input that was stored anew since is named."""
    reasons()
    rs.PickleIOHandler(tmp_path / "store").handle_output(
        rs.OutputContext("flights", run_id="other", step="flights", attempt_id="x", fingerprint="1:0"), 7
    )
    sys.modules.pop("has_reasons", None)
    module = importlib.import_module("has_reasons")
    repo = rs.CodeRepository(
        [module.flights, module.clean_flights], default_io_handler=rs.PickleIOHandler(tmp_path / "store")
    )

    found = repo.plan(["clean_flights"], skip_unchanged=True).reasons

    assert {"clean_flights": ("input `flights`",)} == found


def test_never_stored() -> None:
    """A step without a stored value says so; the plan prints the reasons."""

    @rs.Asset
    def a() -> int:
        return 1

    plan = rs.CodeRepository([a]).plan(skip_unchanged=True)

    assert {"a": ("`a` is not stored with a memo",)} == plan.reasons
    assert "a: `a` is not stored with a memo" in str(plan)


def test_without_comparison() -> None:
    """A plan that was not compared has no reasons."""

    @rs.Asset
    def a() -> int:
        return 1

    assert rs.CodeRepository([a]).plan().reasons is None
