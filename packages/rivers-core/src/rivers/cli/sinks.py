"""Event sinks of the command line: the file for `--events`."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from rivers._events.event import Event
from rivers._record.redact import Redactor
from rivers.cli.errors import CommandError

__all__ = ["EventsFile"]


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
