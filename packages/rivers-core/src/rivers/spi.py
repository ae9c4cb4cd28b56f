"""For authors of executors: the interface that core calls, and what it hands over."""

from rivers._definitions.arguments import check_count, check_flag, check_seconds, check_text
from rivers._definitions.compute import check_memory, parse_quantity
from rivers._definitions.cpus import usable_cpus
from rivers._definitions.executor import Executor
from rivers._definitions.kubernetes.pod_template import check_pod_template
from rivers._definitions.settings import check_environment, check_worker_reuse
from rivers._executor.backend import SPI_VERSION, Capabilities, ExecutorBackend, OpenAttempt, Run, Sink
from rivers._io.base import Reach
from rivers._runner.async_runner import AsyncRunner
from rivers._runner.results import interrupted_result, unsendable_result, warning_record
from rivers._runner.runner import Runner
from rivers._runner.step_process import StepProcess
from rivers.protocol.result import StreamRecord

__all__ = [
    "SPI_VERSION",
    "AsyncRunner",
    "Capabilities",
    "Executor",
    "ExecutorBackend",
    "OpenAttempt",
    "Reach",
    "Run",
    "Runner",
    "Sink",
    "StepProcess",
    "StreamRecord",
    "check_count",
    "check_environment",
    "check_flag",
    "check_memory",
    "check_pod_template",
    "check_seconds",
    "check_text",
    "check_worker_reuse",
    "interrupted_result",
    "parse_quantity",
    "unsendable_result",
    "usable_cpus",
    "warning_record",
]
