"""Record a run: its header and its events, in a folder."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from pathlib import Path

import msgspec

from rivers._events.event import Event, RunStarted, RunWarning, StepLog
from rivers._record.header import RunHeader
from rivers._record.journal import RunJournal
from rivers._record.reader import EVENTS_FILE, HEADER_FILE
from rivers._record.redact import Redactor

__all__ = ["RunRecorder"]

MOST_LOG_BYTES = 256 * 2**20
"""Bytes of a record after which log records are not written any more."""


class RunRecorder:
    """An event sink that writes the record of one run.

    The folder is made at the first event. Each event is one line, written at once: it is whole in the file when the
    process is killed, and with `is_synced` on the disk, so that it survives a power cut. Records of logs are left out
    once the file has 256 MiB; a warning in it says so. A lock on the file, which the kernel drops with the process,
    tells readers that the run goes on. With a `journal` it goes on with the record of an earlier process.

    Raises:
        OSError: the folder cannot be made or written; the dispatcher of events warns once, and the run goes on.
    """

    def __init__(
        self,
        folder: Path,
        header: RunHeader,
        redactor: Redactor,
        *,
        is_synced: bool = False,
        journal: RunJournal | None = None,
    ) -> None:
        self.folder = folder
        self._header = header
        self._redactor = redactor
        self._encoder = msgspec.json.Encoder()
        # Its lock must not be given up in between.
        self._file: int | None = journal.file if journal is not None else None
        self._size = 0 if journal is None else os.fstat(journal.file).st_size
        self._is_full = False
        self._is_synced = is_synced
        if journal is not None:
            # With the process that carries the run on; a disk without room is found before anything starts.
            self._write_header()

    def __call__(self, event: Event) -> None:
        if self._file is None:
            self._file = self._open()
        if self._size >= MOST_LOG_BYTES and isinstance(event, StepLog):
            if self._is_full:
                return
            self._is_full = True
            message = f"the record has {MOST_LOG_BYTES // 2**20} MiB; further log records are not kept"
            event = RunWarning(run_id=event.run_id, time=time.time(), message=message)
        line = self._redactor.line(self._encoder.encode(event)) + b"\n"
        # A write to a file is whole, or the disk is full.
        written = os.write(self._file, line)
        if written < len(line):
            written += os.write(self._file, line[written:])
        self._size += written
        # The sync of a later event covers the logs before it. The epoch of a later controller must not be lost even in
        # a power cut, as attempt ids depend on it.
        if (self._is_synced and not isinstance(event, StepLog)) or (isinstance(event, RunStarted) and event.epoch):
            os.fdatasync(self._file)

    def _open(self) -> int:
        self.folder.mkdir(parents=True, exist_ok=True)
        self._write_header()
        hidden = self.folder / f".{EVENTS_FILE}"
        file = os.open(hidden, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
        # Some network file systems have no locks: there a run looks ended to readers until its last event.
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        # Visible only with its lock: a reader that came in between would take the run for one that was killed.
        hidden.replace(self.folder / EVENTS_FILE)
        if self._is_synced:
            # The names, too: of the files in their folder, and of the folder in that of all runs.
            _sync(self.folder)
            _sync(self.folder.parent)
        return file

    def _write_header(self) -> None:
        text = msgspec.json.format(self._redactor.line(self._encoder.encode(self._header)), indent=1)
        # Renamed when it is whole: a reader finds all of it or none.
        partial = self.folder / f".{HEADER_FILE}"
        with partial.open("wb") as header:
            header.write(text)
            if self._is_synced:
                header.flush()
                os.fsync(header.fileno())
        partial.replace(self.folder / HEADER_FILE)

    def close(self) -> None:
        """Close the file, which ends the lock; a recorder that has seen no event leaves nothing."""
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def __repr__(self) -> str:
        return f"<record of the run in {self.folder}>"


def _sync(folder: Path) -> None:
    """Force the names in a folder to disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
