"""Drawings of a plan."""

from __future__ import annotations

import json

import rivers as rs
from rivers._plan.render import plan_to_data, plan_to_dot, plan_to_text


@rs.Asset
def numbers() -> list[int]:
    return [1]


@rs.Task
def split(numbers: list[int]) -> list[rs.DynamicOutput]:
    return []


@rs.Task
def twice(part: int) -> int:
    return part


@rs.Task
def add(parts: list[int]) -> int:
    return 0


@rs.Asset.from_graph
def total(numbers: list[int]) -> object:
    return add(split(numbers).map(twice).collect())


@rs.Asset(name='a "quoted" <name>#', metadata={"rivers/executor": "parallel"}, deps=[numbers])
def quoted() -> None: ...


PLAN = rs.CodeRepository([numbers, total, quoted], executors={"parallel": rs.Executor.parallel(2)}).plan()


def test_mermaid() -> None:
    """A flowchart has each step, each edge, graph assets as frames, mapped steps apart, a colour for each executor."""
    assert PLAN.to_mermaid().splitlines() == [
        "flowchart LR",
        '  s0["numbers"]',
        '  s2["a #quot;quoted#quot; #lt;name#gt;#35;"]',
        '  subgraph g1["total"]',
        '    s1["split"]',
        '    s3[["twice × n"]]',
        '    s4["add"]',
        "  end",
        "  s0 --> s1",
        "  s0 --> s2",
        "  s1 --> s3",
        "  s3 --> s4",
        "  classDef in_process0 fill:#e3f2fd,stroke:#546e7a,color:#263238",
        "  class s0,s1,s3,s4 in_process0",
        "  classDef parallel1 fill:#e8f5e9,stroke:#546e7a,color:#263238",
        "  class s2 parallel1",
    ]


def test_dot() -> None:
    """A graph for Graphviz has the same steps and edges, with quotes escaped."""
    lines = plan_to_dot(PLAN.steps, PLAN.executors).splitlines()

    assert (
        r'  s2 [label="a \"quoted\" <name>#", fillcolor="#e8f5e9", tooltip="Executor.Parallel(max_workers=2)"];'
        in lines
    )
    assert '  subgraph cluster_1 { label="total";' in lines
    assert ["  s0 -> s1;", "  s0 -> s2;", "  s1 -> s3;", "  s3 -> s4;", "}"] == lines[-5:]


def test_text() -> None:
    """Text has levels and batches, wrapped to the width."""
    assert plan_to_text(PLAN.steps, PLAN.executors).splitlines() == [
        "5 steps in 4 levels",
        "level 0  Executor.InProcess()  1 step",
        "  numbers",
        "level 1  Executor.InProcess()  1 step",
        "  total/split",
        "level 1  Executor.Parallel(max_workers=2)  1 step",
        '  a "quoted" <name>#',
        "level 2  Executor.InProcess()  1 step",
        "  total/twice[…]",
        "level 3  Executor.InProcess()  1 step",
        "  total/add",
    ]
    assert "no steps" == plan_to_text((), ())


def test_data() -> None:
    """Data for JSON names steps by their keys."""
    data = json.loads(json.dumps(plan_to_data(PLAN.steps, PLAN.executors)))

    assert ["total/split"] == data["steps"][3]["deps"]
    assert "total/split" == data["steps"][3]["mapped_over"]
    assert 1 == data["steps"][2]["executor"]
    assert {"kind": "parallel", "text": "Executor.Parallel(max_workers=2)"} == data["executors"][1]
