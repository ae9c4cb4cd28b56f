"""Fixtures: without a Slurm that answers, its tests skip and say so."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
for path in (HERE, HERE / "user_code"):
    if str(path) not in sys.path:
        sys.path.insert(0, str(path))

from real_slurm import Cluster, no_slurm, slurm  # noqa: E402 - found by the line above


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    if (reason := no_slurm()) is not None:
        pytest.skip(reason)
    found = Cluster(tmp_path)
    yield found
    if found.queue:
        slurm("scancel", *(line.split()[0] for line in found.queue))


@pytest.fixture
def breakable(cluster: Cluster) -> Iterator[Cluster]:
    """A Slurm whose daemons and nodes a test may stop; RIVERS_TEST_SLURM=breakable allows that."""
    if os.environ.get("RIVERS_TEST_SLURM") != "breakable":
        pytest.skip("RIVERS_TEST_SLURM=breakable does not allow to stop daemons of this Slurm")
    return cluster
