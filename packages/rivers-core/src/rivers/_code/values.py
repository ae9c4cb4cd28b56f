"""Plain values as text that is the same in every process."""

from __future__ import annotations

import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import pathlib
import re
import typing
import uuid
from collections.abc import Callable
from typing import Any

from pydantic import BaseModel

__all__ = ["UnknownValueError", "ValueEncoder"]

MOST_ITEMS = 100_000
"""Items of all containers within one value; a larger one is known by the statement that makes it."""
_BY_REPR = (
    type(None),
    type(...),
    type(NotImplemented),
    bool,
    int,
    float,
    complex,
    str,
    bytes,
    bytearray,
    range,
    decimal.Decimal,
    fractions.Fraction,
    dt.date,
    dt.time,
    dt.timedelta,
    dt.timezone,
    uuid.UUID,
    pathlib.PurePath,
    typing.TypeVar,
)


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
        if isinstance(value, _BY_REPR) and not isinstance(value, enum.Enum):
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
            cls = type(value)
            raise UnknownValueError(f"a {cls.__module__}.{cls.__qualname__} is no plain value")
        return found

    def _container(self, value: Any) -> str | None:
        if type(value) in (tuple, list):
            self._count(len(value))
            return f"{type(value).__name__} [{', '.join([self.encode(item) for item in value])}]"
        if isinstance(value, dict):
            self._count(len(value))
            items = [f"{self.encode(key)}: {self.encode(item)}" for key, item in value.items()]
            return f"{type(value).__name__} {{{', '.join(items)}}}"
        if isinstance(value, set | frozenset):
            self._count(len(value))
            # The order of a set differs from process to process.
            return f"{type(value).__name__} {{{', '.join(sorted([self.encode(item) for item in value]))}}}"
        if isinstance(value, re.Pattern):
            return f"pattern {value.pattern!r} {value.flags}"
        if isinstance(value, slice):
            return f"slice {self.encode((value.start, value.stop, value.step))}"
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
        return f"{self.encode(cls)}({', '.join(fields)})"

    def _count(self, items: int) -> None:
        self._items += items
        if self._items > MOST_ITEMS:
            raise UnknownValueError(f"a value of more than {MOST_ITEMS:,} items")
