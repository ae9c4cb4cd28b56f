"""Values that travel in specs and results, in a cluster without any storage."""

from __future__ import annotations

from collections.abc import Callable

import inline_steps

import rivers as rs
from rivers_k8s_testing import FakeCluster


def test_no_bucket(fake: FakeCluster, pods: Callable[..., rs.Executor]) -> None:
    """A fan-out of small dicts and a multi-asset in pods, and steps on this machine in between, need no bucket."""
    names = ("shops", "totals", "parted", "beside", "here", "both")
    assets = [getattr(inline_steps, name) for name in names]
    with rs.CodeRepository(assets, default_executor=pods(inline_values=True)) as repo:
        result = repo.materialize()

        assert {"north": 7, "south": 7} == repo.load_node("totals")
        assert {"name": "south", "sales": (3, 4), "total": 7} == repo.load_node("totals/counted[1]")
        assert [(7, ["north", "south"]), 8] == repo.load_node("both")
        assert {"kubernetes", "parallel", "in_process"} == {step.executor for step in result.steps.values()}
        assert [] == fake.pods()
