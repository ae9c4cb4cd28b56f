"""Controllers that are killed at a byte of their journal: whoever resumes the run ends with the same values."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

KILLS = Path(__file__).with_name("kills.py")


def kill_everywhere(folder: Path, start: int, step: int, kinds: str, timeout: float) -> int:
    """Return the number of bytes at which the controller was killed; nothing went wrong at any of them."""
    command = [sys.executable, str(KILLS), str(folder / "run"), str(start), str(step), kinds]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
    assert (0, "") == (done.returncode, done.stderr), done.stderr
    count, _ = done.stdout.split()
    return int(count)


@pytest.mark.parametrize("kinds", ["once", "twice"])
def test_kills_at_bytes_of_the_journal(kinds: str, tmp_path: Path) -> None:
    """Killed at every 241st byte, and with "twice" the one that resumes it, too: no body that had committed runs again.

    The values are those of a whole run, no attempt id is given twice, and nothing is left in the store.
    """
    assert 20 < kill_everywhere(tmp_path, 5, 241, kinds, 55)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_kills_at_every_byte_of_the_journal(tmp_path: Path) -> None:
    """The same at every byte; the process that resumes the run is killed at a random one."""
    assert 5000 < kill_everywhere(tmp_path, 1, 1, "twice", 3500)
