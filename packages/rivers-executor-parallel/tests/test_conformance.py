"""The laws of the conformance kit, all of them."""

from __future__ import annotations

import rivers as rs
from rivers.testing import ExecutorConformance


class TestParallel(ExecutorConformance):
    executor = rs.Executor.parallel(max_workers=2)
    tier = "full"
