"""The msgpack codec of specs and events, with checks of version and limits on both sides.

    bytes ──▶ size ──▶ scan ──▶ version ──▶ typed decode ──▶ limits of fields ──▶ StepSpec
                       depth, number of values: before an object is built

Decoding raises only `SpecDecodeError` and its children, whatever the bytes hold, and imports nothing.
"""

from __future__ import annotations

import msgspec

from rivers.exceptions import SpecDecodeError, SpecTooDeepError, SpecTooLargeError, SpecVersionError
from rivers.protocol.limits import LIMITS, Limits
from rivers.protocol.ref_table import encode_with_table, restore_refs
from rivers.protocol.result import LogRecord, StepEvent, StepResult, StepStarted
from rivers.protocol.spec import PROTOCOL_VERSION, StepSpec
from rivers.protocol.struct_checks import check_limits

__all__ = [
    "LIMITS",
    "Limits",
    "check_size",
    "check_version",
    "decode_error",
    "decode_event",
    "decode_spec",
    "encode_event",
    "encode_spec",
    "too_many_values",
]


class _Version(msgspec.Struct):
    protocol_version: int = PROTOCOL_VERSION


_ENCODER = msgspec.msgpack.Encoder()
_encode_plain = _ENCODER.encode
_VERSION = msgspec.msgpack.Decoder(_Version)
_SPEC = msgspec.msgpack.Decoder(StepSpec)
_EVENT: msgspec.msgpack.Decoder[StepEvent] = msgspec.msgpack.Decoder(StepEvent)

DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, MemoryError, OverflowError)
"""The errors of msgspec on hostile bytes, found by fuzzing; a third of the mutants end in UnicodeDecodeError."""


def encode_spec(spec: StepSpec) -> bytes:
    """Encode a spec as msgpack, within the limits that `decode_spec` enforces.

    Raises:
        SpecTooLargeError: more than `LIMITS.size` bytes or `LIMITS.nodes` values; the message names the
            biggest field.
        SpecLimitError: a field is outside its limit, or holds a LocalRef.
        SpecDecodeError: the value of a field is not of its type.
    """
    if not isinstance(spec, StepSpec):
        raise TypeError(f"encode_spec takes a StepSpec, not {type(spec).__name__}")
    data = _encode(spec)
    check_version(spec.protocol_version)
    return data


def decode_spec(data: bytes) -> StepSpec:
    """Decode a spec from msgpack; unknown fields are ignored, left-out ones take their defaults.

    Raises:
        SpecVersionError: the peer speaks another major version of the protocol.
        SpecTooLargeError, SpecTooDeepError: it exceeds `LIMITS`; found before any object is built.
        SpecLimitError: a field is outside its limit; the message names it, and what is expected.
        SpecDecodeError: the bytes are no msgpack, or no spec.
    """
    # The bytes are hostile until proven otherwise: bound the size and depth before msgspec builds an object.
    check_size(len(data))
    _scan(data)
    try:
        # A version error comes before errors of fields, which a peer of another major version causes.
        check_version(_VERSION.decode(data).protocol_version)
        spec = _SPEC.decode(data)
    except DECODE_ERRORS as error:
        raise decode_error("StepSpec", error) from None
    # Only a spec of many or large refs has a table; peers of protocol 1.0 never send one.
    if spec.refs:
        spec = restore_refs(spec)
    check_limits(spec)
    return spec


def encode_event(event: StepEvent) -> bytes:
    """Encode an event or a result as msgpack; raises as `encode_spec` does."""
    if not isinstance(event, StepStarted | LogRecord | StepResult):
        raise TypeError(f"encode_event takes a StepStarted, LogRecord or StepResult, not {type(event).__name__}")
    return _encode(event)


def decode_event(data: bytes) -> StepEvent:
    """Decode an event or a result from msgpack; raises as `decode_spec` does, but for the version."""
    check_size(len(data))
    _scan(data)
    try:
        event = _EVENT.decode(data)
    except DECODE_ERRORS as error:
        raise decode_error("StepEvent", error) from None
    check_limits(event)
    return event


def check_size(size: int, value: StepSpec | StepEvent | None = None) -> None:
    """Raise SpecTooLargeError above `LIMITS.size` bytes; the message names the biggest field of a given `value`."""
    if size <= LIMITS.size:
        return
    raise SpecTooLargeError(
        f"{size} bytes: expected at most {LIMITS.size}{_name_biggest_field(value)}",
        hint="pass large values as assets or files: a spec or a result has only names and settings",
    )


def too_many_values(value: StepSpec | StepEvent | None = None) -> SpecTooLargeError:
    """Return the error for more than `LIMITS.nodes` values; the message names the biggest field of a given `value`."""
    return SpecTooLargeError(
        f"more than {LIMITS.nodes} values{_name_biggest_field(value)}",
        hint="split the step, or collect fewer mapping keys at once",
    )


def check_version(version: int) -> None:
    """Raise SpecVersionError if the peer's major version is not ours."""
    if version == PROTOCOL_VERSION:
        return
    older = "this side" if version > PROTOCOL_VERSION else "the other side"
    raise SpecVersionError(
        f"the spec has protocol version {version}; this side speaks version {PROTOCOL_VERSION}",
        hint=f"{older} is older: install the same version of rivers-core in the controller and in the worker",
    )


def decode_error(what: str, error: BaseException) -> SpecDecodeError:
    """Return the error for bytes that a decoder refused, with its message."""
    # msgspec may quote a megabyte of the bytes.
    text = str(error) or type(error).__name__
    return SpecDecodeError(f"no {what}: {text if len(text) <= 300 else text[:200] + '…' + text[-80:]}")


def _encode(value: StepSpec | StepEvent) -> bytes:
    try:
        data = encode_with_table(value, _encode_plain, len) if isinstance(value, StepSpec) else _encode_plain(value)
    except (AttributeError, TypeError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        # Names a field of a wrong type, which the encoder does not.
        check_limits(value)
        raise decode_error(type(value).__name__, error) from None
    check_size(len(data), value)
    check_limits(value)
    try:
        _scan(data)
    except SpecTooLargeError:
        raise too_many_values(value) from None
    return data


def _name_biggest_field(value: StepSpec | StepEvent | None) -> str:
    if value is None:
        return ""
    sizes = {name: len(_ENCODER.encode(getattr(value, name))) for name in value.__struct_fields__}
    name = max(sizes, key=sizes.__getitem__)
    return f"; the biggest field is {name} with {sizes[name]} bytes"


def _fixed_sizes() -> list[int]:
    """Return the size of a msgpack value by its first byte, 0 where the following bytes say it."""
    sizes = [1] * 256
    sizes[0x80:0xA0] = [0] * 32  # fixmap, fixarray
    sizes[0xA0:0xC0] = range(1, 33)  # fixstr
    sizes[0xC4:0xCA] = [0] * 6  # bin, ext
    sizes[0xCA:0xD4] = [5, 9, 2, 3, 5, 9, 2, 3, 5, 9]  # float, uint, int
    sizes[0xD4:0xD9] = [3, 4, 6, 10, 18]  # fixext
    sizes[0xD9:0xE0] = [0] * 7  # str, array, map
    return sizes


_FIXED = _fixed_sizes()
# Bytes of the length that follows, for str, bin and ext; an ext has one more for its type.
_LENGTH = {0xC4: 1, 0xC5: 2, 0xC6: 4, 0xC7: 1, 0xC8: 2, 0xC9: 4, 0xD9: 1, 0xDA: 2, 0xDB: 4}
_COUNT = {0xDC: 2, 0xDD: 4, 0xDE: 2, 0xDF: 4}
_NO_CONTAINER = bytes(byte for byte in range(256) if not (0x80 <= byte <= 0x9F or byte in _COUNT))


def _scan(data: bytes) -> None:
    """Raise if the bytes nest deeper or hold more values than `LIMITS`; recurse nowhere and build no object."""
    # Most specs pass here: a value takes at least a byte, and a container at least a byte that can open one.
    if len(data) <= LIMITS.nodes and len(data.translate(None, _NO_CONTAINER)) <= LIMITS.depth:
        return
    try:
        _walk(data)
    except IndexError:
        raise SpecDecodeError("the bytes end in the middle of a value") from None


def _walk(data: bytes) -> None:
    at, left, nodes, size = 0, 1, 1, len(data)
    # A stack of our own: recursion could overflow on nested containers.
    outer: list[int] = []
    while left or outer:
        if not left:
            left = outer.pop()
            continue
        left -= 1
        head = data[at]
        if step := _FIXED[head]:
            at += step
        elif width := _LENGTH.get(head):
            at += 1 + width + int.from_bytes(data[at + 1 : at + 1 + width], "big") + (0xC7 <= head <= 0xC9)
        else:
            width = _COUNT.get(head, 0)
            count = int.from_bytes(data[at + 1 : at + 1 + width], "big") if width else head & 0x0F
            # A map counts pairs; the scan counts keys and values.
            if head >= 0xDE or head <= 0x8F:
                count *= 2
            at += 1 + width
            # Each value takes at least a byte, so a larger count is a lie and would cost memory for nothing.
            if count > size - at:
                raise SpecDecodeError(f"a container declares {count} values where {max(size - at, 0)} bytes are left")
            nodes += count
            if nodes > LIMITS.nodes:
                raise too_many_values()
            if count:
                outer.append(left)
                left = count
                if len(outer) > LIMITS.depth:
                    raise SpecTooDeepError(f"containers are nested more than {LIMITS.depth} deep")
