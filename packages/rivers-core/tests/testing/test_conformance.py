"""The laws of the conformance kit on the executor in this process, all of them."""

from __future__ import annotations

import rivers as rs
from rivers.testing import ExecutorConformance


class TestInProcess(ExecutorConformance):
    executor = rs.Executor.in_process()
    tier = "full"
