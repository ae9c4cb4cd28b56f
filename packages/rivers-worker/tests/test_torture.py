"""A short form of `nox -s torture`: random SIGKILLs of warm workers and of their children, with a fixed seed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TORTURE = Path(__file__).resolve().parents[3] / "torture"


@pytest.mark.long
@pytest.mark.timeout(600)  # six starts of workers, on a machine that may be busy
def test_killed_warm_workers() -> None:
    """3 kills over 20 steps: all succeed, no attempt runs twice, only attempts that were hit fail, nothing is left."""
    counts = ("--steps", "20", "--workers", "2", "--children", "2", "--servers", "1")
    command = [sys.executable, str(TORTURE / "kill_warm_workers.py"), "--seed", "1", *counts]
    ended = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)

    assert 0 == ended.returncode, f"{ended.stdout}{ended.stderr}"
