"""Selections: what is planned and run, and what is refused (contract.md §4)."""

from __future__ import annotations

from typing import Any

import pytest

import rivers as rs
from rivers.exceptions import AssetNotFoundError, ConfigurationError, InputLoadError


@rs.Asset
def raw() -> int:
    return 1


@rs.Asset
def clean(raw: int) -> int:
    return raw + 1


@rs.Asset
def report(clean: int) -> int:
    return clean + 1


@rs.Asset
def apart() -> int:
    return 9


@rs.Asset.from_multi(output_defs=[rs.AssetDef("left"), rs.AssetDef("right")])
def sides(raw: int) -> tuple[int, int]:
    return raw, -raw


@rs.Task
def load() -> int:
    return 1


@rs.Task
def add(x: int, y: int) -> int:
    return x + y


@rs.Asset.from_graph
def graph(left: int) -> Any:
    load()
    return add(load(), left)


@rs.Asset
def last(graph: int, report: int) -> int:
    return graph + report


ALL = [raw, clean, report, apart, sides, graph, last]
GRAPH = {"graph/load", "graph/load_2", "graph/add"}


def repository() -> rs.CodeRepository:
    return rs.CodeRepository(ALL)


class TestSelection:
    @pytest.mark.parametrize(
        ("selection", "expected"),
        [
            (None, {"raw", "clean", "report", "apart", "sides", "last", *GRAPH}),
            ("clean", {"clean"}),
            (clean, {"clean"}),
            (["clean", report, "clean"], {"clean", "report"}),
            (("raw",), {"raw"}),
            ({"raw"}, {"raw"}),
            ((name for name in ["raw"]), {"raw"}),
            ("left", {"sides"}),
            (["left", "right"], {"sides"}),
            (sides, {"sides"}),
            ("graph", GRAPH),
            ([], set()),
        ],
    )
    def test_exact(self, selection: Any, expected: set[str]) -> None:
        """A selection is an asset, a name or several; exactly these are planned, a graph asset with all its tasks."""
        assert expected == {step.key for step in repository().plan(selection).steps}

    @pytest.mark.parametrize(
        ("selection", "expected"),
        [
            ("report", {"raw", "clean", "report"}),
            ("graph", {"raw", "sides", *GRAPH}),
            ("last", {"raw", "clean", "report", "sides", "last", *GRAPH}),
            (["apart", "clean"], {"apart", "raw", "clean"}),
        ],
    )
    def test_upstream(self, selection: Any, expected: set[str]) -> None:
        """With `include_upstream`, everything they need comes along, also the tasks of graphs that lead nowhere."""
        plan = repository().plan(selection, include_upstream=True)

        assert expected == {step.key for step in plan.steps}

    def test_run(self) -> None:
        """What is not selected is not run but loaded as it was last stored."""
        runs = repository()
        runs.materialize("raw")

        result = runs.materialize([clean])

        assert ["clean"] == result.materialized_assets
        assert 2 == runs.load_node("clean")

    def test_missing_upstream(self) -> None:
        """An upstream that was never made fails the step that loads it, saying so; including the upstream helps."""
        runs = repository()

        with pytest.raises(InputLoadError, match="raw"):
            runs.materialize("clean")
        assert ["raw", "clean"] == runs.materialize("clean", include_upstream=True).materialized_assets


class TestRefused:
    @pytest.mark.parametrize("selection", ["reprot", ["raw", "reprot"]], ids=str)
    def test_unknown(self, selection: Any) -> None:
        """A name that is none is reported with the closest one; nothing is run."""
        for use in (repository().plan, repository().materialize):
            with pytest.raises(AssetNotFoundError, match="did you mean 'report'"):
                use(selection)

    @pytest.mark.parametrize("selection", [3, [3], [None], [["raw"]], [{}], 1.5], ids=str)
    def test_no_names(self, selection: Any) -> None:
        """What is no asset and no name is reported as that."""
        for use in (repository().plan, repository().materialize, repository().submit):
            with pytest.raises(ConfigurationError, match="selection"):
                use(selection)

    def test_a_step(self) -> None:
        """A task within a graph asset cannot be selected by itself."""
        with pytest.raises(AssetNotFoundError, match="graph/load"):
            repository().plan("graph/load")

    @pytest.mark.parametrize(
        ("argument", "given"),
        [
            ("assets", None),
            ("assets", "raw"),
            ("assets", raw),
            ("assets", [lambda: 1]),
            ("assets", [load]),
            ("tasks", [raw]),
            ("jobs", ["j"]),
            ("retries", {"a": 3}),
            ("resources", [1]),
            ("default_retry_policy", 3),
            ("default_io_handler", 3),
            ("default_io_handler", "nowhere"),
        ],
    )
    def test_repository(self, argument: str, given: Any) -> None:
        """A repository's argument of the wrong kind is refused where it is written."""
        with pytest.raises(ConfigurationError, match=argument):
            rs.CodeRepository(**{"assets": [raw], argument: given})
