"""rivers: the execution layer for data assets.

`import rivers as rs`, then write functions, decorate them with `@rs.Asset`, put them into a `rs.CodeRepository` and
`materialize()` them: in this process, across the cores of this machine or as pods of a cluster.
"""

from rivers import events, exceptions, io_handlers, protocol, spi
from rivers._definitions.asset import Asset, ExternalAsset, GraphAsset, MultiAsset
from rivers._definitions.compute import Compute, ComputeEscalation
from rivers._definitions.context import AssetExecutionContext, TaskExecutionContext
from rivers._definitions.executor import Executor
from rivers._definitions.hook import Hook, HookContext
from rivers._definitions.job import Job
from rivers._definitions.output import AssetDef, DepDef, DynamicOutput, Output
from rivers._definitions.partitions import Partitions
from rivers._definitions.resource import Resource
from rivers._definitions.retry import Backoff, RetryOn, RetryPolicy
from rivers._definitions.task import BashTask, Task
from rivers._events.sink import JsonLinesSink, ListSink, LoggingSink
from rivers._io.base import BaseIOHandler
from rivers._io.context import InputContext, OutputContext
from rivers._io.memory import InMemoryIOHandler
from rivers._io.pickle import PickleIOHandler
from rivers._plan.plan import Plan
from rivers._plan.report import StepReport, StepState
from rivers._repository.repository import CodeRepository
from rivers._repository.run import RunHandle, RunResult
from rivers.protocol.failure import FailureReason

__all__ = [
    "Asset",
    "AssetDef",
    "AssetExecutionContext",
    "Backoff",
    "BaseIOHandler",
    "BashTask",
    "CodeRepository",
    "Compute",
    "ComputeEscalation",
    "DepDef",
    "DynamicOutput",
    "Executor",
    "ExternalAsset",
    "FailureReason",
    "GraphAsset",
    "Hook",
    "HookContext",
    "InMemoryIOHandler",
    "InputContext",
    "Job",
    "JsonLinesSink",
    "ListSink",
    "LoggingSink",
    "MultiAsset",
    "Output",
    "OutputContext",
    "Partitions",
    "PickleIOHandler",
    "Plan",
    "Resource",
    "RetryOn",
    "RetryPolicy",
    "RunHandle",
    "RunResult",
    "StepReport",
    "StepState",
    "Task",
    "TaskExecutionContext",
    "events",
    "exceptions",
    "io_handlers",
    "protocol",
    "spi",
]
