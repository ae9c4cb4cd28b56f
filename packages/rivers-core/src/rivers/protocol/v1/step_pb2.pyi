from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NodeKind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    NODE_KIND_UNSPECIFIED: _ClassVar[NodeKind]
    NODE_KIND_ASSET: _ClassVar[NodeKind]
    NODE_KIND_MULTI: _ClassVar[NodeKind]
    NODE_KIND_TASK: _ClassVar[NodeKind]
    NODE_KIND_BASH: _ClassVar[NodeKind]
    NODE_KIND_GRAPH: _ClassVar[NodeKind]

class OutputMode(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    OUTPUT_MODE_UNSPECIFIED: _ClassVar[OutputMode]
    OUTPUT_MODE_VALUE: _ClassVar[OutputMode]
    OUTPUT_MODE_DYNAMIC: _ClassVar[OutputMode]

class Ending(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ENDING_UNSPECIFIED: _ClassVar[Ending]
    ENDING_SUCCEEDED: _ClassVar[Ending]
    ENDING_FAILED: _ClassVar[Ending]
    ENDING_CANCELLED: _ClassVar[Ending]
    ENDING_NOT_STARTED: _ClassVar[Ending]

class FailureReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    FAILURE_REASON_UNSPECIFIED: _ClassVar[FailureReason]
    FAILURE_REASON_ERROR: _ClassVar[FailureReason]
    FAILURE_REASON_TIMEOUT: _ClassVar[FailureReason]
    FAILURE_REASON_OUT_OF_MEMORY: _ClassVar[FailureReason]
    FAILURE_REASON_INFRASTRUCTURE: _ClassVar[FailureReason]
    FAILURE_REASON_CANCELLED: _ClassVar[FailureReason]
NODE_KIND_UNSPECIFIED: NodeKind
NODE_KIND_ASSET: NodeKind
NODE_KIND_MULTI: NodeKind
NODE_KIND_TASK: NodeKind
NODE_KIND_BASH: NodeKind
NODE_KIND_GRAPH: NodeKind
OUTPUT_MODE_UNSPECIFIED: OutputMode
OUTPUT_MODE_VALUE: OutputMode
OUTPUT_MODE_DYNAMIC: OutputMode
ENDING_UNSPECIFIED: Ending
ENDING_SUCCEEDED: Ending
ENDING_FAILED: Ending
ENDING_CANCELLED: Ending
ENDING_NOT_STARTED: Ending
FAILURE_REASON_UNSPECIFIED: FailureReason
FAILURE_REASON_ERROR: FailureReason
FAILURE_REASON_TIMEOUT: FailureReason
FAILURE_REASON_OUT_OF_MEMORY: FailureReason
FAILURE_REASON_INFRASTRUCTURE: FailureReason
FAILURE_REASON_CANCELLED: FailureReason

class StringMap(_message.Message):
    __slots__ = ("values",)
    class ValuesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.ScalarMap[str, str]
    def __init__(self, values: _Optional[_Mapping[str, str]] = ...) -> None: ...

class StringList(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class ImportRef(_message.Message):
    __slots__ = ("module", "qualname")
    MODULE_FIELD_NUMBER: _ClassVar[int]
    QUALNAME_FIELD_NUMBER: _ClassVar[int]
    module: str
    qualname: str
    def __init__(self, module: _Optional[str] = ..., qualname: _Optional[str] = ...) -> None: ...

class ConfiguredRef(_message.Message):
    __slots__ = ("cls", "json")
    CLS_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    cls: ImportRef
    json: str
    def __init__(self, cls: _Optional[_Union[ImportRef, _Mapping]] = ..., json: _Optional[str] = ...) -> None: ...

class PickledRef(_message.Message):
    __slots__ = ("payload", "sha256", "hmac")
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    SHA256_FIELD_NUMBER: _ClassVar[int]
    HMAC_FIELD_NUMBER: _ClassVar[int]
    payload: bytes
    sha256: bytes
    hmac: bytes
    def __init__(self, payload: _Optional[bytes] = ..., sha256: _Optional[bytes] = ..., hmac: _Optional[bytes] = ...) -> None: ...

class TableRef(_message.Message):
    __slots__ = ("index",)
    INDEX_FIELD_NUMBER: _ClassVar[int]
    index: int
    def __init__(self, index: _Optional[int] = ...) -> None: ...

class InlineRef(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class InlineValue(_message.Message):
    __slots__ = ("key", "data")
    KEY_FIELD_NUMBER: _ClassVar[int]
    DATA_FIELD_NUMBER: _ClassVar[int]
    key: str
    data: bytes
    def __init__(self, key: _Optional[str] = ..., data: _Optional[bytes] = ...) -> None: ...

class Ref(_message.Message):
    __slots__ = ("configured", "pickled", "table", "inline")
    IMPORT_FIELD_NUMBER: _ClassVar[int]
    CONFIGURED_FIELD_NUMBER: _ClassVar[int]
    PICKLED_FIELD_NUMBER: _ClassVar[int]
    TABLE_FIELD_NUMBER: _ClassVar[int]
    INLINE_FIELD_NUMBER: _ClassVar[int]
    configured: ConfiguredRef
    pickled: PickledRef
    table: TableRef
    inline: InlineRef
    def __init__(self, configured: _Optional[_Union[ConfiguredRef, _Mapping]] = ..., pickled: _Optional[_Union[PickledRef, _Mapping]] = ..., table: _Optional[_Union[TableRef, _Mapping]] = ..., inline: _Optional[_Union[InlineRef, _Mapping]] = ..., **kwargs) -> None: ...

class StoredInput(_message.Message):
    __slots__ = ("parameter", "key", "io_handler", "run_id", "metadata", "partition")
    PARAMETER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    IO_HANDLER_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    parameter: str
    key: str
    io_handler: Ref
    run_id: str
    metadata: StringMap
    partition: str
    def __init__(self, parameter: _Optional[str] = ..., key: _Optional[str] = ..., io_handler: _Optional[_Union[Ref, _Mapping]] = ..., run_id: _Optional[str] = ..., metadata: _Optional[_Union[StringMap, _Mapping]] = ..., partition: _Optional[str] = ...) -> None: ...

class CollectInput(_message.Message):
    __slots__ = ("parameter", "key", "io_handler", "map_keys", "run_id")
    PARAMETER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    IO_HANDLER_FIELD_NUMBER: _ClassVar[int]
    MAP_KEYS_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    parameter: str
    key: str
    io_handler: Ref
    map_keys: _containers.RepeatedScalarFieldContainer[str]
    run_id: str
    def __init__(self, parameter: _Optional[str] = ..., key: _Optional[str] = ..., io_handler: _Optional[_Union[Ref, _Mapping]] = ..., map_keys: _Optional[_Iterable[str]] = ..., run_id: _Optional[str] = ...) -> None: ...

class StreamInput(_message.Message):
    __slots__ = ("parameter", "key", "io_handler", "map_keys", "live", "run_id")
    PARAMETER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    IO_HANDLER_FIELD_NUMBER: _ClassVar[int]
    MAP_KEYS_FIELD_NUMBER: _ClassVar[int]
    LIVE_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    parameter: str
    key: str
    io_handler: Ref
    map_keys: _containers.RepeatedScalarFieldContainer[str]
    live: bool
    run_id: str
    def __init__(self, parameter: _Optional[str] = ..., key: _Optional[str] = ..., io_handler: _Optional[_Union[Ref, _Mapping]] = ..., map_keys: _Optional[_Iterable[str]] = ..., live: bool = ..., run_id: _Optional[str] = ...) -> None: ...

class GroupInput(_message.Message):
    __slots__ = ("parameter", "key", "io_handler", "keys", "run_id", "how")
    PARAMETER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    IO_HANDLER_FIELD_NUMBER: _ClassVar[int]
    KEYS_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    HOW_FIELD_NUMBER: _ClassVar[int]
    parameter: str
    key: str
    io_handler: Ref
    keys: str
    run_id: str
    how: str
    def __init__(self, parameter: _Optional[str] = ..., key: _Optional[str] = ..., io_handler: _Optional[_Union[Ref, _Mapping]] = ..., keys: _Optional[str] = ..., run_id: _Optional[str] = ..., how: _Optional[str] = ...) -> None: ...

class PartitionsInput(_message.Message):
    __slots__ = ("parameter", "key", "io_handler", "partitions", "partition", "run_id", "metadata")
    PARAMETER_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    IO_HANDLER_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    parameter: str
    key: str
    io_handler: Ref
    partitions: _containers.RepeatedScalarFieldContainer[str]
    partition: str
    run_id: str
    metadata: StringMap
    def __init__(self, parameter: _Optional[str] = ..., key: _Optional[str] = ..., io_handler: _Optional[_Union[Ref, _Mapping]] = ..., partitions: _Optional[_Iterable[str]] = ..., partition: _Optional[str] = ..., run_id: _Optional[str] = ..., metadata: _Optional[_Union[StringMap, _Mapping]] = ...) -> None: ...

class LiteralInput(_message.Message):
    __slots__ = ("parameter", "json")
    PARAMETER_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    parameter: str
    json: str
    def __init__(self, parameter: _Optional[str] = ..., json: _Optional[str] = ...) -> None: ...

class ObjectInput(_message.Message):
    __slots__ = ("parameter", "ref")
    PARAMETER_FIELD_NUMBER: _ClassVar[int]
    REF_FIELD_NUMBER: _ClassVar[int]
    parameter: str
    ref: Ref
    def __init__(self, parameter: _Optional[str] = ..., ref: _Optional[_Union[Ref, _Mapping]] = ...) -> None: ...

class ResourceInput(_message.Message):
    __slots__ = ("parameter", "name", "ref")
    PARAMETER_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    REF_FIELD_NUMBER: _ClassVar[int]
    parameter: str
    name: str
    ref: Ref
    def __init__(self, parameter: _Optional[str] = ..., name: _Optional[str] = ..., ref: _Optional[_Union[Ref, _Mapping]] = ...) -> None: ...

class ElementInput(_message.Message):
    __slots__ = ("parameter", "step", "how")
    PARAMETER_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    HOW_FIELD_NUMBER: _ClassVar[int]
    parameter: str
    step: str
    how: str
    def __init__(self, parameter: _Optional[str] = ..., step: _Optional[str] = ..., how: _Optional[str] = ...) -> None: ...

class Input(_message.Message):
    __slots__ = ("stored", "collect", "stream", "literal", "object", "resource", "inner", "group", "partitions")
    STORED_FIELD_NUMBER: _ClassVar[int]
    COLLECT_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    LITERAL_FIELD_NUMBER: _ClassVar[int]
    OBJECT_FIELD_NUMBER: _ClassVar[int]
    RESOURCE_FIELD_NUMBER: _ClassVar[int]
    INNER_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    PARTITIONS_FIELD_NUMBER: _ClassVar[int]
    stored: StoredInput
    collect: CollectInput
    stream: StreamInput
    literal: LiteralInput
    object: ObjectInput
    resource: ResourceInput
    inner: ElementInput
    group: GroupInput
    partitions: PartitionsInput
    def __init__(self, stored: _Optional[_Union[StoredInput, _Mapping]] = ..., collect: _Optional[_Union[CollectInput, _Mapping]] = ..., stream: _Optional[_Union[StreamInput, _Mapping]] = ..., literal: _Optional[_Union[LiteralInput, _Mapping]] = ..., object: _Optional[_Union[ObjectInput, _Mapping]] = ..., resource: _Optional[_Union[ResourceInput, _Mapping]] = ..., inner: _Optional[_Union[ElementInput, _Mapping]] = ..., group: _Optional[_Union[GroupInput, _Mapping]] = ..., partitions: _Optional[_Union[PartitionsInput, _Mapping]] = ...) -> None: ...

class Output(_message.Message):
    __slots__ = ("name", "key", "io_handler", "mode", "metadata")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    IO_HANDLER_FIELD_NUMBER: _ClassVar[int]
    MODE_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    name: str
    key: str
    io_handler: Ref
    mode: OutputMode
    metadata: StringMap
    def __init__(self, name: _Optional[str] = ..., key: _Optional[str] = ..., io_handler: _Optional[_Union[Ref, _Mapping]] = ..., mode: _Optional[_Union[OutputMode, str]] = ..., metadata: _Optional[_Union[StringMap, _Mapping]] = ...) -> None: ...

class InnerStep(_message.Message):
    __slots__ = ("key", "node", "function", "inputs", "is_async", "mapped_over")
    KEY_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    IS_ASYNC_FIELD_NUMBER: _ClassVar[int]
    MAPPED_OVER_FIELD_NUMBER: _ClassVar[int]
    key: str
    node: NodeKind
    function: Ref
    inputs: _containers.RepeatedCompositeFieldContainer[Input]
    is_async: bool
    mapped_over: str
    def __init__(self, key: _Optional[str] = ..., node: _Optional[_Union[NodeKind, str]] = ..., function: _Optional[_Union[Ref, _Mapping]] = ..., inputs: _Optional[_Iterable[_Union[Input, _Mapping]]] = ..., is_async: bool = ..., mapped_over: _Optional[str] = ...) -> None: ...

class Compute(_message.Message):
    __slots__ = ("cpu", "memory", "gpu")
    CPU_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FIELD_NUMBER: _ClassVar[int]
    GPU_FIELD_NUMBER: _ClassVar[int]
    cpu: str
    memory: str
    gpu: str
    def __init__(self, cpu: _Optional[str] = ..., memory: _Optional[str] = ..., gpu: _Optional[str] = ...) -> None: ...

class LoggerLevel(_message.Message):
    __slots__ = ("name", "level")
    NAME_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    name: str
    level: int
    def __init__(self, name: _Optional[str] = ..., level: _Optional[int] = ...) -> None: ...

class LogSettings(_message.Message):
    __slots__ = ("level", "capture", "loggers")
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    CAPTURE_FIELD_NUMBER: _ClassVar[int]
    LOGGERS_FIELD_NUMBER: _ClassVar[int]
    level: int
    capture: bool
    loggers: _containers.RepeatedCompositeFieldContainer[LoggerLevel]
    def __init__(self, level: _Optional[int] = ..., capture: bool = ..., loggers: _Optional[_Iterable[_Union[LoggerLevel, _Mapping]]] = ...) -> None: ...

class TraceContext(_message.Message):
    __slots__ = ("traceparent", "tracestate")
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    TRACESTATE_FIELD_NUMBER: _ClassVar[int]
    traceparent: str
    tracestate: str
    def __init__(self, traceparent: _Optional[str] = ..., tracestate: _Optional[str] = ...) -> None: ...

class StepSpec(_message.Message):
    __slots__ = ("protocol_version", "run_id", "step", "attempt", "attempt_id", "epoch", "node", "function", "is_async", "inputs", "outputs", "config", "metadata", "tags", "kinds", "group", "code_version", "run_tags", "compute", "timeout", "logs", "inner", "graph", "refs", "trace_context", "values", "fingerprint", "partition")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    FUNCTION_FIELD_NUMBER: _ClassVar[int]
    IS_ASYNC_FIELD_NUMBER: _ClassVar[int]
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    CONFIG_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    TAGS_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    GROUP_FIELD_NUMBER: _ClassVar[int]
    CODE_VERSION_FIELD_NUMBER: _ClassVar[int]
    RUN_TAGS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_FIELD_NUMBER: _ClassVar[int]
    LOGS_FIELD_NUMBER: _ClassVar[int]
    INNER_FIELD_NUMBER: _ClassVar[int]
    GRAPH_FIELD_NUMBER: _ClassVar[int]
    REFS_FIELD_NUMBER: _ClassVar[int]
    TRACE_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    FINGERPRINT_FIELD_NUMBER: _ClassVar[int]
    PARTITION_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    run_id: str
    step: str
    attempt: int
    attempt_id: str
    epoch: int
    node: NodeKind
    function: Ref
    is_async: bool
    inputs: _containers.RepeatedCompositeFieldContainer[Input]
    outputs: _containers.RepeatedCompositeFieldContainer[Output]
    config: str
    metadata: StringMap
    tags: _containers.RepeatedScalarFieldContainer[str]
    kinds: _containers.RepeatedScalarFieldContainer[str]
    group: str
    code_version: str
    run_tags: StringMap
    compute: Compute
    timeout: float
    logs: LogSettings
    inner: _containers.RepeatedCompositeFieldContainer[InnerStep]
    graph: ImportRef
    refs: _containers.RepeatedCompositeFieldContainer[Ref]
    trace_context: TraceContext
    values: _containers.RepeatedCompositeFieldContainer[InlineValue]
    fingerprint: str
    partition: str
    def __init__(self, protocol_version: _Optional[int] = ..., run_id: _Optional[str] = ..., step: _Optional[str] = ..., attempt: _Optional[int] = ..., attempt_id: _Optional[str] = ..., epoch: _Optional[int] = ..., node: _Optional[_Union[NodeKind, str]] = ..., function: _Optional[_Union[Ref, _Mapping]] = ..., is_async: bool = ..., inputs: _Optional[_Iterable[_Union[Input, _Mapping]]] = ..., outputs: _Optional[_Iterable[_Union[Output, _Mapping]]] = ..., config: _Optional[str] = ..., metadata: _Optional[_Union[StringMap, _Mapping]] = ..., tags: _Optional[_Iterable[str]] = ..., kinds: _Optional[_Iterable[str]] = ..., group: _Optional[str] = ..., code_version: _Optional[str] = ..., run_tags: _Optional[_Union[StringMap, _Mapping]] = ..., compute: _Optional[_Union[Compute, _Mapping]] = ..., timeout: _Optional[float] = ..., logs: _Optional[_Union[LogSettings, _Mapping]] = ..., inner: _Optional[_Iterable[_Union[InnerStep, _Mapping]]] = ..., graph: _Optional[_Union[ImportRef, _Mapping]] = ..., refs: _Optional[_Iterable[_Union[Ref, _Mapping]]] = ..., trace_context: _Optional[_Union[TraceContext, _Mapping]] = ..., values: _Optional[_Iterable[_Union[InlineValue, _Mapping]]] = ..., fingerprint: _Optional[str] = ..., partition: _Optional[str] = ...) -> None: ...

class Evidence(_message.Message):
    __slots__ = ("exit_code", "signal", "container_reason", "node", "worker", "memory_peak", "memory_limit", "oom_kills", "timed_out", "cancelled", "native_traceback", "detail")
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    CONTAINER_REASON_FIELD_NUMBER: _ClassVar[int]
    NODE_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    MEMORY_PEAK_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LIMIT_FIELD_NUMBER: _ClassVar[int]
    OOM_KILLS_FIELD_NUMBER: _ClassVar[int]
    TIMED_OUT_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    NATIVE_TRACEBACK_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    exit_code: int
    signal: int
    container_reason: str
    node: str
    worker: str
    memory_peak: int
    memory_limit: int
    oom_kills: int
    timed_out: bool
    cancelled: bool
    native_traceback: str
    detail: str
    def __init__(self, exit_code: _Optional[int] = ..., signal: _Optional[int] = ..., container_reason: _Optional[str] = ..., node: _Optional[str] = ..., worker: _Optional[str] = ..., memory_peak: _Optional[int] = ..., memory_limit: _Optional[int] = ..., oom_kills: _Optional[int] = ..., timed_out: bool = ..., cancelled: bool = ..., native_traceback: _Optional[str] = ..., detail: _Optional[str] = ...) -> None: ...

class Failure(_message.Message):
    __slots__ = ("reason", "type", "message", "mro", "args", "traceback", "notes", "evidence", "transient", "state")
    REASON_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    MRO_FIELD_NUMBER: _ClassVar[int]
    ARGS_FIELD_NUMBER: _ClassVar[int]
    TRACEBACK_FIELD_NUMBER: _ClassVar[int]
    NOTES_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_FIELD_NUMBER: _ClassVar[int]
    TRANSIENT_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    reason: FailureReason
    type: str
    message: str
    mro: _containers.RepeatedScalarFieldContainer[str]
    args: str
    traceback: str
    notes: _containers.RepeatedScalarFieldContainer[str]
    evidence: Evidence
    transient: bool
    state: str
    def __init__(self, reason: _Optional[_Union[FailureReason, str]] = ..., type: _Optional[str] = ..., message: _Optional[str] = ..., mro: _Optional[_Iterable[str]] = ..., args: _Optional[str] = ..., traceback: _Optional[str] = ..., notes: _Optional[_Iterable[str]] = ..., evidence: _Optional[_Union[Evidence, _Mapping]] = ..., transient: bool = ..., state: _Optional[str] = ...) -> None: ...

class Timings(_message.Message):
    __slots__ = ("queued", "boot", "load", "run", "store", "schedule", "pull")
    QUEUED_FIELD_NUMBER: _ClassVar[int]
    BOOT_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    STORE_FIELD_NUMBER: _ClassVar[int]
    SCHEDULE_FIELD_NUMBER: _ClassVar[int]
    PULL_FIELD_NUMBER: _ClassVar[int]
    queued: float
    boot: float
    load: float
    run: float
    store: float
    schedule: float
    pull: float
    def __init__(self, queued: _Optional[float] = ..., boot: _Optional[float] = ..., load: _Optional[float] = ..., run: _Optional[float] = ..., store: _Optional[float] = ..., schedule: _Optional[float] = ..., pull: _Optional[float] = ...) -> None: ...

class OutputRecord(_message.Message):
    __slots__ = ("name", "key", "metadata", "data_version", "map_keys", "values", "versions")
    NAME_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    METADATA_FIELD_NUMBER: _ClassVar[int]
    DATA_VERSION_FIELD_NUMBER: _ClassVar[int]
    MAP_KEYS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    key: str
    metadata: str
    data_version: str
    map_keys: StringList
    values: _containers.RepeatedCompositeFieldContainer[InlineValue]
    versions: StringList
    def __init__(self, name: _Optional[str] = ..., key: _Optional[str] = ..., metadata: _Optional[str] = ..., data_version: _Optional[str] = ..., map_keys: _Optional[_Union[StringList, _Mapping]] = ..., values: _Optional[_Iterable[_Union[InlineValue, _Mapping]]] = ..., versions: _Optional[_Union[StringList, _Mapping]] = ...) -> None: ...

class StepResult(_message.Message):
    __slots__ = ("attempt_id", "ending", "outputs", "failure", "timings", "worker")
    ATTEMPT_ID_FIELD_NUMBER: _ClassVar[int]
    ENDING_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    attempt_id: str
    ending: Ending
    outputs: _containers.RepeatedCompositeFieldContainer[OutputRecord]
    failure: Failure
    timings: Timings
    worker: str
    def __init__(self, attempt_id: _Optional[str] = ..., ending: _Optional[_Union[Ending, str]] = ..., outputs: _Optional[_Iterable[_Union[OutputRecord, _Mapping]]] = ..., failure: _Optional[_Union[Failure, _Mapping]] = ..., timings: _Optional[_Union[Timings, _Mapping]] = ..., worker: _Optional[str] = ...) -> None: ...

class StepStarted(_message.Message):
    __slots__ = ("attempt_id", "worker", "time")
    ATTEMPT_ID_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    attempt_id: str
    worker: str
    time: float
    def __init__(self, attempt_id: _Optional[str] = ..., worker: _Optional[str] = ..., time: _Optional[float] = ...) -> None: ...

class LogRecord(_message.Message):
    __slots__ = ("attempt_id", "message", "level", "logger", "stream", "time")
    ATTEMPT_ID_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    LEVEL_FIELD_NUMBER: _ClassVar[int]
    LOGGER_FIELD_NUMBER: _ClassVar[int]
    STREAM_FIELD_NUMBER: _ClassVar[int]
    TIME_FIELD_NUMBER: _ClassVar[int]
    attempt_id: str
    message: str
    level: int
    logger: str
    stream: str
    time: float
    def __init__(self, attempt_id: _Optional[str] = ..., message: _Optional[str] = ..., level: _Optional[int] = ..., logger: _Optional[str] = ..., stream: _Optional[str] = ..., time: _Optional[float] = ...) -> None: ...

class StepEvent(_message.Message):
    __slots__ = ("started", "log", "result")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    LOG_FIELD_NUMBER: _ClassVar[int]
    RESULT_FIELD_NUMBER: _ClassVar[int]
    started: StepStarted
    log: LogRecord
    result: StepResult
    def __init__(self, started: _Optional[_Union[StepStarted, _Mapping]] = ..., log: _Optional[_Union[LogRecord, _Mapping]] = ..., result: _Optional[_Union[StepResult, _Mapping]] = ...) -> None: ...
