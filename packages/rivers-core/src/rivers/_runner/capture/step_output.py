"""Turn the output of one attempt, printed text and log records, into events."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import TypeVar

from rivers._runner.capture.bounded_log import (
    FIRST_BYTES,
    LAST_BYTES,
    PER_RECORD,
    Piece,
    Tail,
    clip_message,
    cut_message,
    cut_messages,
)
from rivers.protocol.result import LogRecord

__all__ = ["NOBODY", "StepOutput", "current", "outside"]

EventT = TypeVar("EventT")

current: ContextVar[StepOutput | None] = ContextVar("rivers_step_output", default=None)
"""The output of the attempt whose body runs in this context."""


class StepOutput:
    """The output of one attempt, emitted line by line; an unfinished line follows when the attempt ends.

    Threads with the attempt's context may write at the same time. Output after `finish` is dropped.
    """

    __slots__ = ("_attempt_id", "_emit", "_emitted", "_finished", "_lock", "_partial", "_pending", "_tail", "level")

    def __init__(self, attempt_id: str, level: int, emit: Callable[[LogRecord], None]) -> None:
        self._attempt_id = attempt_id
        self._emit = emit
        # The unfinished line of each stream.
        self._partial: dict[str, bytes] = {}
        self._emitted = 0  # bytes that count for FIRST_BYTES
        self._pending = 0  # bytes that arrived and were not emitted
        self._tail = Tail()
        self._finished = False
        # A signal handler or a __del__ may log during a print.
        self._lock = threading.RLock()
        self.level = level

    def enter(self) -> None:
        """Assign output of this context to this attempt from here on."""
        current.set(self)

    def text(self, stream: str, text: str) -> None:
        """Take printed text; a line is emitted once it is complete."""
        self.data(stream, text.encode("utf-8", "replace"))

    def data(self, stream: str, data: bytes) -> None:
        """Take printed bytes, which need not be UTF-8."""
        with self._lock:
            if self._finished:
                return
            self._pending += len(data)
            data = self._partial.pop(stream, b"") + data
            start = 0
            while self._emitted < FIRST_BYTES:
                piece = cut_message(data, start)
                if piece is None:
                    self._partial[stream] = data[start:]
                    return
                self._emit_piece(self._make_record(piece.text, stream), piece)
                start += piece.taken
            self._tail.add(stream, data[start:])

    @property
    def is_flooding(self) -> bool:
        """Return whether no more output is emitted before the end."""
        return self._emitted >= FIRST_BYTES

    def record(self, record: logging.LogRecord) -> None:
        """Take a log record."""
        try:
            message = record.getMessage()
        except Exception as error:  # noqa: BLE001 - a user's arguments may fail to format in any way
            message = f"{record.msg!r:.200} (its arguments could not be formatted: {type(error).__name__})"
        message, size = clip_message(message)
        made = self._make_record(message, "log", record.levelno, record.name)
        with self._lock:
            if self._finished:
                return
            self._pending += size
            if self._emitted < FIRST_BYTES:
                self._emit_piece(made, Piece(message, size, size))
            else:
                self._tail.add_record(made, size)

    def finish(self) -> None:
        """Emit the unfinished lines and the end of a flood."""
        with self._lock:
            if self._finished:
                return
            last = self._last_records()
            left_out = self._pending - sum(piece.taken for _, piece in last)
            if left_out:
                text = f"… {left_out} bytes of output left out …"
                self._emit_outside(self._make_record(text, "log", logging.WARNING, "rivers"))
            for record, piece in last:
                self._emit_piece(record, piece)
            self._finished, self._tail = True, Tail()

    def _emit_piece(self, record: LogRecord, piece: Piece) -> None:
        self._emitted += piece.size + PER_RECORD
        self._pending -= piece.taken
        self._emit_outside(record)

    def _emit_outside(self, record: LogRecord) -> None:
        # A listener may print, and that is not the body's text.
        before = current.set(NOBODY)
        try:
            self._emit(record)
        finally:
            current.reset(before)

    def _last_records(self) -> list[tuple[LogRecord, Piece]]:
        """Return the records to emit at the end: of a flood as many as fit into LAST_BYTES."""
        records = list(self._remaining_records())
        room = LAST_BYTES
        for index in range(len(records) - 1, -1, -1):
            room -= records[index][1].size + PER_RECORD
            if room < 0:
                return records[index + 1 :]
        return records

    def _remaining_records(self) -> Iterator[tuple[LogRecord, Piece]]:
        for chunk in self._tail.last():
            if chunk.record is not None:
                yield chunk.record, Piece(chunk.record.message, chunk.size, chunk.size)
                continue
            found, self._partial[chunk.stream] = cut_messages(self._partial.pop(chunk.stream, b"") + chunk.data)
            yield from ((self._make_record(piece.text, chunk.stream, time_of=chunk.since), piece) for piece in found)
        for stream, data in self._partial.items():
            yield from ((self._make_record(piece.text, stream), piece) for piece in cut_messages(data, last=True)[0])

    def _make_record(
        self, message: str, stream: str, level: int = 0, logger: str = "", time_of: float = 0.0
    ) -> LogRecord:
        return LogRecord(
            attempt_id=self._attempt_id,
            message=message,
            level=level,
            logger=logger,
            stream=stream,
            time=time_of or time.time(),
        )


NOBODY = StepOutput("", sys.maxsize, lambda record: None)
"""Drops output that belongs to no attempt, also in a process that belongs to one runner."""
NOBODY.finish()


def outside(emit: Callable[[EventT], None]) -> Callable[[EventT], None]:
    """Return `emit` so that prints and log records of a listener are no output of the step that it is called about.

    They belong to the caller of this function: if a body starts a run of its own, to that body.
    """
    outer = current.get() or NOBODY

    def emit_outside(event: EventT) -> None:
        before = current.set(outer)
        try:
            emit(event)
        finally:
            current.reset(before)

    return emit_outside
