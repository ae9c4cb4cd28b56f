"""For authors of executors: the interface that core calls, and what it hands over."""

from rivers._definitions.executor import usable_cpus
from rivers._executor.backend import Capabilities, ExecutorBackend, Run, Sink
from rivers._io.base import Reach
from rivers._runner.runner import Runner

__all__ = ["Capabilities", "ExecutorBackend", "Reach", "Run", "Runner", "Sink", "usable_cpus"]
