"""The file format of the default store: a pickle and its buffers, written once and mapped by its readers.

    magic │ offset of the trailer │ size of the pickle │ buffers │ size of each │ pickle │ buffer │ … │ trailer
    8       8 bytes, little         8                    8         8              …        at a multiple of 64

A pointer, to a value in another folder, has another magic and a path in place of the pickle.

The trailer is that of all stored values (`trailer`), but its checksum covers the header only: this is memory of one
machine, and reading all of it would cost more than everything else. So a file that is cut short, from elsewhere or of
another key is found, but not a flipped bit.
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
from rivers._io.memo import Memo

__all__ = ["lay_out", "lay_out_pointer", "map_file", "parse_pointer", "take_apart"]

_VALUE = b"RIVMAP1\n"
_POINTER = b"RIVPTR1\n"
_HEAD = struct.Struct("<8s3Q")
# The alignment that Arrow recommends for buffers, and a cache line; a map begins at a page.
_ALIGNED = 64
# Smaller files are read, not mapped: a map costs more than it saves, and Linux allows a process 65,530 of them.
_SMALL = 65536

_PADDING = bytes(_ALIGNED)
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long)
_libc.munmap.argtypes = (ctypes.c_void_p, ctypes.c_size_t)
_FAILED = ctypes.c_void_p(-1).value


def lay_out(
    stream: bytes,
    buffers: Sequence[memoryview],
    attempt_id: str,
    key: str,
    written: int | None = None,
    memo: Memo | None = None,
) -> Chunks:
    """Return a value's file in pieces, without copying the buffers."""
    body: list[bytes | memoryview] = [stream]
    position = _HEAD.size + 8 * len(buffers) + len(stream)
    for buffer in buffers:
        gap = -position % _ALIGNED
        body += (_PADDING[:gap], buffer)
        position += gap + len(buffer)
    return _seal_file(_VALUE, body, position, [len(stream), *map(len, buffers)], attempt_id, key, written, memo)


def lay_out_pointer(
    path: str, attempt_id: str, key: str, written: int | None = None, memo: Memo | None = None
) -> Chunks:
    """Return the file that points to a value at `path`."""
    stream = os.fsencode(path)
    return _seal_file(_POINTER, [stream], _HEAD.size + len(stream), [len(stream)], attempt_id, key, written, memo)


def parse_pointer(data: memoryview) -> str | None:
    """Return the path in a pointer; None for a value or another file."""
    return os.fsdecode(bytes(_split(data)[1])) if data[: len(_POINTER)] == _POINTER else None


def take_apart(data: memoryview, key: str) -> tuple[memoryview, list[memoryview]]:
    """Return the pickle and the buffers of a value's file.

    Raises:
        Damaged: it is cut short, from elsewhere, or the file of another key.
    """
    header, stream, buffers, trailer = _split(data)
    try:
        unseal(memoryview(b"".join((header, trailer))), key)
    except Damaged:
        # Raises a clearer error if the end is missing.
        parse_names(data)
        raise
    return stream, buffers


def map_file(path: str) -> memoryview | None:
    """Return a file's bytes, read-only, and mapped if it is large; None if there is no file.

    The map keeps the bytes when the file is removed. It holds no descriptor, so that thousands can exist at once.
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
    # Too many maps, or a file system without them.
    if data is None:
        data = read_file(path)
    return None if data is None else data.toreadonly()


def _map(fd: int, size: int) -> memoryview | None:
    # mmap.mmap duplicates the descriptor and keeps it open (until Python 3.13, which has trackfd=False).
    address = _libc.mmap(None, size, mmap.PROT_READ, mmap.MAP_SHARED, fd, 0)
    if address == _FAILED:
        # ENOMEM at vm.max_map_count maps, ENODEV on file systems without mmap.
        return None
    whole = (ctypes.c_ubyte * size).from_address(address)
    # At interpreter exit the array may still be in use: then the map ends with the process.
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
    memo: Memo | None,
) -> Chunks:
    """Return a body that ends at `size` with header and trailer; `sizes` are those of the pickle and the buffers."""
    count = len(sizes) - 1
    header = struct.pack(f"{_HEAD.format}{count}Q", magic, size, sizes[0], count, *sizes[1:])
    return [header, *body, seal([header], attempt_id, key, written, memo)]


def _split(data: memoryview) -> tuple[memoryview, memoryview, list[memoryview], memoryview]:
    """Return the header, the pickle or path, the buffers and the trailer."""
    if len(data) < _HEAD.size:
        raise Damaged(f"{len(data):,} bytes are no value of this store: cut short, or from elsewhere")
    magic, size, first, count = _HEAD.unpack_from(data)
    if magic not in (_VALUE, _POINTER):
        raise Damaged(f"it begins with {magic!r}, unlike values of this store")
    position = _HEAD.size + 8 * count
    if position > size or size > len(data):
        raise Damaged(f"{len(data):,} bytes in place of {size:,} and a trailer: cut short")
    header, stream = data[:position], data[position : position + first]
    position += first
    buffers: list[memoryview] = []
    for length in struct.unpack_from(f"<{count}Q", data, _HEAD.size):
        position += -position % _ALIGNED
        buffers.append(data[position : position + length])
        position += length
    return header, stream, buffers, data[size:]
