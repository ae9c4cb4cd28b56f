"""Tests of reaping inherited children while another thread waits for some of them."""

from __future__ import annotations

import subprocess
import sys

RACE = """
import os, subprocess, sys, threading
from rivers_worker.orphans import reap_until

for _ in range(200):
    last = subprocess.Popen(["sleep", "60"])
    failed = []
    threading.excepthook = failed.append
    reaper = threading.Thread(target=reap_until, args=(last.pid,))
    reaper.start()
    others = [subprocess.Popen(["true"]) for _ in range(3)]
    for other in others:
        other.wait()
    last.kill()
    reaper.join(20)
    last.wait()
    if failed or reaper.is_alive():
        sys.exit(f"the reaper has ended with {failed}")
"""


def test_a_child_that_another_thread_waits_for() -> None:
    """Whoever of two threads comes first has it; neither fails."""
    done = subprocess.run([sys.executable, "-c", RACE], check=False, capture_output=True, text=True, timeout=60)

    assert "" == done.stderr
    assert 0 == done.returncode
