"""Pickles with large buffers out of band (PEP 574), which copies them neither into the pickle nor out of it.

Protocol 5 leaves out the buffers of numpy's arrays and Arrow's columns, pandas' included. A `bytes` object must own its
memory, so it is copied once when it is loaded; in the pickle it would be copied twice more.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Iterable
from typing import Any

__all__ = ["deserialize", "serialize"]

# Smaller `bytes` stay in the pickle, as leaving them out costs more than the copies.
_LARGE = 1 << 16


class _Beside:
    """A stand-in for a large `bytes` or `bytearray`, which unpickles from the buffer."""

    def __init__(self, value: bytes | bytearray) -> None:
        self._value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self._value), (pickle.PickleBuffer(self._value),)


def serialize(value: Any) -> tuple[bytes, list[memoryview]]:
    """Return the pickle of a value and its buffers.

    cloudpickle, if it is installed, pickles classes and functions of `__main__`, which another process cannot import,
    and local ones, which pickle refuses.

    Raises:
        Exception: any error of pickling, which runs code of the value's classes.
    """
    kind = type(value)
    if (kind is bytes or kind is bytearray) and len(value) >= _LARGE:
        value = _Beside(value)
    beside = _Buffers()
    try:
        stream = pickle.dumps(value, 5, buffer_callback=beside)
    except (pickle.PicklingError, AttributeError):
        by_value = _cloudpickle()
        if by_value is None:
            raise
    else:
        by_value = _cloudpickle() if b"__main__" in stream else None
        if by_value is None:
            return stream, beside.found
    # The first attempt has left its buffers in the old collector.
    beside = _Buffers()
    return by_value.dumps(value, protocol=5, buffer_callback=beside), beside.found


def deserialize(stream: bytes | memoryview, buffers: Iterable[memoryview]) -> Any:
    """Return the value; its arrays are views of the buffers.

    Raises:
        Exception: any error of unpickling, which runs code of the value's classes.
    """
    # Only processes of this user have stored it: the folder is closed to others.
    return pickle.loads(stream, buffers=buffers)  # noqa: S301


class _Buffers:
    """A `buffer_callback` that collects contiguous buffers and leaves others in the pickle."""

    def __init__(self) -> None:
        self.found: list[memoryview] = []

    def __call__(self, buffer: pickle.PickleBuffer) -> bool:
        try:
            self.found.append(buffer.raw())
        except BufferError:
            return True
        return False


def _cloudpickle() -> Any:
    try:
        return importlib.import_module("cloudpickle")
    except ImportError:
        return None
