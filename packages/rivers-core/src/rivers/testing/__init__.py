"""Tests of executors by the laws of the conformance kit, and an executor that ends steps by script."""

from rivers.testing.executor_conformance import ExecutorConformance
from rivers.testing.scripted import Act, Attempt, Script, ScriptedBackend, ScriptedExecutor

__all__ = ["Act", "Attempt", "ExecutorConformance", "Script", "ScriptedBackend", "ScriptedExecutor"]
