"""Pickles with their large buffers beside them, so that those are neither copied into a pickle nor out of it.

Protocol 5 leaves out what an object hands over as a buffer: numpy's arrays, Arrow's and so pandas' columns. A `bytes`
object must own its memory, so it is copied once when it is loaded; in the pickle it would be copied twice more.
"""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Iterable
from typing import Any

__all__ = ["deserialize", "serialize"]

_LARGE = 1 << 16
"""`bytes` from this size on are left out of the pickle; below, that costs more than the copies."""


class _Beside:
    """Stands for a large `bytes` or `bytearray` in a pickle; unpickled, it is made of the buffer."""

    def __init__(self, value: bytes | bytearray) -> None:
        self._value = value

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self._value), (pickle.PickleBuffer(self._value),)


def serialize(value: Any) -> tuple[bytes, list[memoryview]]:
    """The pickle of a value and the buffers that belong to it.

    Classes and functions of `__main__`, which another process cannot import, go into the pickle by cloudpickle, where
    that is installed; it gives a process its own class back. So do local ones, which pickle refuses.

    Raises:
        Exception: what pickling raises; it runs what the value's classes ask for.
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
    beside = _Buffers()
    return by_value.dumps(value, protocol=5, buffer_callback=beside), beside.found


def deserialize(stream: bytes | memoryview, buffers: Iterable[memoryview]) -> Any:
    """The value again; what was made of buffers looks into them.

    Raises:
        Exception: what unpickling raises; it runs what the value's classes ask for.
    """
    # Only what this user's own processes have stored comes here: the folder is closed to others.
    return pickle.loads(stream, buffers=buffers)  # noqa: S301


class _Buffers:
    """Takes the buffers that pickling leaves out; one with gaps in memory it sends back into the pickle."""

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
