"""Frames on a pipe between two processes: a length, a kind of one byte, a payload."""

from __future__ import annotations

import os
import struct
from collections import deque

__all__ = ["Frame", "FrameReader", "encode_frame", "write_frame", "write_whole"]

Frame = tuple[bytes, bytes]
"""A kind and a payload."""

_HEAD = struct.Struct("<Ic")
# One read takes all that a pipe of Linux holds unless somebody has enlarged it.
_READ = 1 << 16


def encode_frame(kind: bytes, payload: bytes = b"") -> bytes:
    """Return the bytes of one frame."""
    return _HEAD.pack(len(payload), kind) + payload


def write_frame(descriptor: int, kind: bytes, payload: bytes = b"") -> None:
    """Write a whole frame, and wait for room in the pipe.

    Raises:
        OSError: the reader is gone.
    """
    write_whole(descriptor, encode_frame(kind, payload))


def write_whole(descriptor: int, data: bytes) -> None:
    """Write all of the data, and wait for room in the pipe.

    Raises:
        OSError: the reader is gone.
    """
    rest = memoryview(data)
    # A signal may cut a large write short.
    while rest:
        rest = rest[os.write(descriptor, rest) :]


class FrameReader:
    """The reading end of a pipe; a payload of more than `max_payload` bytes is an error of the writer."""

    def __init__(self, descriptor: int, max_payload: int) -> None:
        self._descriptor = descriptor
        self._max_payload = max_payload
        self._parts: list[bytes] = []
        self._held = self._needed = 0
        self._frames: deque[Frame] = deque()

    def fill(self) -> bool:
        """Read once; return False where a pipe that does not block holds nothing now.

        Raises:
            EOFError: all writers are gone.
        """
        try:
            data = os.read(self._descriptor, _READ)
        except BlockingIOError:
            return False
        if not data:
            raise EOFError
        self._parts.append(data)
        self._held += len(data)
        return True

    def take(self) -> list[Frame]:
        """Return the frames that are complete.

        Raises:
            ValueError: the bytes are no frame.
        """
        # So that a large frame is joined once, and not with every read.
        if self._held < self._needed:
            return []
        data = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
        start, found = 0, []
        self._needed = _HEAD.size
        while len(data) - start >= _HEAD.size:
            size, kind = _HEAD.unpack_from(data, start)
            # The length comes from the peer: refuse it before the bytes pile up here.
            if size > self._max_payload:
                raise ValueError(f"a frame of {size} bytes, expected at most {self._max_payload}")
            end = start + _HEAD.size + size
            if end > len(data):
                self._needed = end - start
                break
            found.append((kind, data[start + _HEAD.size : end]))
            start = end
        self._parts = [data[start:]] if start < len(data) else []
        self._held = len(data) - start
        return found

    def next(self) -> Frame | None:
        """Wait for the next frame; return None when all writers are gone.

        Raises:
            ValueError: the bytes are no frame.
        """
        while not self._frames:
            try:
                self.fill()
            except EOFError:
                return None
            self._frames.extend(self.take())
        return self._frames.popleft()
