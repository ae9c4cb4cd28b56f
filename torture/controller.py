"""A controller to be killed: runs the pipeline until it is dismissed, then closes.

`python torture/controller.py FOLDER RUNS` says `closed` at its end; the folder, the seed and the rest of the
surroundings come from the environment, as `kill_workers.prepared` has made them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import work

KEYS = 20
SINGLES = 20

if __name__ == "__main__":
    with work.repository(Path(sys.argv[1]), KEYS, SINGLES, 2) as repo:
        for _ in range(int(sys.argv[2])):
            repo.materialize()
