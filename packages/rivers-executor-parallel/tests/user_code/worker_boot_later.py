"""A module that only a later step needs."""

from __future__ import annotations

import os

from worker_steps import note

import rivers as rs

if "RIVERS_PARALLEL_WORKER" in os.environ:
    note("later is imported")


@rs.Asset
def later(first: int) -> int:
    return first + 1
