"""Pickles in pieces: made without a copy of large buffers, and read again without one."""

from __future__ import annotations

import pickle
from io import BufferedReader
from typing import Any

from rivers._io.files.trailer import TAIL_BYTES, Trailer, unseal
from rivers._io.files.value_files import Chunks

__all__ = ["check_value", "pickle_chunks", "unpickle"]

_PIECE = 1 << 18
"""Bytes that are checked at a time: they stay in the processor's cache, so the check costs little more than a read."""


def pickle_chunks(value: Any) -> Chunks:
    """Return the pickle (protocol 5) of a value in pieces; those of 64 KiB and more are the value's own memory.

    Raises:
        Exception: what pickling raises; it runs what the value's classes ask for.
    """
    pieces = _Pieces()
    pickle.dump(value, pieces, 5)
    return pieces.found


def check_value(data: memoryview | BufferedReader, key: str) -> memoryview | BufferedReader:
    """Return the pickle in a value's bytes or in its open file, which is closed where that fails.

    Raises:
        Damaged: a byte is missing, added or changed, or it is another key's value.
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
        Exception: what unpickling raises; it runs what the value's classes ask for.
    """
    # The store is trusted as code is; the checksum finds damage, and does not tell friend from foe.
    if isinstance(data, memoryview):
        return pickle.loads(data)  # noqa: S301
    with data as file:
        # A stored file is never written again, so these are the bytes that were checked; large ones are read to where
        # they stay.
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
            break  # cut off while it is read: the checksum differs
        trailer.checksum.update(piece[:count])
        left -= count
    trailer.check(key)


class _Pieces:
    """A file for pickle to write to, which keeps what it is given."""

    def __init__(self) -> None:
        self.found: list[bytes | memoryview] = []

    def write(self, data: bytes | pickle.PickleBuffer) -> None:
        # The pickler hands over large bytes and buffers as they are.
        self.found.append(data.raw() if isinstance(data, pickle.PickleBuffer) else data)
