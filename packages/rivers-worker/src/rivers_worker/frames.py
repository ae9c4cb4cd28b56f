"""What the server and the body's process say to each other over two pipes: a length, a kind, a payload.

server ──▶ GO, CHECK, SPEC ──▶ body          GO: the worker has announced itself, import the user's code
server ◀── CHECKED, STARTED, LOG, RESULT ◀── body
"""

from __future__ import annotations

import os
import struct

__all__ = ["CHECK", "CHECKED", "GO", "LOG", "RESULT", "SPEC", "STARTED", "read_frame", "write_frame"]

GO, SPEC, CHECK, STARTED, LOG, RESULT, CHECKED = range(1, 8)
MOST_BYTES = 16 << 20
"""Of a frame; what the body says is not believed beyond that."""
_HEAD = struct.Struct(">IB")


def write_frame(fd: int, kind: int, payload: bytes = b"") -> None:
    """Write a whole frame, waiting for room; raises OSError where nobody reads."""
    data = memoryview(_HEAD.pack(len(payload), kind) + payload)
    while data:
        data = data[os.write(fd, data) :]


def read_frame(fd: int) -> tuple[int, bytes] | None:
    """The next frame's kind and payload, or None at the end; raises ValueError where it cannot be one."""
    head = _read(fd, _HEAD.size)
    if head is None:
        return None
    length, kind = _HEAD.unpack(head)
    if length > MOST_BYTES:
        raise ValueError(f"a frame of {length} bytes, and {MOST_BYTES} are allowed")
    payload = _read(fd, length)
    return None if payload is None else (kind, payload)


def _read(fd: int, count: int) -> bytes | None:
    data = bytearray()
    while len(data) < count:
        piece = os.read(fd, count - len(data))
        if not piece:
            return None
        data += piece
    return bytes(data)
