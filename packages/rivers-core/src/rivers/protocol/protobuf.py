"""The protobuf codec of specs and events, for gRPC and for other languages (extra `[protobuf]`).

One converter for all messages: a struct and its message have the same name and the same fields (the rules are in
proto/rivers/protocol/v1/step.proto), so it goes by name. Limits, version gate and errors are those of the codec.
"""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Iterable
from typing import Any, TypeAlias, cast

import msgspec
from msgspec import inspect

from rivers.exceptions import SpecDecodeError, SpecTooLargeError
from rivers.protocol.codec import DECODE_ERRORS, check_size, check_version, decode_error, too_many_values
from rivers.protocol.failure import FailureReason
from rivers.protocol.field_checks import MISSING, Refused
from rivers.protocol.limits import LIMITS
from rivers.protocol.ref import LocalRef
from rivers.protocol.ref_table import encode_with_table, restore_refs
from rivers.protocol.result import Ending, StepEvent
from rivers.protocol.spec import NodeKind, OutputMode, StepSpec
from rivers.protocol.struct_checks import check_limits

try:
    from google.protobuf.message import DecodeError, Message

    from rivers.protocol.v1 import step_pb2
except ImportError as error:
    raise ImportError("rivers.protocol.protobuf needs protobuf: pip install 'rivers-core[protobuf]'") from error

__all__ = [
    "decode_event_protobuf",
    "decode_spec_protobuf",
    "encode_event_protobuf",
    "encode_spec_protobuf",
    "from_protobuf",
    "to_protobuf",
]

Reader: TypeAlias = Callable[[Any], Any]
Table: TypeAlias = "dict[int, Table | None]"


def to_protobuf(value: StepSpec | StepEvent) -> Message:
    """Turn a spec into a `StepSpec` message, an event or result into a `StepEvent` message.

    Raises:
        SpecLimitError: a field is outside its limit, or holds a LocalRef.
        SpecTooLargeError: more than `LIMITS.size` bytes; the message names the biggest field.
    """
    try:
        if isinstance(value, StepSpec):
            message = encode_with_table(value, _spec_message, lambda made: made.ByteSize())
        else:
            message = step_pb2.StepEvent()
            _fill(message, value)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        # A value of a wrong type fails somewhere in there; this names it.
        check_limits(value)
        raise decode_error(type(value).__name__, error) from None
    check_size(message.ByteSize(), value)
    check_limits(value)
    if isinstance(value, StepSpec):
        check_version(value.protocol_version)
    return message


def from_protobuf(message: Message) -> StepSpec | StepEvent:
    """Turn a `StepSpec` or `StepEvent` message back into the value; raises as `decode_spec` and `decode_event` do."""
    if isinstance(message, step_pb2.StepSpec):
        if message.HasField("protocol_version"):
            check_version(message.protocol_version)
    elif not isinstance(message, step_pb2.StepEvent):
        raise TypeError(f"from_protobuf takes a StepSpec or StepEvent message, not {type(message).__name__}")
    check_size(message.ByteSize())
    try:
        value = cast("StepSpec | StepEvent", _READERS[type(message)](message))
    except Refused as refused:
        raise refused.to_error() from None
    if isinstance(value, StepSpec) and value.refs:
        value = restore_refs(value)
    check_limits(value)
    return value


def encode_spec_protobuf(spec: StepSpec) -> bytes:
    """Encode a spec as a protobuf `StepSpec`; raises as `encode_spec` does."""
    return _encode(spec, step_pb2.StepSpec)


def decode_spec_protobuf(data: bytes) -> StepSpec:
    """Decode a spec from a protobuf `StepSpec`; raises as `decode_spec` does."""
    return cast(StepSpec, _decode(data, step_pb2.StepSpec))


def encode_event_protobuf(event: StepEvent) -> bytes:
    """Encode an event or a result as a protobuf `StepEvent`; raises as `encode_event` does."""
    return _encode(event, step_pb2.StepEvent)


def decode_event_protobuf(data: bytes) -> StepEvent:
    """Decode an event or a result from a protobuf `StepEvent`; raises as `decode_event` does."""
    return cast(StepEvent, _decode(data, step_pb2.StepEvent))


def _encode(value: StepSpec | StepEvent, kind: type[Message]) -> bytes:
    message = to_protobuf(value)
    if not isinstance(message, kind):
        raise TypeError(f"a {type(value).__name__} does not go into a {kind.__name__} message")
    data = message.SerializeToString(deterministic=True)
    try:
        _scan(data, kind)
    except SpecTooLargeError:
        raise too_many_values(value) from None
    return data


def _decode(data: bytes, kind: type[Message]) -> StepSpec | StepEvent:
    check_size(len(data))
    _scan(data, kind)
    try:
        message = kind.FromString(data)
    except (DecodeError, *DECODE_ERRORS) as error:
        raise decode_error(kind.__name__, error) from None
    return from_protobuf(message)


def _enum_numbers(cls: type[enum.Enum]) -> dict[enum.Enum, int]:
    """Return the numbers of an enum's members: `NodeKind.ASSET` is NODE_KIND_ASSET in the .proto."""
    prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", cls.__name__).upper()
    numbers = getattr(step_pb2, cls.__name__)
    return {member: numbers.Value(f"{prefix}_{member.name}") for member in cls}


_NUMBERS: dict[type[enum.Enum], dict[enum.Enum, int]] = {
    cls: _enum_numbers(cls) for cls in (NodeKind, OutputMode, Ending, FailureReason)
}


_UNKNOWN_FIELD = b"\xfa\x7d\x07unknown"
"""A field with the number 2015, and a text."""


def _spec_message(spec: StepSpec) -> Message:
    message = step_pb2.StepSpec()
    if type(spec) is StepSpec:
        _fill(message, spec)
        return message
    # Of a later version, as the conformance kit makes it: its own field is one that no reader knows.
    _fill(message, StepSpec(**{name: getattr(spec, name) for name in StepSpec.__struct_fields__}))
    message.MergeFromString(_UNKNOWN_FIELD)
    return message


def _fill(message: Any, value: msgspec.Struct) -> None:
    """Write a struct into its message, or into its field in the message of its union."""
    if message.DESCRIPTOR.name != type(value).__name__:
        message = getattr(message, cast(str, value.__struct_config__.tag))
    message.SetInParent()
    for name in value.__struct_fields__:
        item = getattr(value, name)
        if item is None:
            continue
        if isinstance(item, enum.Enum):
            setattr(message, name, _NUMBERS[type(item)][item])
        elif isinstance(item, msgspec.Struct):
            _fill(getattr(message, name), item)
        elif isinstance(item, tuple):
            _fill_all(getattr(message, name), item)
        elif isinstance(item, dict):
            getattr(message, name).SetInParent()
            getattr(message, name).values.update(item)
        else:
            setattr(message, name, item)


def _fill_all(target: Any, items: tuple[Any, ...]) -> None:
    if isinstance(target, step_pb2.StringList):
        target.SetInParent()
        target.values.extend(items)
    elif items and isinstance(items[0], msgspec.Struct):
        for item in items:
            _fill(target.add(), item)
    else:
        target.extend(items)


def _reader(kind: inspect.Type) -> Reader | None:
    """Return the function that reads a field of this type from its message, or None if both sides are the same."""
    match kind:
        case inspect.StructType():
            return _struct_reader(kind)
        case inspect.EnumType(cls=cls):
            return _enum_reader(cls)
        case inspect.VarTupleType(item_type=item):
            return _tuple_reader(_reader(item))
        case inspect.UnionType(types=types):
            present = [option for option in types if not isinstance(option, inspect.NoneType)]
            if len(present) > 1:
                return _union_reader(present)
            if isinstance(present[0], inspect.DictType):
                return lambda message: dict(message.values)
            if isinstance(present[0], inspect.VarTupleType):
                return lambda message: tuple(message.values)
            return _reader(present[0])
    return None


def _struct_reader(info: inspect.StructType) -> Reader:
    readers = {field.name: _reader(field.type) for field in info.fields}
    blanks: dict[type, object] = {inspect.StrType: "", inspect.BytesType: b"", inspect.IntType: 0}
    required = {field.name: type(field.type) for field in info.fields if field.required}
    empty = {name: blanks[kind] for name, kind in required.items() if kind in blanks}
    needed = [name for name in required if name not in empty]

    def read(message: Message) -> Any:
        values: dict[str, Any] = dict(empty)
        name = ""
        try:
            for field, item in message.ListFields():
                name = field.name
                convert = readers[name]
                values[name] = item if convert is None else convert(item)
            for name in needed:
                if name not in values:
                    raise Refused(MISSING, "a value", error=SpecDecodeError)
        except Refused as refused:
            refused.path.append(name)
            raise
        return info.cls(**values)

    return read


def _enum_reader(cls: type[enum.Enum]) -> Reader:
    members = {number: member for member, number in _NUMBERS[cls].items()}

    def read(number: int) -> enum.Enum:
        if number not in members:
            known = ", ".join(f"{number} ({member.name})" for number, member in members.items())
            raise Refused(number, f"one of {known}", error=SpecDecodeError)
        return members[number]

    return read


def _tuple_reader(convert: Reader | None) -> Reader:
    if convert is None:
        return tuple

    def read(items: Iterable[Message]) -> tuple[Any, ...]:
        values: list[Any] = []
        try:
            for item in items:
                values.append(convert(item))
        except Refused as refused:
            refused.path.append(f"[{len(values)}]")
            raise
        return tuple(values)

    return read


def _union_reader(kinds: Iterable[inspect.Type]) -> Reader:
    """Return the reader of a oneof; LocalRef has no field in it."""
    structs = [kind for kind in kinds if isinstance(kind, inspect.StructType) and kind.cls is not LocalRef]
    readers = {str(kind.tag): _struct_reader(kind) for kind in structs}

    def read(message: Message) -> Any:
        for field, item in message.ListFields():
            return readers[field.name](item)
        hint = "a newer rivers may know its kind"
        raise Refused(MISSING, "one of " + ", ".join(readers), hint=hint, error=SpecDecodeError)

    return read


_READERS: dict[type[Message], Reader] = {
    step_pb2.StepSpec: cast(Reader, _reader(inspect.type_info(StepSpec))),
    step_pb2.StepEvent: cast(Reader, _reader(inspect.type_info(StepEvent))),
}


def _table(descriptor: Any) -> Table:
    """Return the fields of a message that hold messages, by number, for `_scan`."""
    return {field.number: _table(field.message_type) if field.message_type else None for field in descriptor.fields}


_TABLES = {kind: _table(kind.DESCRIPTOR) for kind in _READERS}


def _scan(data: bytes, kind: type[Message]) -> None:
    """Raise if there are more fields than `LIMITS.nodes`, before protobuf builds them; the schema bounds the depth.

    No field takes less than two bytes, so most specs pass at the first look.
    """
    if len(data) <= 2 * LIMITS.nodes:
        return
    try:
        _walk(data, _TABLES[kind])
    except IndexError:
        raise SpecDecodeError("the bytes end in the middle of a field") from None


def _walk(data: bytes, table: Table) -> None:
    at, end, fields = 0, len(data), 0
    outer: list[tuple[int, Table]] = []
    while at < end or outer:
        if at >= end:
            end, table = outer.pop()
            continue
        fields += 1
        if fields > LIMITS.nodes:
            raise too_many_values()
        tag, at = _varint(data, at)
        wire = tag & 7
        if wire == 2:
            length, at = _varint(data, at)
            child = table.get(tag >> 3)
            if child is None:
                at += length
            else:
                outer.append((end, table))
                end, table = min(at + length, end), child
        elif wire in (0, 1, 5):
            at = _varint(data, at)[1] if wire == 0 else at + (8 if wire == 1 else 4)
        else:
            raise SpecDecodeError("a protobuf group, which the protocol does not have")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise SpecDecodeError("a protobuf number of more than 64 bits")
