"""Controllers that are killed at any moment, on each executor: a resumed run ends with the same values.

RIVERS_TEST_SEED chooses other moments than those of the test's name.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from rivers_k8s_testing import FakeCluster

SCRIPT = Path(__file__).with_name("random_kills.py")
USER_CODE = Path(__file__).resolve().parents[2] / "packages/rivers-executor-k8s/tests/user_code"
ELEMENTS = {"in_process": 30, "parallel": 30, "subprocess": 2, "kubernetes": 2, "kubernetes_warm": 3}
ELEMENTS |= {"kubernetes_durable": 2, "kubernetes_warm_durable": 3}
PODS = ("kubernetes", "kubernetes_warm")
DURABLE = ("kubernetes_durable", "kubernetes_warm_durable")
AT_ONCE = 4
"""Runs in pods at once: whoever resumes one waits 15 s for the Lease of the controller that was killed."""


def kill_at_random(folder: Path, executor: str, moments: int, seed: str, timeout: float) -> str:
    """Return the report about so many kills; nothing was wrong after any of them."""
    path = os.pathsep.join(filter(None, (str(USER_CODE), os.environ.get("PYTHONPATH"))))
    settings = ["--moments", str(moments), "--elements", str(ELEMENTS[executor]), "--seed", seed]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), executor, *settings],
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stderr), done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeCluster]:
    """A FakeCluster whose pods find the bodies, and whose pods and processes have gone in the end."""
    with FakeCluster(env={"PYTHONPATH": str(USER_CODE)}) as cluster:
        monkeypatch.setenv("KUBECONFIG", str(cluster.kubeconfig))
        yield cluster
        assert [] == [pod["metadata"]["name"] for pod in cluster.pods()]


@pytest.mark.timeout(400)
@pytest.mark.parametrize("executor", ["in_process", "parallel", "subprocess"])
def test_random_kills(executor: str, tmp_path: Path) -> None:
    """Killed up to three times at random moments, a run ends with the values of a whole one, and leaves nothing.

    No body that had committed runs again, and no attempt id is given twice.
    """
    seed = os.environ.get("RIVERS_TEST_SEED", "1")
    print(kill_at_random(tmp_path / "runs", executor, 4, seed, 380))


@pytest.mark.timeout(400)
def test_random_kills_with_pods(fake: FakeCluster, tmp_path: Path) -> None:
    """The same with steps in pods; neither pods nor Leases are left."""
    seed = os.environ.get("RIVERS_TEST_SEED", "1")
    print(kill_at_random(tmp_path / "runs", "kubernetes_warm", 2, seed, 380))


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("executor", ["in_process", "parallel", "subprocess"])
def test_300_random_kills(executor: str, tmp_path: Path) -> None:
    """The same at 300 moments."""
    seed = os.environ.get("RIVERS_TEST_SEED", "300")
    print(kill_at_random(tmp_path / "runs", executor, 300, seed, 7000))


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_300_random_kills_with_pods(fake: FakeCluster, tmp_path: Path) -> None:
    """The same at 300 moments with steps in pods: one for each attempt, and some that are used in turn."""
    seed = os.environ.get("RIVERS_TEST_SEED", "300")
    with ThreadPoolExecutor(AT_ONCE) as threads:
        running = [
            threads.submit(kill_at_random, tmp_path / f"{part}", PODS[part % 2], 300 // AT_ONCE, f"{seed} {part}", 7000)
            for part in range(AT_ONCE)
        ]
        print("".join(future.result() for future in running))


@pytest.mark.long
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("executor", DURABLE)
def test_random_kills_of_durable_runs(fake: FakeCluster, tmp_path: Path, executor: str) -> None:
    """Whatever runs is adopted, so that each body runs once, however often its controllers are killed."""
    seed = os.environ.get("RIVERS_TEST_SEED", "20")
    print(kill_at_random(tmp_path / "runs", executor, 20, seed, 7000))
