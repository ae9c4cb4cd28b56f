"""Read the events of a record, also while another process writes it."""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path
from typing import IO

import msgspec

from rivers._events.event import Event
from rivers._record.header import FORMAT, RunHeader
from rivers._record.view import RunView
from rivers.exceptions import RecordError

__all__ = [
    "EVENTS_FILE",
    "HEADER_FILE",
    "DamagedLine",
    "EventReader",
    "is_being_written",
    "read_header",
    "read_run",
    "try_header",
]

EVENTS_FILE = "events.jsonl"
HEADER_FILE = "header.json"
MAX_HEADER = 256 * 2**20
"""Bytes of a header that are read: 50,000 steps have 10 MB."""
MAX_LINE = 64 * 2**20
"""Bytes of a line that are kept until its end is there."""
MAX_TIME = 253402300799.0
"""Seconds since the epoch: the end of the year 9999, the last one that Python can name."""


class DamagedLine(msgspec.Struct, frozen=True):
    """A line of an events file that holds no event that this version knows; `number` counts from 1.

    The number 0 stands for the header.
    """

    number: int
    problem: str


class EventReader:
    """A reader that returns the events that were added to a file since the last call.

    A last line without its end is left for the next call. `damaged` collects the lines that could not be read.

    Raises:
        RecordError: there is no such file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.damaged: list[DamagedLine] = []
        self.lines = 0
        self._rest = b""
        self._is_skipping = False
        self._decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
        try:
            self._file: IO[bytes] = path.open("rb")
        except OSError as error:
            raise RecordError(f"cannot read the events of a run: {error.strerror}: {path}") from error

    def read(self, limit: int = 2**20) -> list[Event]:
        """Return the next events, of at most about `limit` bytes; an empty list when no whole line was added."""
        # The rest of a line that was cut by `limit`, or that its writer has not finished.
        text, newline, self._rest = (self._rest + self._file.read(limit)).rpartition(b"\n")
        if newline and self._is_skipping:
            # The end of a line that was given up.
            self._is_skipping = False
            self.lines += 1
            _, newline, text = text.partition(b"\n")
        events = self._decode_lines(text) if newline else []
        if len(self._rest) > MAX_LINE and not self._is_skipping:
            self._is_skipping = True
            self.damaged.append(DamagedLine(self.lines + 1, f"the line is longer than {MAX_LINE // 2**20} MiB"))
        if self._is_skipping:
            self._rest = b""
        return events

    def _decode_lines(self, text: bytes) -> list[Event]:
        """Return the events of whole lines, and note the lines that could not be read."""
        # All at once takes half the time of one by one.
        try:
            events = self._decoder.decode_lines(text)
        except (msgspec.DecodeError, UnicodeDecodeError):
            events = None
        if events is not None and all(0 <= event.time <= MAX_TIME for event in events):
            self.lines += text.count(b"\n") + 1
            return events
        events = []
        for line in text.split(b"\n"):
            self.lines += 1
            if line.strip():
                try:
                    events.append(self._decode(line))
                except (msgspec.DecodeError, UnicodeDecodeError) as error:
                    self.damaged.append(DamagedLine(self.lines, str(error)))
        return events

    def _decode(self, line: bytes) -> Event:
        event = self._decoder.decode(line)
        if not 0 <= event.time <= MAX_TIME:
            raise msgspec.ValidationError(f"invalid time {event.time!r}: expected seconds since the epoch")
        return event

    def read_all(self) -> list[Event]:
        """Return all events up to the present end of the file, and count an unfinished last line as damaged."""
        events: list[Event] = []
        # Its writer may be faster than this loop, but a run ends.
        while True:
            position = self._file.tell()
            events += self.read()
            if self._file.tell() == position:
                break
        if self._rest.strip():
            self.damaged.append(DamagedLine(self.lines + 1, "the line is not finished"))
        return events

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def read_header(folder: Path) -> RunHeader | None:
    """Return the header of a record, or None where the file is missing.

    Raises:
        RecordError: the file holds something else, or a newer format.
    """
    header, damage = try_header(folder)
    for line in damage:
        raise RecordError(line.problem)
    return header


def try_header(folder: Path) -> tuple[RunHeader | None, list[DamagedLine]]:
    """Return the header of a record, or what is wrong with it: the events alone show most of a run.

    Raises:
        RecordError: it has a newer format.
    """
    path = folder / HEADER_FILE
    try:
        with path.open("rb") as file:
            header = msgspec.json.decode(file.read(MAX_HEADER), type=RunHeader)
    except FileNotFoundError:
        return None, []
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        return None, [DamagedLine(0, f"{path} is no header of a run: {error}")]
    if header.format > FORMAT:
        raise RecordError(
            f"{path} has format {header.format}, and this version of rivers reads up to {FORMAT}",
            hint="install a newer rivers-core",
        )
    problem = _problem_of(header)
    return (header, []) if problem is None else (None, [DamagedLine(0, f"{path} is no header of a run: {problem}")])


def _problem_of(header: RunHeader) -> str | None:
    """Return what readers of a header rely on and do not find in it, None if all is well."""
    if not 0 <= header.started <= MAX_TIME:
        return f"invalid started={header.started!r}: expected seconds since the epoch"
    executors, steps = range(len(header.executors)), range(len(header.steps))
    for step in header.steps:
        if step.executor not in executors:
            return f"step {step.key!r} has the executor {step.executor}, and there are {len(executors)}"
        wrong = next((index for index in (*step.deps, step.mapped_over or 0) if index not in steps), None)
        if wrong is not None:
            return f"step {step.key!r} refers to the step {wrong}, and there are {len(steps)}"
    return None


def read_run(path: Path, *, keeps_logs: bool = True) -> tuple[RunView, list[DamagedLine]]:
    """Return the view of a record, given by its folder or its events file, and the lines that could not be read.

    Raises:
        RecordError: there is no record at that path, or no line of it holds an event.
    """
    events_path = path / EVENTS_FILE if path.is_dir() else path
    reader = EventReader(events_path)
    # Before the events: a run that ends in between is then read as one that goes on, and not as one that was lost.
    is_written = is_being_written(events_path)
    try:
        events = reader.read_all()
    finally:
        reader.close()
    header, header_damage = try_header(events_path.parent)
    # With a header it is the record of a run whose process was killed at once, or has just begun.
    if not events and (reader.damaged or (header is None and not is_written)):
        first = next((f"line {line.number}: {line.problem}" for line in reader.damaged), "it is empty")
        raise RecordError(f"{events_path} holds no event of a run: {first}")
    # A folder may hold the events of another run beside a header, as `--events` appends to any file.
    if header is not None and events and events[0].run_id != header.run_id:
        header = None
    view = RunView(header, keeps_logs=keeps_logs)
    run_id = header.run_id if header is not None else (events[-1].run_id if events else "")
    for event in events:
        # Runs share a file that they append to: the last one is shown.
        if event.run_id == run_id:
            view.apply(event)
    if not is_written:
        view.end_without_word()
    return view, [*header_damage, *reader.damaged]


def is_being_written(path: Path) -> bool:
    """Return True if a process records to this file: it holds a lock on it, which ends with the process."""
    try:
        file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno in (errno.EAGAIN, errno.EACCES)
    finally:
        os.close(file)
    return False
