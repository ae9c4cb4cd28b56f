"""Steps with many inputs and groups with many instances, in pods."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator

import pytest
from anywhere import SharedFolder
from running import wide

import rivers as rs
from rivers_k8s_testing import FakeCluster


@pytest.fixture
def store() -> Iterator[SharedFolder]:
    """A folder in memory, where 10,000 durable writes take seconds and not minutes."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        yield SharedFolder(folder)


def test_many(fake: FakeCluster, repository: Callable[..., rs.CodeRepository]) -> None:
    """A pod takes 10,000 inputs, whose spec fits into a worker's message, and another one collects 1,200 instances."""
    repo = repository(*wide.parts(10_000), wide.joined, wide.collected)
    result = repo.materialize()

    assert {"kubernetes"} == {result.steps[key].executor for key in ("joined", "collected/listed")}
    for name in ("joined", "collected"):
        assert wide.EXPECTED[name] == repo.load_node(name)
