"""Values that travel in specs and results, in a cluster without any storage."""

from __future__ import annotations

from collections.abc import Callable

import inline_steps

import rivers as rs
from rivers_k8s_testing import FakeCluster

Pods = Callable[..., rs.Executor]


def test_no_bucket(fake: FakeCluster, pods: Pods) -> None:
    """A fan-out of small dicts, multi-assets, and steps in this process and on this machine need no bucket."""
    names = ("shops", "totals", "names", "parted", "beside", "here", "both")
    assets = [getattr(inline_steps, name) for name in names]
    with rs.CodeRepository(assets, default_executor=pods(inline_values=True)) as repo:
        result = repo.materialize()

        assert {"north": 7, "south": 7, "east": 7} == repo.load_node("totals")
        assert ["east", "north", "south"] == sorted(repo.load_node("names"))
        assert (7, {"north", "south", "east"}) == (repo.load_node("low"), repo.load_node("high"))
        assert [(7, ["east", "north", "south"]), 8] == repo.load_node("both")
        assert {"kubernetes", "parallel", "in_process"} == {step.executor for step in result.steps.values()}

        # A later run loads what an earlier one has stored.
        again = repo.materialize(["parted", "both"])
        assert again.success
