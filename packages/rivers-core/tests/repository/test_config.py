"""Config of a run: checked before it starts, given to the body as `context.config` (contract.md §4)."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, Field

import rivers as rs
from rivers.exceptions import AssetNotFoundError, ConfigurationError


class Window(BaseModel):
    days: int = Field(gt=0)
    zone: str = "UTC"


class Free(BaseModel):
    limit: int = 5


RAN: list[str] = []


@rs.Asset
def windowed(context: rs.AssetExecutionContext[Window]) -> Any:
    RAN.append("windowed")
    return context.config


@rs.Asset
def free(context: rs.AssetExecutionContext) -> Any:
    RAN.append("free")
    return context.config


@rs.Task
def inner(context: rs.TaskExecutionContext[Free]) -> Any:
    return context.config.limit


@rs.Task
def source() -> list[int]:
    return [1, 2]


@rs.Task
def each(context: rs.TaskExecutionContext, x: int) -> Any:
    return context.config["by"] * x


@rs.Asset.from_graph
def graph() -> Any:
    return inner()


@rs.Asset.from_graph
def mapped() -> Any:
    return source().map(each).collect()


def repository(*jobs: rs.Job) -> rs.CodeRepository:
    RAN.clear()
    return rs.CodeRepository([windowed, free, graph, mapped], jobs=list(jobs))


class TestGiven:
    def test_model(self) -> None:
        """Config goes to the body as an instance of its model, with defaults; without a model it is the dict."""
        runs = repository()
        runs.materialize(["windowed", "free"], config={"windowed": {"days": 3}, "free": {"a": [1, {"b": None}]}})

        assert Window(days=3) == runs.load_node("windowed")
        assert {"a": [1, {"b": None}]} == runs.load_node("free")

    def test_none(self) -> None:
        """Without config a model's defaults count, and the dict is empty."""
        runs = repository()
        runs.materialize(["graph", "free"])

        assert (5, {}) == (runs.load_node("graph"), runs.load_node("free"))

    def test_tasks(self) -> None:
        """Tasks within graph assets get config by their own name, mapped instances all the same."""
        runs = repository()
        runs.materialize(["graph", "mapped"], config={"inner": {"limit": 8}, "each": {"by": 10}})

        assert (8, [10, 20]) == (runs.load_node("graph"), runs.load_node("mapped"))

    def test_job(self) -> None:
        """A job's execution takes config in the same way."""
        runs = repository(rs.Job("j", [windowed]))
        runs.get_job("j").execute(config={"windowed": {"days": 2, "zone": "CET"}})

        assert Window(days=2, zone="CET") == runs.load_node("windowed")


class TestRefused:
    @pytest.mark.parametrize(
        ("config", "message"),
        [
            ({}, r"config\['windowed'\].*days"),
            ({"windowed": {}}, r"config\['windowed'\].*Window.*days"),
            ({"windowed": {"days": 0}}, r"days.*greater than 0"),
            ({"windowed": {"days": "many"}}, r"days"),
            ({"windowed": 3}, r"config\['windowed'\]=3"),
            ({"windowed": {"days": 1}, "free": {"a": object()}}, r"config\['free'\]"),
            ({"windowed": {"days": 1}, "graph": {"limit": 3}}, "only composes(?s:.*)tasks"),
        ],
    )
    def test_values(self, config: Any, message: str) -> None:
        """What is missing, wrong, no JSON or nobody's is refused before anything starts, naming asset and field."""
        with pytest.raises(ConfigurationError, match=message):
            repository().materialize(config=config)

        assert [] == RAN

    def test_names(self) -> None:
        """A name that is none is reported with the closest; one that is not part of the run, too."""
        with pytest.raises(AssetNotFoundError, match="did you mean 'windowed'"):
            repository().materialize("free", config={"windwed": {"days": 1}})
        with pytest.raises(ConfigurationError, match="not part of this run"):
            repository().materialize("free", config={"windowed": {"days": 1}})

        assert [] == RAN

    @pytest.mark.parametrize("config", [3, "free", [("free", 1)], {3: {}}], ids=str)
    def test_shape(self, config: Any) -> None:
        """Config is a dict of dicts by name."""
        with pytest.raises(ConfigurationError, match=r"invalid config=.*expected a dict of dicts"):
            repository().materialize("free", config=config)

    def test_other_runs(self) -> None:
        """A required field matters only to runs that need it."""
        assert repository().materialize("free").success
