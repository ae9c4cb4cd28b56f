"""Cut printed bytes into messages of limited length, and keep the end of a flood."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

from rivers.protocol.result import LogRecord

__all__ = [
    "FIRST_BYTES",
    "LAST_BYTES",
    "MAX_MESSAGE",
    "PER_RECORD",
    "Piece",
    "Tail",
    "clip_message",
    "cut_message",
    "cut_messages",
]

MAX_MESSAGE = 16 * 1024
"""Bytes of one log message that are kept."""
FIRST_BYTES = 1024 * 1024
LAST_BYTES = 4 * 1024 * 1024
"""Of an attempt that floods its output, the first bytes are emitted at once and the last ones at its end."""
PER_RECORD = 100
"""Bytes that a record counts besides its text."""
_LARGE = 16 * 1024
# Streams that take turns byte by byte make chunks of one byte, each with the overhead of a record.
_MOST_CHUNKS = LAST_BYTES // PER_RECORD


class Piece(NamedTuple):
    """A message: its text, its size in bytes of UTF-8, and the number of bytes that it was cut from."""

    text: str
    size: int
    taken: int


def cut_message(data: bytes, start: int, *, last: bool = False) -> Piece | None:
    """Return the next message, a line or a piece of a long one; None while its end is missing.

    With `last` no more data follows. Invalid UTF-8 is replaced, and no character is cut in two.
    """
    limit = start + MAX_MESSAGE
    stop = data.find(b"\n", start, limit + 1)
    end = stop + 1
    if stop < 0:
        if len(data) > limit:
            stop = end = _between(data, limit)
        elif last and start < len(data):
            stop = end = len(data)
        else:
            return None
    try:
        text = data[start:stop].decode()
    except UnicodeDecodeError:
        # A replaced byte becomes three.
        if stop - start > MAX_MESSAGE // 3:
            stop = end = _between(data, start + MAX_MESSAGE // 3)
        text = data[start:stop].decode("utf-8", "replace")
        return Piece(text, len(text.encode()), end - start)
    return Piece(text, stop - start, end - start)


def cut_messages(data: bytes, *, last: bool = False) -> tuple[list[Piece], bytes]:
    """Return all messages of the data, and the unfinished line at its end."""
    found: list[Piece] = []
    start = 0
    while (piece := cut_message(data, start, last=last)) is not None:
        found.append(piece)
        start += piece.taken
    return found, data[start:]


def _between(data: bytes, at: int) -> int:
    """Return the offset at `at` or just before it that is between two characters."""
    for back in range(4):
        if data[at - back] & 0xC0 != 0x80:
            return at - back
    return at


def clip_message(message: str) -> tuple[str, int]:
    """Return the message within its limit and as valid UTF-8, and its size in bytes."""
    if message.isascii() and len(message) <= MAX_MESSAGE:
        return message, len(message)
    # A surrogate cannot be encoded, and would break a sink that writes.
    data = message.encode("utf-8", "replace")
    if len(data) > MAX_MESSAGE:
        return data[: MAX_MESSAGE - 4].decode("utf-8", "ignore") + "…", MAX_MESSAGE
    return data.decode(), len(data)


class Chunk:
    """A part of one stream with the time of its first byte, or one log record; `size` is in bytes."""

    __slots__ = ("data", "record", "since", "size", "stream")

    def __init__(self, stream: str, data: bytes, size: int, record: LogRecord | None = None) -> None:
        self.stream = stream
        # Small texts are joined; large ones are kept as they are, as copying would be most of their cost.
        self.data: bytes | bytearray = data if size >= _LARGE else bytearray(data)
        self.size = size
        self.record = record
        self.since = time.time()


class Tail:
    """The last LAST_BYTES of the added output and little more; it is cut into lines at the end only."""

    __slots__ = ("_chunks", "_size")

    def __init__(self) -> None:
        self._chunks: deque[Chunk] = deque()
        self._size = 0

    def add(self, stream: str, data: bytes) -> None:
        """Add printed bytes; the last line need not be complete."""
        last = self._chunks[-1] if self._chunks else None
        if last is None or last.stream != stream or type(last.data) is bytes or last.size >= _LARGE:
            self._append(Chunk(stream, data, len(data)))
            return
        last.data += data
        last.size += len(data)
        self._size += len(data)

    def add_record(self, record: LogRecord, size: int) -> None:
        """Add a log record whose message has `size` bytes."""
        self._append(Chunk(record.stream, b"", size, record))

    def last(self) -> Iterator[Chunk]:
        """Return the chunks that hold the last LAST_BYTES, oldest first."""
        size = first = 0
        for first in range(len(self._chunks) - 1, -1, -1):
            chunk = self._chunks[first]
            size += chunk.size + PER_RECORD * (1 if chunk.record is not None else chunk.data.count(b"\n"))
            if size >= LAST_BYTES:
                break
        return islice(self._chunks, first, None)

    def _append(self, chunk: Chunk) -> None:
        self._chunks.append(chunk)
        self._size += chunk.size
        while self._size - self._chunks[0].size >= LAST_BYTES or len(self._chunks) > _MOST_CHUNKS:
            self._size -= self._chunks.popleft().size
