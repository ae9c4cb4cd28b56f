from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    STATE_UNSPECIFIED: _ClassVar[State]
    STATE_WAITING: _ClassVar[State]
    STATE_RUNNING: _ClassVar[State]
    STATE_ENDED: _ClassVar[State]
STATE_UNSPECIFIED: State
STATE_WAITING: State
STATE_RUNNING: State
STATE_ENDED: State

class Caller(_message.Message):
    __slots__ = ("run_id", "attempt_id", "epoch")
    RUN_ID_FIELD_NUMBER: _ClassVar[int]
    ATTEMPT_ID_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    run_id: str
    attempt_id: str
    epoch: int
    def __init__(self, run_id: _Optional[str] = ..., attempt_id: _Optional[str] = ..., epoch: _Optional[int] = ...) -> None: ...

class HandshakeRequest(_message.Message):
    __slots__ = ("caller", "protocol_version", "specs", "minor_version")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    SPECS_FIELD_NUMBER: _ClassVar[int]
    MINOR_VERSION_FIELD_NUMBER: _ClassVar[int]
    caller: Caller
    protocol_version: int
    specs: _containers.RepeatedScalarFieldContainer[bytes]
    minor_version: int
    def __init__(self, caller: _Optional[_Union[Caller, _Mapping]] = ..., protocol_version: _Optional[int] = ..., specs: _Optional[_Iterable[bytes]] = ..., minor_version: _Optional[int] = ...) -> None: ...

class HandshakeReply(_message.Message):
    __slots__ = ("protocol_version", "rivers_version", "python_version", "worker", "state", "problems", "minor_version", "attempts_left")
    PROTOCOL_VERSION_FIELD_NUMBER: _ClassVar[int]
    RIVERS_VERSION_FIELD_NUMBER: _ClassVar[int]
    PYTHON_VERSION_FIELD_NUMBER: _ClassVar[int]
    WORKER_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    PROBLEMS_FIELD_NUMBER: _ClassVar[int]
    MINOR_VERSION_FIELD_NUMBER: _ClassVar[int]
    ATTEMPTS_LEFT_FIELD_NUMBER: _ClassVar[int]
    protocol_version: int
    rivers_version: str
    python_version: str
    worker: str
    state: State
    problems: _containers.RepeatedCompositeFieldContainer[Problem]
    minor_version: int
    attempts_left: int
    def __init__(self, protocol_version: _Optional[int] = ..., rivers_version: _Optional[str] = ..., python_version: _Optional[str] = ..., worker: _Optional[str] = ..., state: _Optional[_Union[State, str]] = ..., problems: _Optional[_Iterable[_Union[Problem, _Mapping]]] = ..., minor_version: _Optional[int] = ..., attempts_left: _Optional[int] = ...) -> None: ...

class Problem(_message.Message):
    __slots__ = ("spec", "message")
    SPEC_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    spec: int
    message: str
    def __init__(self, spec: _Optional[int] = ..., message: _Optional[str] = ...) -> None: ...

class ExecuteRequest(_message.Message):
    __slots__ = ("caller", "spec", "pickle_key")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    SPEC_FIELD_NUMBER: _ClassVar[int]
    PICKLE_KEY_FIELD_NUMBER: _ClassVar[int]
    caller: Caller
    spec: bytes
    pickle_key: bytes
    def __init__(self, caller: _Optional[_Union[Caller, _Mapping]] = ..., spec: _Optional[bytes] = ..., pickle_key: _Optional[bytes] = ...) -> None: ...

class AttachRequest(_message.Message):
    __slots__ = ("caller", "from_seq")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    FROM_SEQ_FIELD_NUMBER: _ClassVar[int]
    caller: Caller
    from_seq: int
    def __init__(self, caller: _Optional[_Union[Caller, _Mapping]] = ..., from_seq: _Optional[int] = ...) -> None: ...

class Event(_message.Message):
    __slots__ = ("seq", "heartbeat", "step_event", "lost", "last", "dropped")
    SEQ_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    STEP_EVENT_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    LAST_FIELD_NUMBER: _ClassVar[int]
    DROPPED_FIELD_NUMBER: _ClassVar[int]
    seq: int
    heartbeat: Heartbeat
    step_event: bytes
    lost: Lost
    last: bool
    dropped: int
    def __init__(self, seq: _Optional[int] = ..., heartbeat: _Optional[_Union[Heartbeat, _Mapping]] = ..., step_event: _Optional[bytes] = ..., lost: _Optional[_Union[Lost, _Mapping]] = ..., last: bool = ..., dropped: _Optional[int] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Lost(_message.Message):
    __slots__ = ("started", "exit_code", "signal", "oom_kills", "memory_peak", "memory_limit", "native_traceback", "detail", "cancelled")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    EXIT_CODE_FIELD_NUMBER: _ClassVar[int]
    SIGNAL_FIELD_NUMBER: _ClassVar[int]
    OOM_KILLS_FIELD_NUMBER: _ClassVar[int]
    MEMORY_PEAK_FIELD_NUMBER: _ClassVar[int]
    MEMORY_LIMIT_FIELD_NUMBER: _ClassVar[int]
    NATIVE_TRACEBACK_FIELD_NUMBER: _ClassVar[int]
    DETAIL_FIELD_NUMBER: _ClassVar[int]
    CANCELLED_FIELD_NUMBER: _ClassVar[int]
    started: bool
    exit_code: int
    signal: int
    oom_kills: int
    memory_peak: int
    memory_limit: int
    native_traceback: str
    detail: str
    cancelled: bool
    def __init__(self, started: bool = ..., exit_code: _Optional[int] = ..., signal: _Optional[int] = ..., oom_kills: _Optional[int] = ..., memory_peak: _Optional[int] = ..., memory_limit: _Optional[int] = ..., native_traceback: _Optional[str] = ..., detail: _Optional[str] = ..., cancelled: bool = ...) -> None: ...

class CancelRequest(_message.Message):
    __slots__ = ("caller", "grace")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    GRACE_FIELD_NUMBER: _ClassVar[int]
    caller: Caller
    grace: float
    def __init__(self, caller: _Optional[_Union[Caller, _Mapping]] = ..., grace: _Optional[float] = ...) -> None: ...

class CancelReply(_message.Message):
    __slots__ = ("state",)
    STATE_FIELD_NUMBER: _ClassVar[int]
    state: State
    def __init__(self, state: _Optional[_Union[State, str]] = ...) -> None: ...

class AckRequest(_message.Message):
    __slots__ = ("caller", "seq")
    CALLER_FIELD_NUMBER: _ClassVar[int]
    SEQ_FIELD_NUMBER: _ClassVar[int]
    caller: Caller
    seq: int
    def __init__(self, caller: _Optional[_Union[Caller, _Mapping]] = ..., seq: _Optional[int] = ...) -> None: ...

class AckReply(_message.Message):
    __slots__ = ("ready", "retires")
    READY_FIELD_NUMBER: _ClassVar[int]
    RETIRES_FIELD_NUMBER: _ClassVar[int]
    ready: bool
    retires: str
    def __init__(self, ready: bool = ..., retires: _Optional[str] = ...) -> None: ...

class Outcome(_message.Message):
    __slots__ = ("attempt_id", "step_event", "lost")
    ATTEMPT_ID_FIELD_NUMBER: _ClassVar[int]
    STEP_EVENT_FIELD_NUMBER: _ClassVar[int]
    LOST_FIELD_NUMBER: _ClassVar[int]
    attempt_id: str
    step_event: bytes
    lost: Lost
    def __init__(self, attempt_id: _Optional[str] = ..., step_event: _Optional[bytes] = ..., lost: _Optional[_Union[Lost, _Mapping]] = ...) -> None: ...
