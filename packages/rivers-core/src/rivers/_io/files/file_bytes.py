"""Local files as bytes: reads and writes by descriptor, commit markers and the names in trailers."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable
from contextlib import suppress
from io import BufferedReader

import msgspec

from rivers._io.files.trailer import TAIL_BYTES, Damaged, Names, Trailer, trailer_size
from rivers._io.files.value_files import Chunks, Marker, size_of

__all__ = [
    "fill_file",
    "is_newer",
    "open_file",
    "peek_names",
    "peek_trailer",
    "read_file",
    "read_marker",
    "read_names",
    "read_trailer",
    "remove_files",
    "sync_folder",
    "write_all",
]

_READ = os.O_RDONLY | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_CHUNK = 65536  # what is smaller is read and written in one call
_MOST_AT_ONCE = os.sysconf("SC_IOV_MAX")


def write_all(fd: int, chunks: Chunks) -> None:
    """Write all bytes; the kernel may take them in parts. Large pieces are not copied."""
    if size_of(chunks) < _CHUNK:
        data = b"".join(chunks)
        written = os.write(fd, data)
        if written == len(data):
            return
        chunks = [memoryview(data)[written:]]
    # writev() takes at most IOV_MAX pieces (1,024 on Linux) and writes at most 2 GiB.
    for start in range(0, len(chunks), _MOST_AT_ONCE):
        batch = list(chunks[start : start + _MOST_AT_ONCE])
        left = size_of(batch)
        while left:
            written = os.writev(fd, batch) if len(batch) > 1 else os.write(fd, batch[0])
            left -= written
            batch = _rest(batch, written) if left else []


def fill_file(fd: int, path: str, chunks: Chunks, *, is_synced: bool) -> None:
    """Write all bytes of a new file, force it to disk if wanted, and close it; remove it if that fails."""
    try:
        try:
            write_all(fd, chunks)
            if is_synced:
                os.fsync(fd)
        finally:
            os.close(fd)
    except BaseException:
        remove_files([path])
        raise


def _rest(batch: list[bytes | memoryview], written: int) -> list[bytes | memoryview]:
    """Return the pieces behind the first `written` bytes."""
    for index, chunk in enumerate(batch):
        if written < len(chunk):
            return [memoryview(chunk)[written:], *batch[index + 1 :]]
        written -= len(chunk)
    return []


def read_file(path: str) -> memoryview | None:
    """Return the file's bytes, or None if there is no file."""
    try:
        fd = os.open(path, _READ)
    except FileNotFoundError:
        return None
    try:
        data = os.read(fd, _CHUNK)
        if len(data) < _CHUNK:
            return memoryview(data)
        whole = bytearray(os.fstat(fd).st_size)
        whole[:_CHUNK] = data
        rest = memoryview(whole)[_CHUNK:]
        # read() returns at most 2 GiB on Linux.
        while rest:
            count = os.readv(fd, [rest[: 1 << 30]])
            if not count:
                break
            rest = rest[count:]
        return memoryview(whole)[: len(whole) - len(rest)]
    finally:
        os.close(fd)


def open_file(path: str) -> memoryview | BufferedReader | None:
    """Return the bytes of a small file, an open reader of a large one, or None if there is no file."""
    try:
        fd = os.open(path, _READ)
    except FileNotFoundError:
        return None
    try:
        # Saves the fstat() of small files.
        data = os.read(fd, _CHUNK)
        if len(data) < _CHUNK:
            return memoryview(data)
        file = open(fd, "rb")  # noqa: SIM115 - the caller closes it
        fd = -1
        return file
    finally:
        if fd >= 0:
            os.close(fd)


def read_names(path: str) -> Names | None:
    """Return the names in the trailer of the value at `path`, or None if there is no file."""
    found = read_trailer(path)
    return found[0] if found is not None else None


def read_trailer(path: str) -> tuple[Names, int] | None:
    """Return the names in the trailer of the value at `path`, and its bytes; None if there is no file."""
    try:
        fd = os.open(path, _READ)
    except FileNotFoundError:
        return None
    try:
        size = os.fstat(fd).st_size
        tail = memoryview(os.pread(fd, TAIL_BYTES, max(0, size - TAIL_BYTES)))
        whole = trailer_size(tail)
        if len(tail) < whole <= size:
            tail = memoryview(os.pread(fd, whole, size - whole))
        return Trailer(tail, size).names(), size
    except Damaged as error:
        raise OSError(errno.EBADMSG, str(error), path) from error
    finally:
        os.close(fd)


def peek_names(path: str) -> Names | None:
    """Return the names like `read_names`; None, too, for a file that cannot be read, as loading it raises the error."""
    found = peek_trailer(path)
    return found[0] if found is not None else None


def peek_trailer(path: str) -> tuple[Names, int] | None:
    """Return the names and the bytes like `read_trailer`; None, too, for a file that cannot be read."""
    try:
        return read_trailer(path)
    except OSError:
        return None


def read_marker(path: str) -> Marker | None:
    """Return a step's commit marker, or None if there is no file."""
    data = read_file(path)
    try:
        return None if data is None else msgspec.json.decode(data, type=Marker)
    except msgspec.DecodeError as error:
        raise OSError(errno.EBADMSG, f"not a commit marker ({error})", path) from error


def remove_files(paths: Iterable[str]) -> None:
    """Remove those of these files that are there and can be removed."""
    for path in paths:
        with suppress(OSError):
            os.unlink(path)


def sync_folder(path: str) -> None:
    """Force the names in a folder to disk."""
    fd = os.open(path, _FOLDER)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def is_newer(path: str, written: int) -> bool:
    """Return whether the value at `path` was written after `written`; a damaged one counts as older."""
    names = peek_names(path)
    # One from the future was written before the clock was set back.
    return names is not None and written < names.written <= time.time_ns()
