"""A stand-in for a worker's server: forks a child for each way to leave something behind, and cleans up after it.

    python clean_up_process.py WAY…

Notes the reason and the seconds of each clean-up as one line of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "user_code"))

import leaves_behind

from rivers_process import prctl
from rivers_worker.clean_up import CleanUp

prctl.forbid_inspection()
prctl.adopt_orphans()
kept = subprocess.Popen([*leaves_behind.SLEEP, "fork_server"], start_new_session=True)
clean_up = CleanUp([leaves_behind.SCRATCH], lambda: [kept.pid])
for way in sys.argv[1:]:
    child = os.fork()
    if child == 0:
        os.setsid()
        os.chdir(leaves_behind.SCRATCH / "cwd")
        getattr(leaves_behind, way)()
        os._exit(0)
    os.waitpid(child, 0)
    began = time.monotonic()
    reason = clean_up.run(began + 5.0)
    with open(os.environ["RIVERS_TEST_NOTES"], "a") as notes:
        notes.write(json.dumps([way, reason, time.monotonic() - began]) + "\n")
kept.kill()
kept.wait()
