"""Encode a small value as msgpack, and decode it to an equal one of the same type, without pickle.

What msgpack has no place for is an extension type, whose bytes are mostly msgpack again. msgspec alone would turn a
tuple into a list, a set into a list and a datetime into text. A value that would come back as another one is refused:
only exact types are encoded, never their subclasses. No error shows a value, as it may be a secret.

The bytes come from another process, and decoding them imports no module that they name: only numpy, pandas, pyarrow and
polars, by a fixed name for each extension type.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import uuid
import zoneinfo
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec
from pydantic import BaseModel

from rivers._io.inline.arrays import ARRAY_CODES, encode_array, read_array, read_scalar
from rivers._io.inline.errors import InlineError, InlineTooLargeError
from rivers._io.inline.frames import FRAME_CODES, encode_frame, read_frame
from rivers.protocol.limits import LIMITS

__all__ = ["decode_value", "encode_value"]

Pack: TypeAlias = Callable[[Any], Any]

_AS_THEY_ARE = frozenset({type(None), bool, float})
_DEPTH = 50
TUPLE, SET, FROZENSET, DICT, INT, COMPLEX, BYTEARRAY = range(1, 8)
DATETIME, DATE, TIME, TIMEDELTA, DECIMAL, UUID = range(8, 14)


def encode_value(value: object) -> bytes:
    """Return the encoding of a value.

    Raises:
        InlineError: it cannot come back as an equal value of the same type.
        InlineTooLargeError: its encoding is larger than `LIMITS.inline`.
    """
    data = _encode(_Packer().pack(value))
    if len(data) > LIMITS.inline:
        raise InlineTooLargeError(f"takes {len(data):,} bytes, more than {LIMITS.inline:,}")
    return data


def decode_value(data: bytes) -> Any:
    """Return the value of an encoding.

    Raises:
        InlineError: the bytes are none, or need a package that is not installed here.
    """
    try:
        return _DECODER.decode(data)
    except InlineError:
        raise
    except ImportError as error:
        raise InlineError(f"needs the package {error.name or '?'}, which is not installed here") from error
    except Exception as error:  # noqa: BLE001 - numpy, pyarrow and constructors raise what they like for hostile bytes
        # Their messages may quote the value.
        raise InlineError(f"cannot be decoded ({type(error).__name__})") from None


class _Packer:
    """The walk over a value; it knows where it is, for errors, and how much it has met."""

    def __init__(self) -> None:
        self._path: list[str] = []
        self._met = 0

    def pack(self, value: Any) -> Any:
        """Return what msgspec encodes without a loss."""
        # A value that is in the walk twice counts twice, so a small one that holds itself a million times ends it.
        self._met += 1
        if self._met > LIMITS.inline:
            raise InlineTooLargeError(f"holds more than {LIMITS.inline:,} values, each of a byte or more")
        kind = type(value)
        if kind in _AS_THEY_ARE:
            return value
        if kind is int:
            return value if -(1 << 63) <= value < 1 << 64 else _extend(INT, _encode(f"{value:x}"))
        if kind is str or kind is bytes or kind is bytearray:
            return self._pack_text(value)
        if len(self._path) >= _DEPTH:
            raise InlineError(f"nests more than {_DEPTH} deep, or holds itself")
        if kind is list:
            return [self._pack_item(f"[{at}]", item) for at, item in enumerate(value)]
        if kind is dict:
            return self._pack_dict(value)
        return self._pack_extension(value)

    def _pack_item(self, where: str, item: Any) -> Any:
        self._path.append(where)
        packed = self.pack(item)
        self._path.pop()
        return packed

    def _pack_text(self, value: str | bytes | bytearray) -> Any:
        self._met += len(value)
        if self._met > LIMITS.inline:
            raise InlineTooLargeError(f"holds more than {LIMITS.inline:,} bytes of text")
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:
                raise self._refusal("text with a lone surrogate, which is no Unicode") from None
        return _extend(BYTEARRAY, _encode(bytes(value))) if isinstance(value, bytearray) else value

    def _pack_dict(self, value: dict[Any, Any]) -> Any:
        if all(type(key) is str for key in value):
            return {self._pack_text(key): self._pack_item(f"[{_name(key)}]", item) for key, item in value.items()}
        pairs = [
            part
            for key, item in value.items()
            for part in (self._pack_item(".keys()", key), self._pack_item("[…]", item))
        ]
        return _extend(DICT, _encode(pairs))

    def _pack_extension(self, value: Any) -> Any:
        kind = type(value)
        if kind in _SEQUENCES:
            return _extend(
                _SEQUENCES[kind], _encode([self._pack_item(f"[{at}]", item) for at, item in enumerate(value)])
            )
        if kind in _ATOMS:
            code, take = _ATOMS[kind]
            return _extend(code, _encode(take(value)))
        try:
            found = encode_array(value) or encode_frame(value, self.pack)
            zoned = None if found is not None else _take_apart_time(value)
        except InlineError as error:
            raise type(error)(str(error) + self._where(), hint=error.hint) from error.__cause__
        if found is not None:
            code, parts = found
        elif zoned is not None:
            code, parts = zoned
        else:
            raise self._refusal(_describe(kind), _hint(value))
        return _extend(code, _encode(parts))

    def _refusal(self, what: str, hint: str | None = None) -> InlineError:
        where = self._where()
        return InlineError(f"has {what}{where}" if where else f"is {what}", hint=hint)

    def _where(self) -> str:
        return f" at value{''.join(self._path)}" if self._path else ""


def _name(key: str) -> str:
    """Return a dict's key for an error; what is no name may be a secret."""
    return repr(key) if key.isidentifier() and len(key) <= 40 else "…"


def _extend(code: int, data: bytes) -> msgspec.msgpack.Ext:
    return msgspec.msgpack.Ext(code, data)


_encode = msgspec.msgpack.Encoder().encode

_SEQUENCES: Mapping[type, int] = {tuple: TUPLE, set: SET, frozenset: FROZENSET}

# The parts that each type is made of, as msgspec encodes them without a loss.
_ATOMS: Mapping[type, tuple[int, Callable[[Any], Any]]] = {
    complex: (COMPLEX, lambda value: [value.real, value.imag]),
    dt.date: (DATE, lambda value: value.toordinal()),
    dt.timedelta: (TIMEDELTA, lambda value: [value.days, value.seconds, value.microseconds]),
    decimal.Decimal: (DECIMAL, str),
    uuid.UUID: (UUID, lambda value: value.bytes),
}


def _take_apart_time(value: Any) -> tuple[int, list[Any]] | None:
    """Return the parts of a datetime or a time; their zone is None, the parts of an offset, or a name of zoneinfo."""
    kind = type(value)
    if kind is not dt.datetime and kind is not dt.time:
        return None
    zone: Any = value.tzinfo
    if type(zone) is dt.timezone:
        offset = zone.utcoffset(None)
        # The second argument of timezone, None where there was none.
        zone = [offset.days, offset.seconds, offset.microseconds, *zone.__getinitargs__()[1:]]  # type: ignore[attr-defined]  # of pickle
    elif type(zone) is zoneinfo.ZoneInfo and zone.key is not None:
        zone = zone.key
    elif zone is not None:
        raise InlineError(f"has {_describe(type(zone))} as its time zone", hint="use datetime.timezone or zoneinfo")
    text = value.replace(tzinfo=None).isoformat()
    return DATETIME if kind is dt.datetime else TIME, [text, value.fold, zone]


# ── back ──


def _read(data: bytes | memoryview) -> Any:
    return _DECODER.decode(data)


def _read_list(data: bytes) -> list[Any]:
    found = _read(data)
    if type(found) is not list:
        raise InlineError("cannot be decoded (no list)")
    return found


def _read_time(kind: Any, data: bytes) -> Any:
    text, fold, zone = _read(data)
    if isinstance(zone, list):
        days, seconds, microseconds, *name = zone
        zone = dt.timezone(dt.timedelta(days, seconds, microseconds), *name)
    elif zone is not None:
        zone = zoneinfo.ZoneInfo(zone)
    return kind.fromisoformat(text).replace(fold=fold, tzinfo=zone)


def _read_dict(data: bytes) -> dict[Any, Any]:
    parts = _read_list(data)
    return dict(zip(parts[::2], parts[1::2], strict=True))


def _read_timedelta(data: bytes) -> dt.timedelta:
    days, seconds, microseconds = _read(data)
    return dt.timedelta(days, seconds, microseconds)


_READERS: Mapping[int, Callable[[bytes], Any]] = {
    TUPLE: lambda data: tuple(_read_list(data)),
    SET: lambda data: set(_read_list(data)),
    FROZENSET: lambda data: frozenset(_read_list(data)),
    DICT: _read_dict,
    INT: lambda data: int(_read(data), 16),
    COMPLEX: lambda data: complex(*_read(data)),
    BYTEARRAY: lambda data: bytearray(_read(data)),
    DATETIME: lambda data: _read_time(dt.datetime, data),
    DATE: lambda data: dt.date.fromordinal(_read(data)),
    TIME: lambda data: _read_time(dt.time, data),
    TIMEDELTA: _read_timedelta,
    DECIMAL: lambda data: decimal.Decimal(_read(data)),
    UUID: lambda data: uuid.UUID(bytes=_read(data)),
}


def _read_extension(code: int, data: memoryview) -> Any:
    reader = _READERS.get(code)
    if reader is not None:
        return reader(bytes(data))
    if code in ARRAY_CODES:
        parts = _read(data)
        return read_array(*parts) if len(parts) == 3 else read_scalar(*parts)
    if code in FRAME_CODES:
        return read_frame(code, _read(data))
    raise InlineError(f"has the extension type {code}, which this rivers does not know")


_DECODER: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(ext_hook=_read_extension)


# ── errors ──


def _describe(kind: type) -> str:
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"a {name}"


def _hint(value: object) -> str | None:
    """Return how to make plain data of a value that is nearly data."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return "return dataclasses.asdict(…)"
    if isinstance(value, BaseModel):
        return "return its model_dump()"
    if isinstance(value, enum.Enum):
        return "return its .value"
    if isinstance(value, msgspec.Struct):
        return "return msgspec.to_builtins(…)"
    if isinstance(value, dt.datetime):
        return "return a datetime.datetime, such as its to_pydatetime()"
    for base in (dict, list, tuple, set, frozenset, str, int, float, bytes):
        if isinstance(value, base):
            return f"return {base.__name__}(…), as a subclass would not come back"
    return None
