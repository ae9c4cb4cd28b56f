"""Encode arrays and scalars of numpy as their bytes; arrays of objects, records and long doubles are refused."""

from __future__ import annotations

import importlib
import sys
from typing import Any

from rivers._io.inline.errors import InlineError, InlineTooLargeError
from rivers.protocol.limits import LIMITS

__all__ = ["ARRAY_CODES", "encode_array", "read_array", "read_scalar"]

SCALAR, ARRAY = 20, 21
ARRAY_CODES = frozenset({SCALAR, ARRAY})
# Booleans, integers, floats, complex numbers, times; and texts, of arrays.
_NUMBERS, _TEXTS = "biufcmM", "US"
_ARRAY_HINT = "an array of numbers, times or texts, or its tolist()"
_SCALAR_HINT = "str(…), float(…) or int(…)"


def encode_array(value: Any) -> tuple[int, list[Any]] | None:
    """Return the extension code and the parts of a numpy array or scalar; None for anything else.

    Raises:
        InlineError: its elements are no plain data, or more than travel inline.
    """
    numpy = sys.modules.get("numpy")
    if numpy is None or not isinstance(value, numpy.ndarray | numpy.generic):
        return None
    dtype = value.dtype
    is_array = type(value) is numpy.ndarray
    kinds = _NUMBERS + _TEXTS if is_array else _NUMBERS
    # An extended float has another size on each machine.
    is_plain = dtype.kind in kinds and dtype.metadata is None and not (dtype.kind in "fc" and dtype.itemsize > 16)
    if not is_plain or dtype.char in "gG" or not (is_array or type(value) is dtype.type):
        raise InlineError(
            f"has a {type(value).__module__}.{type(value).__qualname__} of dtype {dtype.name}",
            hint=f"return {_ARRAY_HINT if isinstance(value, numpy.ndarray) else _SCALAR_HINT}",
        )
    if value.nbytes > LIMITS.inline:
        raise InlineTooLargeError(f"has an array of {value.nbytes:,} bytes, more than {LIMITS.inline:,}")
    if is_array:
        return ARRAY, [dtype.str, list(value.shape), value.tobytes()]
    return SCALAR, [dtype.str, value.tobytes()]


def read_array(code: str, shape: list[int], data: bytes) -> Any:
    """Return the array, which owns its memory."""
    numpy = importlib.import_module("numpy")
    # A bytearray: an array over `bytes` could not be written.
    return numpy.ndarray(tuple(shape), _plain_dtype(numpy, code), bytearray(data))


def read_scalar(code: str, data: bytes) -> Any:
    """Return the scalar."""
    numpy = importlib.import_module("numpy")
    return numpy.ndarray((), _plain_dtype(numpy, code), data)[()]


def _plain_dtype(numpy: Any, code: str) -> Any:
    dtype = numpy.dtype(code)
    # An array of objects over given bytes would hold any address as a pointer.
    if dtype.kind not in _NUMBERS + _TEXTS:
        raise InlineError("is an array of other than numbers, times and texts")
    return dtype
