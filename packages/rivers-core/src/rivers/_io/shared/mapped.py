"""The files of the default store: a pickle and its buffers, written once, mapped into memory by whoever reads them.

    magic │ where the trailer begins │ size of the pickle │ buffers │ size of each │ pickle │ buffer │ … │ trailer
    8       8 bytes, little            8                    8         8              …        at a multiple of 64

A pointer, to a value in another place, has another magic and a path in the place of the pickle.

The trailer is that of all stored values (`trailer`), but its digest covers the header and not the value: this is memory
of one machine, and reading it all would cost more than everything else. So a file that is cut short, from elsewhere or
another key's is found, and a flipped bit is not.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
import weakref
from collections.abc import Sequence

from rivers._io.files.file_bytes import read_file
from rivers._io.files.trailer import Damaged, parse_names, seal, unseal
from rivers._io.files.value_files import Chunks

__all__ = ["lay_out", "lay_out_pointer", "map_file", "parse_pointer", "take_apart"]

_VALUE = b"RIVMAP1\n"
_POINTER = b"RIVPTR1\n"
_HEAD = struct.Struct("<8s3Q")
_ALIGNED = 64
"""What Arrow asks of its buffers, and a cache line; a map begins at a page."""
_SMALL = 65536
"""A file below this many bytes is read, not mapped: a map costs more than it saves, and there are 65,530 at most."""

_PADDING = bytes(_ALIGNED)
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_FAILED = ctypes.c_void_p(-1).value


def lay_out(
    stream: bytes, buffers: Sequence[memoryview], attempt_id: str, key: str, written: int | None = None
) -> Chunks:
    """A value's file in pieces; the buffers are not copied."""
    body: list[bytes | memoryview] = [stream]
    position = _HEAD.size + 8 * len(buffers) + len(stream)
    for buffer in buffers:
        gap = -position % _ALIGNED
        body += (_PADDING[:gap], buffer)
        position += gap + len(buffer)
    return _seal_file(_VALUE, body, position, [len(stream), *map(len, buffers)], attempt_id, key, written)


def lay_out_pointer(path: str, attempt_id: str, key: str, written: int | None = None) -> Chunks:
    """The file of a value that is in another place."""
    stream = os.fsencode(path)
    return _seal_file(_POINTER, [stream], _HEAD.size + len(stream), [len(stream)], attempt_id, key, written)


def parse_pointer(data: memoryview) -> str | None:
    """The path that a pointer leads to; None for a value, or for what is no file of this kind."""
    return os.fsdecode(bytes(_split(data)[1])) if data[: len(_POINTER)] == _POINTER else None


def take_apart(data: memoryview, key: str) -> tuple[memoryview, list[memoryview]]:
    """The pickle and the buffers of a value's file.

    Raises:
        Damaged: it is cut short, from elsewhere, or another key's.
    """
    header, stream, buffers, trailer = _split(data)
    try:
        unseal(memoryview(b"".join((header, trailer))), key)
    except Damaged:
        parse_names(data)  # says it better where the end is missing
        raise
    return stream, buffers


def map_file(path: str) -> memoryview | None:
    """A file's bytes, read-only and without a copy where it is large; None where there is no file.

    The map keeps the bytes when the file is removed, and holds no descriptor: thousands may be there at once.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        size = os.fstat(fd).st_size
        if size < _SMALL:
            return memoryview(os.read(fd, _SMALL))
        data = _map(fd, size)
    finally:
        os.close(fd)
    if data is None:  # too many maps, or a file system without them
        data = read_file(path)
    return None if data is None else data.toreadonly()


def _map(fd: int, size: int) -> memoryview | None:
    # Not by the module mmap: a map of that keeps a descriptor open, until Python 3.13 in any case.
    address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    if address == _FAILED:
        return None
    whole = (ctypes.c_ubyte * size).from_address(address)
    # At the end of the interpreter somebody may still look: then the map ends with the process.
    weakref.finalize(whole, _libc.munmap, address, size).atexit = False
    return memoryview(whole).cast("B")


def _seal_file(
    magic: bytes,
    body: list[bytes | memoryview],
    size: int,
    sizes: Sequence[int],
    attempt_id: str,
    key: str,
    written: int | None,
) -> Chunks:
    """Put header and trailer around a body that ends at `size`; `sizes` are those of the pickle and the buffers."""
    count = len(sizes) - 1
    header = struct.pack(f"{_HEAD.format}{count}Q", magic, size, sizes[0], count, *sizes[1:])
    return [header, *body, seal([header], attempt_id, key, written)]


def _split(data: memoryview) -> tuple[memoryview, memoryview, list[memoryview], memoryview]:
    """Header, pickle or path, buffers and trailer."""
    if len(data) < _HEAD.size:
        raise Damaged(f"{len(data):,} bytes, which is no value of this store: cut short, or from elsewhere")
    magic, size, first, count = _HEAD.unpack_from(data)
    if magic not in (_VALUE, _POINTER):
        raise Damaged(f"it begins with {magic!r}, not as values of this store do")
    position = _HEAD.size + 8 * count
    if position > size or size > len(data):
        raise Damaged(f"{len(data):,} bytes of {size:,} and a trailer: cut short")
    header, stream = data[:position], data[position : position + first]
    position += first
    buffers: list[memoryview] = []
    for length in struct.unpack_from(f"<{count}Q", data, _HEAD.size):
        position += -position % _ALIGNED
        buffers.append(data[position : position + length])
        position += length
    return header, stream, buffers, data[size:]
