"""Controllers of a real cluster that are killed at any moment: a resumed run ends with the same values.

RIVERS_TEST_SEED chooses other moments, RIVERS_TEST_MOMENTS their number.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from namespaces import Namespace
from real_runs import NEEDS_IMAGE, account

pytestmark = [NEEDS_IMAGE, pytest.mark.timeout(14400)]

SCRIPT = Path(__file__).resolve().parents[4] / "tests/durable/random_kills.py"


def kill_at_random(folder: Path, namespace: Namespace, executor: str, moments: str) -> str:
    """Return the report about so many kills; nothing was wrong after any of them."""
    namespace.make("serviceaccounts", account)
    settings = ["--moments", moments, "--elements", "3", "--seed", os.environ.get("RIVERS_TEST_SEED", "1")]
    done = subprocess.run(
        [sys.executable, str(SCRIPT), str(folder), executor, *settings, "--store", os.environ["RIVERS_TEST_STORE"]],
        env={**os.environ, "RIVERS_TEST_NAMESPACE": namespace.name},
        capture_output=True,
        text=True,
        timeout=14000,
        check=False,
    )
    assert (0, "") == (done.returncode, done.stderr), done.stdout + done.stderr
    return done.stdout


def test_random_kills(namespace: Namespace, tmp_path: Path) -> None:
    """Killed at a few moments, a run ends with the values of a whole one; neither pods nor Leases are left.

    No body that had committed is submitted again, and no attempt id is given twice.
    """
    print(kill_at_random(tmp_path, namespace, "kubernetes_warm", "2"))


@pytest.mark.long
@pytest.mark.parametrize("executor", ["kubernetes", "kubernetes_warm"])
def test_many_random_kills(namespace: Namespace, tmp_path: Path, executor: str) -> None:
    """The same at many moments."""
    print(kill_at_random(tmp_path, namespace, executor, os.environ.get("RIVERS_TEST_MOMENTS", "150")))
