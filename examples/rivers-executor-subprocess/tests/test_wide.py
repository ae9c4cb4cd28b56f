"""Steps with many inputs and groups with many instances, in processes of their own."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from rivers_executor_subprocess import SubprocessExecutor

import rivers as rs

sys.path.append(str(Path(__file__).parents[3] / "packages" / "rivers-core" / "tests"))

from running import wide


@pytest.mark.long
@pytest.mark.timeout(180)  # hundreds of processes, on a machine that may be busy
def test_many() -> None:
    """A process takes 10,000 inputs, others collect and stream 1,200 instances."""
    executor = SubprocessExecutor(max_workers=2)
    with rs.CodeRepository([*wide.parts(10_000), wide.joined, *wide.GROUPS], default_executor=executor) as repo:
        repo.materialize()

        for name in ("joined", *(asset.name for asset in wide.GROUPS)):
            assert wide.EXPECTED[name] == repo.load_node(name)
