"""Tests of the semantic cases of rivers-core in pods of a FakeCluster: results are those of this process.

The pods are real worker processes that speak gRPC with mutual TLS. The same cases run on a real cluster in
tests/cluster/test_parity_real.py.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import rivers as rs
from rivers_k8s_testing import FakeCluster

CORE_TESTS = Path(__file__).parents[2] / "rivers-core" / "tests"
sys.path += [str(CORE_TESTS), str(Path(__file__).parent / "user_code")]

from anywhere import SharedFolder  # noqa: E402 - found by the line above
from running.cases import CASES, Case  # noqa: E402
from running.outcome import CaseOutcome  # noqa: E402
from running.shared import files  # noqa: E402

PODS = rs.Executor.kubernetes("test:1")
WARM = rs.Executor.kubernetes("test:1", worker_reuse="run")
LOT, AT_ONCE = 6, 3


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[FakeCluster]:
    with FakeCluster() as cluster, pytest.MonkeyPatch.context() as patch:
        patch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        yield cluster


def differences(case: Case, pods: rs.Executor, folder: Path) -> list[str]:
    """What is different between a case here and in pods, a line each."""
    here = CaseOutcome(case, rs.Executor.in_process(), default_io_handler=SharedFolder(folder / "here"))
    there = CaseOutcome(case, pods, default_io_handler=SharedFolder(folder / "there"))
    return [
        f"{case.name}: {what}: {getattr(here, what)} and {getattr(there, what)}"
        for what in ("steps", "values", "events", "logs")
        if getattr(here, what) != getattr(there, what)
    ]


# Half of them are enough for every change; what they are of is spread over all lots.
LOTS = [
    pytest.param(start, marks=[pytest.mark.long] if start // LOT % 4 > 1 else []) for start in range(0, len(CASES), LOT)
]


@pytest.mark.parametrize("start", LOTS)
def test_cases(start: int, tmp_path: Path, cluster: FakeCluster) -> None:
    """States, values, failures and the sequence of events of every step are those of the in-process executor.

    Every second lot runs on warm workers. Some cases at once, as most of a case is waiting for processes.
    """
    lot = CASES[start : start + LOT]
    pods = WARM if start // LOT % 2 else PODS
    with ThreadPoolExecutor(AT_ONCE) as threads:
        found = threads.map(
            lambda at: differences(lot[at], pods, tmp_path / str(at)),
            range(len(lot)),
        )

    assert [] == [line for lines in found for line in lines]
    assert [] == cluster.pods()


def test_own_io_handler(tmp_path: Path) -> None:
    """A handler of the user's own stores in a pod and loads in another, is found by a resource's name."""
    for name in ("here", "there", "other"):
        (tmp_path / name).mkdir()
    here = CaseOutcome(files(tmp_path / "here"), rs.Executor.in_process())
    there = CaseOutcome(files(tmp_path / "there"), PODS, default_io_handler=SharedFolder(tmp_path / "other"))

    assert here.steps == there.steps
    assert here.values == there.values
