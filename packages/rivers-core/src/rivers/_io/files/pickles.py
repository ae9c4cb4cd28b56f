"""Pickles in pieces, written and read without a copy of large buffers."""

from __future__ import annotations

import pickle
from io import BufferedReader
from typing import Any

from rivers._io.files.trailer import TAIL_BYTES, Trailer, unseal
from rivers._io.files.value_files import Chunks

__all__ = ["check_value", "pickle_chunks", "unpickle"]

# Bytes to check at a time: they stay in the processor's cache, so that the check costs little more than the read.
_PIECE = 1 << 18


def pickle_chunks(value: Any) -> Chunks:
    """Return the pickle (protocol 5) of a value in pieces; pieces of 64 KiB and more are the value's own memory.

    Raises:
        Exception: any error of pickling, which runs code of the value's classes.
    """
    pieces = _Pieces()
    pickle.dump(value, pieces, 5)
    return pieces.found


def check_value(data: memoryview | BufferedReader, key: str) -> memoryview | BufferedReader:
    """Return the pickle in a value's bytes or in its open file, which is closed on an error.

    Raises:
        Damaged: a byte is missing, added or changed, or it is the value of another key.
        OSError: the file cannot be read.
    """
    if isinstance(data, memoryview):
        return unseal(data, key)
    try:
        _check(data, key)
        data.seek(0)
    except BaseException:
        data.close()
        raise
    return data


def unpickle(data: memoryview | BufferedReader) -> Any:
    """Return the value that `check_value` has checked, and close the file.

    Raises:
        Exception: any error of unpickling, which runs code of the value's classes.
    """
    # The store is trusted like code: the checksum finds damage, not an attacker.
    if isinstance(data, memoryview):
        return pickle.loads(data)  # noqa: S301
    with data as file:
        # A stored file is never written again, so these are the bytes that were checked. pickle reads large buffers
        # directly into the memory of the arrays.
        return pickle.load(file)  # noqa: S301


def _check(file: BufferedReader, key: str) -> None:
    size = file.seek(0, 2)
    file.seek(max(0, size - TAIL_BYTES))
    trailer = Trailer(memoryview(file.read(TAIL_BYTES)), size)
    file.seek(0)
    piece = memoryview(bytearray(_PIECE))
    left = trailer.covered
    while left:
        count = file.raw.readinto(piece[:left])
        if not count:
            # Truncated meanwhile: the checksum will differ.
            break
        trailer.checksum.update(piece[:count])
        left -= count
    trailer.check(key)


class _Pieces:
    """A writable file for pickle that collects the pieces."""

    def __init__(self) -> None:
        self.found: list[bytes | memoryview] = []

    def write(self, data: bytes | pickle.PickleBuffer) -> None:
        # CPython's pickler passes bytes and buffers from 64 KiB on without a copy.
        self.found.append(data.raw() if isinstance(data, pickle.PickleBuffer) else data)
