"""A controller to be killed: runs its pipeline in pods until it is dismissed, then closes.

`python torture/pod_controller.py FOLDER SEED RUNS`; the cluster is the one that KUBECONFIG names.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pods

KEYS, SINGLES = 2, 2
ORPHAN_TTL = 2.0

if __name__ == "__main__":
    folder, seed, runs = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    with pods.repository(folder, seed, KEYS, SINGLES, max_concurrent_steps=4, orphan_ttl=ORPHAN_TTL, grace=1.0) as repo:
        for _ in range(runs):
            repo.materialize()
