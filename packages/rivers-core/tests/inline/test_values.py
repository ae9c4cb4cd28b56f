"""The encoding of inline values: equal and of the same type, or refused, and never a pickle."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import datetime as dt
import decimal
import enum
import pickle
import sys
import uuid
import zoneinfo
from pathlib import PurePosixPath
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from rivers._io.inline.errors import InlineError, InlineTooLargeError
from rivers._io.inline.values import decode_value, encode_value
from rivers.protocol import LIMITS

zones = st.one_of(
    st.none(),
    st.just(dt.UTC),
    st.timedeltas(dt.timedelta(hours=-23), dt.timedelta(hours=23)).map(dt.timezone),
    st.just(dt.timezone(dt.timedelta(hours=1), "home")),
    st.sampled_from(["Europe/Berlin", "America/New_York"]).map(zoneinfo.ZoneInfo),
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
hashables = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.integers(-(2**80), 2**80),
        st.floats(allow_nan=False),
        texts,
        st.binary(max_size=20),
        st.complex_numbers(allow_nan=False),
        st.dates(),
        st.datetimes(timezones=zones, allow_imaginary=True),
        st.times(timezones=zones),
        st.timedeltas(),
        st.decimals(allow_nan=False),
        st.uuids(),
    ),
    lambda inner: st.lists(inner, max_size=3).map(tuple) | st.frozensets(inner, max_size=3),
    max_leaves=4,
)
values = st.recursive(
    hashables | st.sets(hashables, max_size=3) | st.binary(max_size=9).map(bytearray) | st.floats() | st.decimals(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(texts, inner, max_size=4)
        | st.dictionaries(hashables, inner, max_size=3)
    ),
    max_leaves=8,
)


def written(value: Any) -> Any:
    """A value as text in which each type, sign, NaN, fold, zone and order shows."""
    kind = type(value).__name__
    if isinstance(value, dict):
        return kind, [(written(key), written(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return kind, [written(item) for item in value]
    if isinstance(value, set | frozenset):
        return kind, sorted(map(repr, map(written, value)))
    if isinstance(value, dt.datetime | dt.time):
        return kind, repr(value), value.fold
    return kind, repr(value)


@settings(max_examples=100, deadline=None)
@given(values)
def test_round_trip(value: Any) -> None:
    """A value comes back equal, part by part of the same type."""
    assert written(value) == written(decode_value(encode_value(value)))


def changed(parts: tuple[bytes, int, int]) -> bytes:
    """An encoding with one byte changed."""
    data, at, byte = parts
    at %= len(data)
    return data[:at] + bytes([byte]) + data[at + 1 :]


@settings(max_examples=60, deadline=None)
@given(
    st.binary(max_size=200)
    | st.tuples(values.map(encode_value), st.integers(0, 1000), st.integers(0, 255)).map(changed)
)
def test_any_bytes(data: bytes) -> None:
    """Bytes of a stranger are a value or an InlineError, and no other exception."""
    with contextlib.suppress(InlineError):
        decode_value(data)


@pytest.mark.parametrize(
    "value",
    [np.float64(1.5), np.int8(-3), np.bool_(True), np.datetime64("NaT"), np.timedelta64(3, "D"), np.complex64(1j)],
    ids=repr,
)
def test_numpy_scalar(value: Any) -> None:
    """A scalar of numpy, as it stands in a dict of metrics, comes back as one."""
    again = decode_value(encode_value({"mean": value}))["mean"]
    assert (type(value), value.dtype, value.tobytes()) == (type(again), again.dtype, again.tobytes())


@pytest.mark.parametrize(
    "value",
    [
        np.arange(6).reshape(2, 3),
        np.asfortranarray(np.ones((2, 3))),
        np.zeros((0, 3)),
        np.array(5.0),
        np.array(["a", "bcd"]),
        np.array([b"a", b"\0"]),
        np.array(["2020-01-01", "NaT"], "M8[s]"),
        np.arange(10, dtype=">i4")[::2],
    ],
    ids=lambda value: f"{value.dtype} {value.shape}",
)
def test_numpy_array(value: Any) -> None:
    """An array comes back with its dtype and shape, and can be written."""
    again = decode_value(encode_value(value))
    assert (value.dtype, value.shape, value.tobytes()) == (again.dtype, again.shape, again.tobytes())
    assert type(again) is np.ndarray
    assert again.flags.writeable


class Colour(enum.IntEnum):
    RED = 1


@dataclasses.dataclass
class Point:
    x: int = 1


class Zone(dt.tzinfo):
    pass


class Model(BaseModel):
    x: int = 1


Row = collections.namedtuple("Row", "x")
nested: list[Any] = []
nested.append(nested)


@pytest.mark.parametrize(
    ("value", "expected", "hint"),
    [
        (Colour.RED, "is a test_values.Colour", "its .value"),
        (Point(), "is a test_values.Point", "asdict"),
        (Model(), "is a test_values.Model", "model_dump"),
        (Row(1), "is a test_values.Row", "tuple"),
        (collections.OrderedDict(a=1), "is a collections.OrderedDict", "dict"),
        ({"a": [1, Point()]}, "has a test_values.Point at value['a'][1]", "asdict"),
        ({"hunter2-5b1f canary": Point()}, "has a test_values.Point at value[…]", "asdict"),
        (PurePosixPath("/a"), "is a pathlib.", None),
        (len, "is a builtin_function_or_method", None),
        ("\ud800", "is text with a lone surrogate, which is no Unicode", None),
        (nested, "nests more than 50 deep, or holds itself", None),
        (np.array([object()]), "has a numpy.ndarray of dtype object", "tolist"),
        (np.zeros(2, [("a", "i4")]), "has a numpy.ndarray of dtype", "tolist"),
        (np.ma.array([1]), "has a numpy.ma", "tolist"),
        (np.longdouble(1), "has a numpy.longdouble", "float"),
        (np.str_("x"), "has a numpy.str_", "str"),
        (dt.datetime(2020, 1, 1, tzinfo=Zone()), "has a test_values.Zone as its time zone", "zoneinfo"),
    ],
    ids=range(17),
)
def test_refused(value: Any, expected: str, hint: str | None) -> None:
    """What would come back as another value is refused: by type and position, and with what to return instead."""
    with pytest.raises(InlineError) as raised:
        encode_value(value)
    assert str(raised.value).replace(__name__, "test_values").startswith(expected)
    assert (hint is None) is (raised.value.hint is None)
    assert hint is None or hint in str(raised.value.hint)


doubled: list[Any] = []
for _ in range(45):
    doubled = [doubled, doubled]


@pytest.mark.parametrize(
    "value", ["x" * 40_000, [*range(40_000)], {"a": np.zeros(100_000)}, [b"x" * 1000] * 40, doubled], ids=range(5)
)
def test_too_large(value: Any) -> None:
    """A value above the limit is refused before it is copied, also one that is small in memory and huge written out."""
    with pytest.raises(InlineTooLargeError, match="32,768"):
        encode_value(value)


def test_largest() -> None:
    """A value of exactly the limit travels."""
    data = encode_value(bytes(LIMITS.inline - 3))
    assert LIMITS.inline == len(data)
    assert bytes(LIMITS.inline - 3) == decode_value(data)


class Exploit:
    """An object whose pickle runs code."""

    def __reduce__(self) -> Any:
        return pytest.fail, ("unpickled",)


def test_nothing_is_unpickled() -> None:
    """A pickle in any extension type is refused or stays bytes, and is not loaded."""
    exploit = pickle.dumps(Exploit())
    for data in (exploit, msgspec.msgpack.encode(exploit), msgspec.msgpack.encode([exploit, None])):
        for code in range(-128, 128):
            with contextlib.suppress(InlineError):
                decode_value(msgspec.msgpack.encode(msgspec.msgpack.Ext(code, data)))


def test_an_array_of_pointers() -> None:
    """The bytes of an array cannot be taken for addresses of objects."""
    parts = msgspec.msgpack.encode(["|O", [1], bytes(8)])
    with pytest.raises(InlineError):
        decode_value(msgspec.msgpack.encode(msgspec.msgpack.Ext(21, parts)))


def test_a_newer_type() -> None:
    """An extension type that a later rivers may add is refused by its number."""
    with pytest.raises(InlineError, match="extension type 99, which this rivers does not know"):
        decode_value(msgspec.msgpack.encode([msgspec.msgpack.Ext(99, b"")]))


def test_uuid() -> None:
    """A UUID is not taken for text."""
    value = uuid.uuid4()
    assert {value: decimal.Decimal("1.10")} == decode_value(encode_value({value: decimal.Decimal("1.10")}))


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """A value whose package is missing where it arrives is refused by that name."""
    data = encode_value({"a": np.int8(1)})
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(InlineError, match="needs the package numpy, which is not installed here"):
        decode_value(data)
