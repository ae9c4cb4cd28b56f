"""The step of warm workers: it looks for what another attempt has left, and leaves something behind itself."""

from __future__ import annotations

import os
import random
import subprocess
import time
from pathlib import Path

import journal

__all__ = ["SCRATCH", "step"]

SCRATCH = "RIVERS_TORTURE_SCRATCH"
"""The environment variable with a worker's scratch folder."""
LONGEST = 0.04
"""Seconds that a step sleeps at most."""
DAEMONS = 0.1
"""The share of attempts that start a process which goes on."""


def step(name: str, attempt_id: str) -> None:
    """Run one attempt."""
    journal.write("begin", "warm", name, attempt_id)
    scratch = Path(os.environ[SCRATCH])
    found = os.listdir(scratch)
    if found:
        raise RuntimeError(f"another attempt has left {found}")
    (scratch / attempt_id).mkdir()
    draw = random.Random(attempt_id)
    if draw.random() < DAEMONS:
        subprocess.Popen(["sleep", "600"], start_new_session=True, cwd=scratch / attempt_id)
    time.sleep(draw.uniform(0.0, LONGEST))
    journal.write("end", "warm", name, attempt_id)
