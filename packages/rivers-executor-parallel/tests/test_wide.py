"""Steps with many inputs and groups with many instances, in workers."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import wide

import rivers as rs
from rivers.exceptions import GraphValidationError


def repository(*assets: rs.Asset, handler: rs.BaseIOHandler | None = None) -> rs.CodeRepository:
    executor = rs.Executor.parallel(max_workers=2)
    return rs.CodeRepository(list(assets), default_executor=executor, default_io_handler=handler)


def test_many_inputs() -> None:
    """An asset with 10,000 inputs runs in a worker."""
    with repository(*wide.parts(10_000), wide.joined) as repo:
        result = repo.materialize()

        assert "parallel" == result.steps["joined"].executor
        assert wide.EXPECTED["joined"] == repo.load_node("joined")


def test_many_instances() -> None:
    """Groups of 1,200 are collected, streamed and mapped again."""
    with repository(*wide.GROUPS) as repo:
        repo.materialize()

        for asset in wide.GROUPS:
            assert wide.EXPECTED[asset.name] == repo.load_node(asset.name)


def test_more_instances_than_values() -> None:
    """A worker collects 21,000 instances with mapping keys of the user's; a spec had 20,000 values at most."""
    with repository(wide.huge) as repo:
        repo.materialize()

        assert wide.EXPECTED["huge"] == repo.load_node("huge")


def test_keys_that_no_store_has(tmp_path: Path) -> None:
    """A handler that is not atomic stores no mapping keys: they are in the spec."""
    with repository(*wide.GROUPS, handler=wide.PlainFiles(folder=str(tmp_path))) as repo:
        repo.materialize()

        for asset in wide.GROUPS:
            assert wide.EXPECTED[asset.name] == repo.load_node(asset.name)


@pytest.mark.parametrize(
    ("asset", "problem"),
    [
        (wide.too_many, "invalid inputs=<tuple of 10001>"),
        (rs.Asset(wide.seven, name="labelled", metadata={"label": "x" * 300_000}), "metadata"),
    ],
    ids=["inputs", "metadata"],
)
def test_too_large_before_the_run(asset: rs.Asset, problem: str) -> None:
    """A step too large for a worker refuses the run with its name and the field; nothing has run."""
    events = rs.ListSink()
    with repository(*wide.parts(10_001), asset) as repo, pytest.raises(GraphValidationError) as raised:
        repo.materialize(on_event=events)

    assert f"asset {asset.name!r}" in str(raised.value)
    assert problem in str(raised.value)
    assert [] == events.events
