"""The conformance kit on pods of a FakeCluster: real worker processes that speak gRPC with mutual TLS.

The semantic cases run on a real cluster in tests/cluster/test_parity_real.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from anywhere import SharedFolder

import rivers as rs
from rivers.testing import ExecutorConformance
from rivers.testing.conformance.cases.outcome import CaseOutcome
from rivers.testing.conformance.cases.shared import files
from rivers_k8s_testing import FakeCluster

ORPHAN_TTL = 5.0
PODS = rs.Executor.kubernetes("test:1", max_concurrent_steps=2, orphan_ttl=ORPHAN_TTL)


class OnFakeCluster(ExecutorConformance):
    executor = PODS
    # A worker notices within the lifetime, and the grace of its body follows.
    orphans_end_within = ORPHAN_TTL + 15.0
    cluster: FakeCluster

    @contextlib.contextmanager
    def start_service(self) -> Iterator[None]:
        with FakeCluster() as self.cluster, pytest.MonkeyPatch.context() as patch:
            patch.setenv("KUBECONFIG", str(self.cluster.kubeconfig))
            yield

    def leftovers(self) -> list[str]:
        return [pod["metadata"]["name"] for pod in self.cluster.pods()]

    def orphans(self) -> list[str]:
        # Nobody is left to delete the objects: the next run of any controller does.
        running = [pod for pod in self.cluster.pods() if pod["status"]["phase"] == "Running"]
        return [pod["metadata"]["name"] for pod in running]

    def io_handler(self, tmp_path: Path) -> rs.BaseIOHandler:
        return SharedFolder(tmp_path)


class TestPods(OnFakeCluster):
    """A pod for each attempt."""


@pytest.mark.long
class TestWarmPods(OnFakeCluster):
    """Pods that serve one attempt after the other."""

    executor = rs.Executor.kubernetes("test:1", max_concurrent_steps=2, worker_reuse="run", orphan_ttl=ORPHAN_TTL)


@pytest.mark.long
class TestPodsAtLength(OnFakeCluster):
    """Every law and case."""

    tier = "full"
    expected_failures = {"out-of-memory": "FakeCluster limits no memory"}


def test_own_io_handler(tmp_path: Path) -> None:
    """A handler of the user's own stores in a pod and loads in another, is found by a resource's name."""
    for name in ("here", "there", "other"):
        (tmp_path / name).mkdir()
    here = CaseOutcome(files(tmp_path / "here"), rs.Executor.in_process())
    with FakeCluster() as cluster, pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        there = CaseOutcome(files(tmp_path / "there"), PODS, default_io_handler=SharedFolder(tmp_path / "other"))

    assert [] == there.differences(files(tmp_path), here)
