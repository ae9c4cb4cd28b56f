"""The laws that every executor must keep: `pytest --rivers-tier full` runs the long ones, too."""

from __future__ import annotations

from rivers_executor_acme import AcmeExecutor

from rivers.testing import ExecutorConformance


class TestAcme(ExecutorConformance):
    executor = AcmeExecutor(max_workers=2)
