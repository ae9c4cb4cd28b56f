"""Event sinks of the command line: a file for `--events`, and plain lines."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from rivers._events.event import Event, RunWarning, StepFailed, StepLog, StepRetrying, StepSucceeded
from rivers._record.header import RunHeader
from rivers._record.redact import Redactor
from rivers.cli.errors import CommandError
from rivers.cli.printer import Printer

__all__ = ["EventsFile", "PlainLines"]


class EventsFile:
    """A sink that appends each event, without secrets, as one line of JSON to a file.

    Raises:
        CommandError: the file cannot be opened.
    """

    def __init__(self, path: Path, redactor: Redactor) -> None:
        self._redactor = redactor
        self._encoder = msgspec.json.Encoder()
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        try:
            self._file = os.open(path.expanduser(), flags, 0o644)
        except OSError as error:
            raise CommandError(f"cannot write --events {path}: {error.strerror}") from error
        self._path = path

    def __call__(self, event: Event) -> None:
        """Append the event."""
        line = self._redactor.line(self._encoder.encode(event)) + b"\n"
        # A pipe may take a part of it.
        while line:
            line = line[os.write(self._file, line) :]

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def __repr__(self) -> str:
        return f"<--events {self._path}>"


class PlainLines:
    """A sink that prints a line for each step that ended, and the bodies' log records from a level on."""

    def __init__(self, header: RunHeader, redactor: Redactor, printer: Printer, log_level: int) -> None:
        self._redactor = redactor
        self._print = printer
        self._log_level = log_level

    def __call__(self, event: Event) -> None:
        """Print a line, if the event has one."""
        text = self._line(event)
        if text is not None:
            self._print(self._redactor.text(text))

    def _line(self, event: Event) -> str | None:
        if isinstance(event, StepSucceeded):
            return f"ok      {event.step}"
        if isinstance(event, StepFailed):
            return f"failed  {event.step}: {event.failure.summary}"
        if isinstance(event, StepRetrying):
            return f"retry   {event.step} in {event.delay:.1f} s"
        if isinstance(event, RunWarning):
            return f"warning {event.message}"
        if isinstance(event, StepLog) and event.level >= self._log_level:
            return f"log     {event.step}: {event.message}"
        return None

    def close(self) -> None:
        """Close nothing: the stream is the process's."""
