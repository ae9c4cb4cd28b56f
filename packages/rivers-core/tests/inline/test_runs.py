"""Runs whose small values travel in specs and results, as no store reaches the steps."""

from __future__ import annotations

from typing import Any

import pytest
from far import Far, FarBackend

import rivers as rs

HERE = {"rivers/executor": "in_process"}


@pytest.mark.parametrize("is_protobuf", [False, True])
def test_chain(is_protobuf: bool) -> None:
    @rs.Asset
    def orders() -> dict[str, Any]:
        return {"a": (1, 2), "b": {3}}

    @rs.Asset(metadata=HERE)
    def here(orders: dict[str, Any]) -> int:
        return len(orders)

    @rs.Asset
    def total(orders: dict[str, Any], here: int) -> Any:
        return [orders, here]

    repo = rs.CodeRepository([orders, here, total], default_executor=Far(is_protobuf=is_protobuf))
    result = repo.materialize()
    assert "far away" == result.steps["total"].worker
    assert [{"a": (1, 2), "b": {3}}, 2] == repo.load_node("total")
    assert () == result.steps["orders"].outputs[0].values


def test_fan_out() -> None:
    @rs.Asset
    def orders() -> list[int]:
        return [1, 2, 3]

    @rs.Task
    def double(n: int) -> dict[str, int]:
        return {"n": 2 * n}

    @rs.Task
    def added(numbers: list[dict[str, int]]) -> int:
        return sum(one["n"] for one in numbers)

    @rs.Task
    def streamed(numbers: Any) -> list[int]:
        return sorted(one["n"] for one in numbers)

    @rs.Asset.from_graph
    def sales(orders):  # type: ignore[no-untyped-def]
        return added(orders.map(double).collect())

    @rs.Asset.from_graph
    def live(orders):  # type: ignore[no-untyped-def]
        return streamed(orders.map(double).collect_stream())

    repo = rs.CodeRepository([orders, sales, live], default_executor=Far())
    print(repo.plan())
    result = repo.materialize()
    assert 12 == repo.load_node("sales")
    assert [2, 4, 6] == repo.load_node("live")
    assert {"n": 4} == repo.load_node("sales/double[1]")
    print(FarBackend.seen, result.steps.keys())
