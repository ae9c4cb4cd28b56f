"""The laws of the conformance kit: this file is all that an executor's author writes to have it judged."""

from __future__ import annotations

from rivers_executor_subprocess import SubprocessExecutor

from rivers.testing import ExecutorConformance


class TestSubprocess(ExecutorConformance):
    executor = SubprocessExecutor(max_workers=2)
