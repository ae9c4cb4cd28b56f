"""Assets whose worker ends without a word while processes that they have started go on."""

from __future__ import annotations

import os
import signal
import time

from worker_hangs import start_sleepers
from worker_steps import note

import rivers as rs


@rs.Asset(io_handler="store")
def orphans_its_own() -> int:
    note(" ".join(map(str, start_sleepers())))
    os.kill(os.getpid(), signal.SIGKILL)
    return 1


@rs.Asset(io_handler="store")
def sleeps_beside_its_own() -> int:
    note(" ".join(map(str, start_sleepers())))
    time.sleep(600)
    return 1
