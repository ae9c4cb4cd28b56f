"""Printed bytes as messages of limited length, and the end of a flood of them."""

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
"""Bytes of one log message that are kept (security.md 3.7)."""
FIRST_BYTES = 1024 * 1024
LAST_BYTES = 4 * 1024 * 1024
"""Of an attempt that floods its output the beginning is told at once, the last of it at the end (faults.md L16)."""
PER_RECORD = 100
"""Bytes that a record is counted with besides its text."""
_LARGE = 16 * 1024
_MOST_CHUNKS = LAST_BYTES // PER_RECORD
"""Of log records no more are told, and streams that take turns byte by byte make chunks of one byte."""


class Piece(NamedTuple):
    """A message, its bytes as UTF-8, and the bytes that it was made of."""

    text: str
    size: int
    taken: int


def cut_message(data: bytes, start: int, *, last: bool = False) -> Piece | None:
    """The next message: a line, or a piece of one that is too long; None when its end is still to come.

    Nothing is to come with `last`. What is no UTF-8 is replaced; no character is cut in two.
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
        if stop - start > MAX_MESSAGE // 3:  # a byte that is replaced becomes three
            stop = end = _between(data, start + MAX_MESSAGE // 3)
        text = data[start:stop].decode("utf-8", "replace")
        return Piece(text, len(text.encode()), end - start)
    return Piece(text, stop - start, end - start)


def cut_messages(data: bytes, *, last: bool = False) -> tuple[list[Piece], bytes]:
    """All messages of the data, and the line whose end is still to come."""
    found: list[Piece] = []
    start = 0
    while (piece := cut_message(data, start, last=last)) is not None:
        found.append(piece)
        start += piece.taken
    return found, data[start:]


def _between(data: bytes, at: int) -> int:
    """The place at `at`, or just before, that is between two characters."""
    for back in range(4):
        if data[at - back] & 0xC0 != 0x80:
            return at - back
    return at


def clip_message(message: str) -> tuple[str, int]:
    """The message within its limit and valid UTF-8, and its bytes."""
    if message.isascii() and len(message) <= MAX_MESSAGE:
        return message, len(message)
    data = message.encode("utf-8", "replace")  # a surrogate has no bytes, and would stop a sink that writes
    if len(data) > MAX_MESSAGE:
        return data[: MAX_MESSAGE - 4].decode("utf-8", "ignore") + "…", MAX_MESSAGE
    return data.decode(), len(data)


class Chunk:
    """Some of one stream, and when it began, or one log record; `size` is in bytes."""

    __slots__ = ("data", "record", "since", "size", "stream")

    def __init__(self, stream: str, data: bytes, size: int, record: LogRecord | None = None) -> None:
        self.stream = stream
        # Small texts are put together, large ones kept as they are: copying them is most of what they would cost.
        self.data: bytes | bytearray = data if size >= _LARGE else bytearray(data)
        self.size = size
        self.record = record
        self.since = time.time()


class Tail:
    """At least the last LAST_BYTES of what is added, and not much more; lines are looked for at the end only."""

    __slots__ = ("_chunks", "_size")

    def __init__(self) -> None:
        self._chunks: deque[Chunk] = deque()
        self._size = 0

    def add(self, stream: str, data: bytes) -> None:
        """Printed bytes; the last line need not have ended."""
        last = self._chunks[-1] if self._chunks else None
        if last is None or last.stream != stream or type(last.data) is bytes or last.size >= _LARGE:
            self._append(Chunk(stream, data, len(data)))
            return
        last.data += data
        last.size += len(data)
        self._size += len(data)

    def add_record(self, record: LogRecord, size: int) -> None:
        """A log record, whose message has that many bytes."""
        self._append(Chunk(record.stream, b"", size, record))

    def last(self) -> Iterator[Chunk]:
        """The chunks that make LAST_BYTES of records, and little more, oldest first."""
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
