"""A short form of `nox -s torture`: pods that end at random under an API that fails, and killed controllers."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TORTURE = Path(__file__).resolve().parents[3] / "torture"

pytestmark = [pytest.mark.timeout(240), pytest.mark.long]


def verdict(script: str, *arguments: str) -> str:
    """What a script has found wrong; it runs in a process of its own, as it judges what is left behind in that."""
    command = [sys.executable, str(TORTURE / script), *arguments]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return "" if ended.returncode == 0 else f"{ended.stdout}{ended.stderr}"


def test_killed_pods() -> None:
    """A fifth of all requests fails and 15 pods are disturbed: all steps succeed, one pod each, nothing is left."""
    assert "" == verdict("kill_pods.py", "--seed", "1", "--runs", "1", "--kills", "15")


def test_killed_controllers() -> None:
    """Of a killed controller nothing runs `orphan_ttl` later, and the next sweep leaves no pod and no lease."""
    assert "" == verdict("kill_pod_controllers.py", "--seed", "1", "--kills", "2")
