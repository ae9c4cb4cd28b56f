"""The StepSpec: one attempt of one step, as a value that can cross processes.

A spec is enough: the worker's side never sees the plan, the repository or the controller's memory. To add a field, add
it here with a default, to `proto/rivers/protocol/v1/step.proto` under the next free number, and to the golden corpus;
`tests/protocol` fails until all three agree.
"""

from __future__ import annotations

import enum
from typing import TypeAlias

import msgspec

from rivers.protocol.ref import ImportRef, InlineRef, InlineValue, Ref

__all__ = [
    "PROTOCOL_VERSION",
    "CollectInput",
    "Compute",
    "ElementInput",
    "GroupInput",
    "InnerStep",
    "Input",
    "LiteralInput",
    "LogSettings",
    "LoggerLevel",
    "NodeKind",
    "ObjectInput",
    "Output",
    "OutputMode",
    "PartitionsInput",
    "ResourceInput",
    "StepSpec",
    "StoredInput",
    "StreamInput",
    "TraceContext",
    "has_inline_values",
]

PROTOCOL_VERSION = 1
"""The major version. A peer of another major is refused before anything is imported; new fields keep the major."""


class NodeKind(enum.Enum):
    """The kind of a step's definition; it decides the type of the context and the reading of return values."""

    ASSET = "asset"
    MULTI = "multi"
    TASK = "task"
    BASH = "bash"
    GRAPH = "graph"


class OutputMode(enum.Enum):
    """The way an output is stored.

    VALUE stores the value under `key`. DYNAMIC stores each element under `key[mapping key]` and reports the keys.
    """

    VALUE = "value"
    DYNAMIC = "dynamic"


class StoredInput(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="stored", tag_field="kind"):
    """A parameter whose value an IO handler loads.

    `key` is the storage key (asset name, `graph/task`, `graph/task[mapping key]`); `run_id` names the run whose version
    is meant, or is None for the latest one. `partition` is that of the value, which the key has, too.
    """

    parameter: str
    key: str
    io_handler: Ref
    run_id: str | None = None
    metadata: dict[str, str] | None = None
    partition: str | None = None


class CollectInput(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="collect", tag_field="kind"):
    """A parameter that gets the list of the values of all mapped instances, in the order of `map_keys`."""

    parameter: str
    key: str
    io_handler: Ref
    map_keys: tuple[str, ...] = ()
    run_id: str | None = None


class StreamInput(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="stream", tag_field="kind"):
    """A parameter that gets an iterator over the values of mapped instances as they finish.

    `map_keys` are the instances known to be done when the spec was made (all of them where the backend has no live
    streams: `live` is False); further ones are asked of the run by position.
    """

    parameter: str
    key: str
    io_handler: Ref
    map_keys: tuple[str, ...] = ()
    live: bool = False
    run_id: str | None = None


class GroupInput(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="group", tag_field="kind"):
    """A parameter that gets the values of all instances of a large group, by a reference to their stored keys.

    `keys` is the storage key under which the group's mapping keys are stored, with the same IO handler as its values.
    `how` is `collect`, a list, or `stream`, an iterator; both in the order of the keys.
    """

    parameter: str
    key: str
    io_handler: Ref
    keys: str
    run_id: str | None = None
    how: str = "collect"


class PartitionsInput(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="partitions", tag_field="kind"):
    """A parameter that gets a dict of the values of all stored partitions, by their keys and in the order of these.

    A value is stored under `key@partition`. What is not stored is left out, except `partition`, which run `run_id` has
    made; both are None if the run has made none.
    """

    parameter: str
    key: str
    io_handler: Ref
    partitions: tuple[str, ...] = ()
    partition: str | None = None
    run_id: str | None = None
    metadata: dict[str, str] | None = None


class LiteralInput(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="literal", tag_field="kind"):
    """A parameter given as a constant in a graph's composition, as JSON text."""

    parameter: str
    json: str


class ObjectInput(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="object", tag_field="kind"):
    """A parameter given as an object that JSON cannot represent."""

    parameter: str
    ref: Ref


class ResourceInput(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="resource", tag_field="kind"):
    """A parameter that gets the resource `name` of the repository, set up before its first use."""

    parameter: str
    name: str
    ref: Ref


class ElementInput(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="inner", tag_field="kind"):
    """A parameter, in a fused graph, that gets the value of inner step `step` from the worker's memory.

    `how` is `value`, `element` (this instance's element), `collect` or `stream`.
    """

    parameter: str
    step: str
    how: str = "value"


Input: TypeAlias = (
    StoredInput
    | CollectInput
    | StreamInput
    | GroupInput
    | PartitionsInput
    | LiteralInput
    | ObjectInput
    | ResourceInput
    | ElementInput
)


class Output(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One output of a step: its `name` for the body, its storage `key`, the IO handler that stores it, its metadata."""

    name: str
    key: str
    io_handler: Ref
    mode: OutputMode = OutputMode.VALUE
    metadata: dict[str, str] | None = None


class InnerStep(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A task of a graph asset that runs in one worker, after the tasks whose values it takes."""

    key: str
    node: NodeKind
    function: Ref
    inputs: tuple[Input, ...] = ()
    is_async: bool = False
    mapped_over: str | None = None


class Compute(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The resources of an attempt as Kubernetes quantities; None is the executor's default."""

    cpu: str | None = None
    memory: str | None = None
    gpu: str | None = None


class LoggerLevel(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The level of a logger in the controller, a number of `logging`; the root logger is `root`."""

    name: str
    level: int


class LogSettings(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The log records and printed text to capture while the body runs.

    A record below `level` (a number of `logging`) is no event, whatever its logger lets through. `loggers` are the
    loggers that the controller gave a level of their own; a worker gives them the same.
    """

    level: int = 20
    capture: bool = False
    loggers: tuple[LoggerLevel, ...] = ()


class TraceContext(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The span of an attempt, as the headers of W3C Trace Context write it, for spans of the body to nest under."""

    traceparent: str
    tracestate: str | None = None


class StepSpec(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One attempt of one step.

    `attempt` counts from 1 what the retry policy counts; `attempt_id` is unique for every submit, also for one that is
    repeated free of charge; `epoch` is the controller's fencing number. `config` is the text of a JSON object.
    `timeout` is in seconds. `function` leads to a function, an Asset or a Task. `graph` leads to the graph asset whose
    composition has the step's command or constants, where these travel in the spec. `refs` is the table behind
    TableRefs, filled in encoded specs only. `trace_context` is set where the run is traced. `values` are the values of
    inputs whose IO handler is an InlineRef. `fingerprint` is the text to store with each output, from which a later run
    sees that the step is unchanged; None where that is not wanted. `partition` is the key of the partition that the
    step makes, None if its asset has none.
    """

    protocol_version: int = PROTOCOL_VERSION
    run_id: str
    step: str
    attempt: int = 1
    attempt_id: str
    epoch: int = 0
    node: NodeKind = NodeKind.ASSET
    function: Ref
    is_async: bool = False
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    config: str | None = None
    metadata: dict[str, str] | None = None
    tags: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    group: str | None = None
    code_version: str | None = None
    run_tags: dict[str, str] | None = None
    compute: Compute | None = None
    timeout: float | None = None
    logs: LogSettings = LogSettings()
    inner: tuple[InnerStep, ...] = ()
    graph: ImportRef | None = None
    refs: tuple[Ref, ...] = ()
    trace_context: TraceContext | None = None
    values: tuple[InlineValue, ...] = ()
    fingerprint: str | None = None
    partition: str | None = None


def has_inline_values(spec: StepSpec) -> bool:
    """Return whether values of the attempt travel inline, which a worker of protocol 1.2 or older refuses."""
    stored = (*spec.outputs, *spec.inputs, *(given for inner in spec.inner for given in inner.inputs))
    return any(type(getattr(one, "io_handler", None)) is InlineRef for one in stored)
