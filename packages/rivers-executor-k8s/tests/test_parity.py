"""The semantic cases of rivers-core, in this process and in pods of a FakeCluster: nothing tells the difference.

The pods are real worker processes that speak gRPC with mutual TLS. The same cases run on a real cluster in
tests/cluster/test_parity_real.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import rivers as rs
from rivers_executor_k8s.testing import FakeCluster

CORE_TESTS = Path(__file__).parents[2] / "rivers-core" / "tests"
sys.path += [str(CORE_TESTS), str(Path(__file__).parent / "user_code")]

from anywhere import SharedFolder  # noqa: E402 - found by the line above
from running.cases import CASES, Case  # noqa: E402
from running.shared import files  # noqa: E402
from running.told import Told  # noqa: E402

PODS = rs.Executor.kubernetes("test:1")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as cluster, pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        yield cluster


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case: Case, tmp_path: Path, cluster: FakeCluster) -> None:
    """States, values, failures and the sequence of events of every step are those of the in-process executor."""
    here = Told(case, rs.Executor.in_process(), default_io_handler=SharedFolder(tmp_path / "here"))
    there = Told(case, PODS, default_io_handler=SharedFolder(tmp_path / "there"))

    assert here.steps == there.steps
    assert here.values == there.values
    assert here.events == there.events
    assert here.logs == there.logs
    assert [] == cluster.pods()


def test_own_io_handler(tmp_path: Path) -> None:
    """A handler of the user's own stores in a pod and loads in another, is found by a resource's name."""
    for name in ("here", "there", "other"):
        (tmp_path / name).mkdir()
    here = Told(files(tmp_path / "here"), rs.Executor.in_process())
    there = Told(files(tmp_path / "there"), PODS, default_io_handler=SharedFolder(tmp_path / "other"))

    assert here.steps == there.steps
    assert here.values == there.values
