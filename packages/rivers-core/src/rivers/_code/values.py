"""Plain values as text that is the same in every process."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import pathlib
import re
import types
import typing
import uuid
from array import array
from collections import ChainMap, defaultdict, deque
from collections.abc import Callable, Collection
from functools import cached_property
from inspect import getattr_static, signature
from typing import Any

from pydantic import BaseModel

__all__ = ["UnknownValueError", "ValueEncoder"]


@dataclasses.dataclass
class _Made:
    """A class whose `__init__` has the default that stands for a factory."""

    items: list[str] = dataclasses.field(default_factory=list)


MOST_ITEMS = 100_000
"""Items of all containers within one value; a larger one is known by the statement that makes it."""
_SUBCLASSED: tuple[type, ...] = (
    int,
    float,
    complex,
    str,
    bytes,
    bytearray,
    dt.date,
    dt.time,
    dt.timedelta,
    decimal.Decimal,
)
# The type of each is exact: a subclass may have code and fields of its own.
_BY_REPR = frozenset(
    {
        type(None),
        type(...),
        type(NotImplemented),
        *_SUBCLASSED,
        bool,
        range,
        fractions.Fraction,
        dt.datetime,
        dt.timezone,
        uuid.UUID,
        pathlib.PurePosixPath,
        pathlib.PureWindowsPath,
        pathlib.PosixPath,
        pathlib.WindowsPath,
        typing.TypeVar,
        # The class statement has the factory itself.
        type(signature(_Made).parameters["items"].default),
    }
)
# Other containers, as plain ones.
_AS_PLAIN: dict[type[Any], Callable[[Any], Any]] = {
    deque: lambda found: (found.maxlen, list(found)),
    array: lambda found: (found.typecode, found.tolist()),
    ChainMap: lambda found: found.maps,
    types.MappingProxyType: dict,
    types.SimpleNamespace: vars,
}
_CONTAINERS: tuple[type[Any], ...] = (dict, set, frozenset, list, tuple)


class UnknownValueError(Exception):
    """The error of a value that is no plain one; its text says so without the value."""


class ValueEncoder:
    """An encoder of values; `encode_object` returns the text of functions, classes and modules, else None."""

    def __init__(self, encode_object: Callable[[Any], str | None]) -> None:
        self._encode_object = encode_object
        self._open: set[int] = set()
        self._items = 0

    def encode(self, value: Any) -> str:
        """Return a value as text.

        Raises:
            UnknownValueError: it is not made of plain values, or has too many.
        """
        if type(value) in _BY_REPR:
            return f"{type(value).__name__} {value!r}"
        if id(value) in self._open:
            raise UnknownValueError("a value that contains itself")
        self._open.add(id(value))
        try:
            return self._encode(value)
        finally:
            self._open.discard(id(value))
            if not self._open:
                self._items = 0

    def _encode(self, value: Any) -> str:
        if isinstance(value, enum.Enum):
            return f"{self.encode(type(value))}.{value.name}"
        found = self._container(value)
        if found is None:
            found = self._encode_object(value)
        if found is None:
            found = self._record(value)
        if found is None:
            found = self._subclassed(value)
        if found is None:
            cls = type(value)
            raise UnknownValueError(f"a {cls.__module__}.{cls.__qualname__} is no plain value")
        return found

    def _container(self, value: Any, kind: type | None = None) -> str | None:
        kind = kind or type(value)
        if kind is tuple or kind is list:
            self._count(len(value))
            return f"{kind.__name__} [{', '.join([self.encode(item) for item in kind.__iter__(value)])}]"
        if kind is dict:
            self._count(len(value))
            items = [f"{self.encode(key)}: {self.encode(item)}" for key, item in dict.items(value)]
            return f"dict {{{', '.join(items)}}}"
        if kind is set or kind is frozenset:
            self._count(len(value))
            # The order of a set differs from process to process.
            return f"{kind.__name__} {{{', '.join(sorted([self.encode(item) for item in kind.__iter__(value)]))}}}"
        if kind is re.Pattern:
            return f"pattern {value.pattern!r} {value.flags}"
        if kind is slice:
            return f"slice {self.encode((value.start, value.stop, value.step))}"
        if kind in _AS_PLAIN:
            return f"{kind.__name__} {self.encode(_AS_PLAIN[kind](value))}"
        return None

    def _record(self, value: Any) -> str | None:
        """Return an object that is known by its fields."""
        cls = type(value)
        if dataclasses.is_dataclass(cls):
            names: list[str] = [field.name for field in dataclasses.fields(cls)]
        elif isinstance(value, BaseModel):
            names = list(cls.model_fields)
        elif isinstance(value, tuple) and hasattr(cls, "_fields"):
            names = list(cls._fields)
        else:
            return None
        self._count(len(names))
        fields = [f"{name}={self.encode(getattr(value, name, None))}" for name in names]
        return f"{self.encode(cls)}({', '.join(fields)}){self._state(value, names)}"

    def _subclassed(self, value: Any) -> str | None:
        """Return an object of a subclass of a plain type: its class, its content and its own attributes."""
        cls = type(value)
        for kind in _CONTAINERS:
            if isinstance(value, kind):
                factory = f" {self.encode(value.default_factory)}" if isinstance(value, defaultdict) else ""
                return f"{self.encode(cls)}{factory} {self._container(value, kind)}{self._state(value)}"
        for kind in _SUBCLASSED:
            if isinstance(value, kind):
                # By the class, too: a timestamp of pandas has nanoseconds, which a datetime has not.
                return f"{self.encode(cls)} {_write(kind)(value)} {value!r}{self._state(value)}"
        return None

    def _state(self, value: Any, fields: Collection[str] = ()) -> str:
        """Return what an object has beside its fields; "" for nothing."""
        cls = type(value)
        found: dict[str, Any] = {**getattr(value, "__dict__", {})}
        for more in ("__pydantic_extra__", "__pydantic_private__"):
            found |= getattr(value, more, None) or {}
        found |= {name: getattr(value, name) for name in _slots(cls) if hasattr(value, name)}
        own = [
            f"{name}={self.encode(one)}"
            for name, one in found.items()
            # What a cached property has computed is no more than what it is computed from.
            if name not in fields and not isinstance(getattr_static(cls, name, None), cached_property)
        ]
        return f" with {', '.join(own)}" if own else ""

    def _count(self, items: int) -> None:
        self._items += items
        if self._items > MOST_ITEMS:
            raise UnknownValueError(f"a value of more than {MOST_ITEMS:,} items")


def _write(kind: type[Any]) -> Callable[[Any], str]:
    write: Callable[[Any], str] = vars(kind)["__repr__"]
    return write


def _slots(cls: type) -> list[str]:
    """Return the attributes that an object has instead of a `__dict__`; those of pydantic's models are no fields."""
    if issubclass(cls, BaseModel):
        return []
    found: list[str] = []
    for one in cls.__mro__:
        slots = vars(one).get("__slots__", ())
        for name in [slots] if isinstance(slots, str) else slots:
            is_private = name.startswith("__") and not name.endswith("__")
            found.append(f"_{one.__name__.lstrip('_')}{name}" if is_private else name)
    return [name for name in found if not name.startswith("__")]
