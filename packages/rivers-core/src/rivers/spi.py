"""For authors of executors: the interface that core calls, and what it hands over."""

from rivers._definitions.executor import Executor, usable_cpus
from rivers._executor.backend import Capabilities, ExecutorBackend, Run, Sink
from rivers._io.base import Reach
from rivers._io.cgroup import cgroup_folders, text_of_file
from rivers._runner.async_runner import AsyncRunner
from rivers._runner.runner import Runner

__all__ = [
    "AsyncRunner",
    "Capabilities",
    "Executor",
    "ExecutorBackend",
    "Reach",
    "Run",
    "Runner",
    "Sink",
    "cgroup_folders",
    "text_of_file",
    "usable_cpus",
]
