"""A module whose first step is handed over while it is still being imported."""

from __future__ import annotations

import asyncio
import os
import time

from worker_steps import note

import rivers as rs
from rivers_process.processes import child_processes, command_line

time.sleep(0.5 if "RIVERS_PARALLEL_WORKER" in os.environ else 0.0)


@rs.Asset
async def until_a_worker_is_there() -> bool:
    """Return whether a worker is started while this runs in the controller."""
    for _ in range(1000):
        if any("rivers-worker" in command_line(child.pid) for child in child_processes(os.getpid())):
            return True
        await asyncio.sleep(0.01)
    return False


@rs.Asset
def first() -> int:
    note("first")
    return 1


@rs.Asset
def after_a_worker(until_a_worker_is_there: bool) -> bool:
    return until_a_worker_is_there
