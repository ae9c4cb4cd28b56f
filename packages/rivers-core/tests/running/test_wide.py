"""Steps with many inputs and groups with many instances, in this process."""

from __future__ import annotations

from running import wide

import rivers as rs


def test_many_inputs() -> None:
    """An asset takes 10,000 inputs, and in this process more."""
    with rs.CodeRepository([*wide.parts(10_001), wide.joined, wide.too_many]) as repo:
        repo.materialize()

        assert wide.EXPECTED["joined"] == repo.load_node("joined")
        assert (70_007, 10_001) == repo.load_node("too_many")


def test_many_instances() -> None:
    """Groups of 1,200 are collected, streamed and mapped again."""
    with rs.CodeRepository(wide.GROUPS) as repo:
        repo.materialize()

        for asset in wide.GROUPS:
            assert wide.EXPECTED[asset.name] == repo.load_node(asset.name)
