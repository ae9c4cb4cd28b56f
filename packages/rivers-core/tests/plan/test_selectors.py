"""Selectors: names, patterns, upstream, downstream, groups and tags."""

from __future__ import annotations

import pytest

import rivers as rs
from rivers._plan.selectors import select_names
from rivers.exceptions import DefinitionError


def asset(name: str, *deps: str, **settings: object) -> rs.Asset:
    return rs.Asset(lambda: 0, name=name, deps=deps, **settings)


@rs.Task
def helper(stg_a: int) -> int:
    return stg_a


@rs.Task
def alone() -> None: ...


@rs.Asset.from_graph
def composed(stg_a: int) -> object:
    return helper(stg_a)


@rs.Asset.from_multi(output_defs=[rs.AssetDef("left"), rs.AssetDef("right")])
def both() -> tuple[int, int]:
    return 1, 2


REPOSITORY = rs.CodeRepository(
    [
        rs.Asset.external(io_handler=rs.InMemoryIOHandler(), name="outside"),
        asset("raw_a", "outside", group="raw", tags=["daily"]),
        asset("raw_b", group="raw", tags=["weekly"]),
        asset("stg_a", "raw_a", tags=["daily"]),
        asset("report", "stg_a", "raw_b"),
        asset("group:odd"),
        composed,
        both,
    ],
    tasks=[helper, alone],
)
GRAPH = REPOSITORY._planner.graph


@pytest.mark.parametrize(
    ("selector", "names"),
    [
        ("stg_a", "stg_a"),
        ("raw_*", "raw_a raw_b"),
        ("*_a", "raw_a stg_a"),
        ("raw_?", "raw_a raw_b"),
        ("+stg_a", "raw_a stg_a"),
        ("raw_a+", "raw_a stg_a report composed"),
        ("+stg_a+", "raw_a stg_a report composed"),
        ("+report", "raw_a raw_b stg_a report"),
        ("group:raw", "raw_a raw_b"),
        ("group:r*", "raw_a raw_b"),
        ("tag:daily", "raw_a stg_a"),
        ("+tag:daily+", "raw_a stg_a report composed"),
        ("group:odd", "group:odd"),
        ("raw_b, stg_a", "raw_b stg_a"),
        ("composed", "composed"),
        ("+composed", "raw_a stg_a composed"),
        ("left", "both"),
        ("lef*", "both"),
        ("alone", "alone"),
        ("helper", "helper"),
        ("outside+", "raw_a stg_a report composed"),
        ("outside", "outside"),
        ("*", "raw_a raw_b stg_a report group:odd composed both alone"),
    ],
)
def test_select(selector: str, names: str) -> None:
    """A selector chooses assets and tasks, in the order of the repository."""
    assert tuple(names.split()) == select_names(GRAPH, [selector])


def test_several_and_limited() -> None:
    """Selectors add up; limited to a job they choose nothing else."""
    assert ("raw_a", "raw_b", "stg_a") == select_names(GRAPH, ["+stg_a", "raw_b"])
    assert ("raw_a", "stg_a") == select_names(GRAPH, ["raw_a+"], ("stg_a", "raw_a"))


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("stg_b", "no asset 'stg_b' in the repository; did you mean 'stg_a'?"),
        ("x*", "no asset matches 'x*'"),
        ("+", "invalid selector '+': expected a name, a pattern, group:NAME or tag:NAME"),
        ("", "invalid selector ''"),
        ("a,,b", "no asset 'a'"),
        ("tag:dayly", "no asset with the tag 'dayly'; did you mean 'daily'?"),
        ("group:row", "no asset of the group 'row'; did you mean 'raw'?"),
        (
            "grup:raw",
            "invalid selector 'grup:raw': expected group:NAME or tag:NAME before the colon; did you mean 'group'?",
        ),
    ],
)
def test_refused(selector: str, message: str) -> None:
    """A selector that chooses nothing is refused, with the closest name."""
    with pytest.raises(DefinitionError) as caught:
        select_names(GRAPH, [selector])
    assert caught.value.message.startswith(message)


def test_outside_a_job() -> None:
    """A name that is not part of the job is refused."""
    with pytest.raises(DefinitionError, match="'report' is not part of the job"):
        select_names(GRAPH, ["report"], ("stg_a",))
