"""The journal of a run: its record, locked and mended by the process that carries the run on."""

from __future__ import annotations

import errno
import fcntl
import os
import time
from pathlib import Path

from rivers._record.header import RunHeader
from rivers._record.reader import EVENTS_FILE, EventReader, is_being_written, read_header
from rivers._record.replay import RunHistory, replay
from rivers.exceptions import RecordError, ResumeError

__all__ = ["RunJournal", "read_history"]

SHORTEST_LINE = 100
"""Bytes that the line of a RunStarted has at least."""
LOCK_WAIT = 1.0
"""Seconds. A reader that looks whether the run goes on holds a lock for microseconds."""


class RunJournal:
    """The record of a run that no other process writes, with its `header` and `history`; `close` it, or hand it over.

    The last line is cut off if its writer was killed in the middle of it. `file` is the descriptor of the events' file,
    which holds the lock.

    Raises:
        ResumeError: another process carries the run on, or the record cannot be locked, read or mended.
        RecordError: the header is damaged or of a newer format.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        header = read_header(folder)
        if header is None:
            raise ResumeError(f"the record {folder} has no header: its plan is not known")
        self.header: RunHeader = header
        try:
            self.file = os.open(folder / EVENTS_FILE, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except OSError as error:
            raise self._refusal(f"the record {folder} cannot be written: {error.strerror}") from error
        try:
            self._lock()
            self._cut_torn_line()
            self.history: RunHistory = _replay(folder, header)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Give up the lock."""
        os.close(self.file)

    def _refusal(self, message: str, hint: str | None = None) -> ResumeError:
        return ResumeError(message, hint=hint, run_id=self.header.run_id)

    def _lock(self) -> None:
        deadline = time.monotonic() + LOCK_WAIT
        while True:
            try:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                if error.errno not in (errno.EAGAIN, errno.EACCES):
                    raise self._refusal(
                        f"the record {self.folder} cannot be locked: {error.strerror}",
                        "without a lock nothing proves that no other process carries the run on; keep records on a "
                        "file system with locks",
                    ) from error
                if time.monotonic() > deadline:
                    raise self._refusal(
                        f"the run still goes on in process {self.header.pid} on {self.header.host}",
                        f"wait for its end: rivers watch {self.header.run_id[:8]}",
                    ) from None
                time.sleep(0.02)
            else:
                return

    def _cut_torn_line(self) -> None:
        """Cut off a last line without its end: what is appended would become a part of it."""
        end = size = os.fstat(self.file).st_size
        while end > 0:
            start = max(0, end - 65536)
            newline = os.pread(self.file, end - start, start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end == size:
            return
        try:
            os.ftruncate(self.file, end)
        except OSError as error:
            raise self._refusal(f"the record {self.folder} cannot be mended: {error.strerror}") from error

    def __repr__(self) -> str:
        return f"<journal of run {self.header.run_id[:8]} in {self.folder}>"


def read_history(folder: Path) -> tuple[RunHeader, RunHistory]:
    """Return the header and the history of a run that is over.

    Raises:
        ResumeError: it still goes on.
        RecordError: the record has no header, or cannot be read.
    """
    header = read_header(folder)
    if header is None:
        raise RecordError(f"the record {folder} has no header: its plan is not known")
    if is_being_written(folder / EVENTS_FILE):
        raise ResumeError(
            f"the run still goes on in process {header.pid} on {header.host}",
            hint=f"wait for its end: rivers watch {header.run_id[:8]}",
            run_id=header.run_id,
        )
    return header, _replay(folder, header)


def _replay(folder: Path, header: RunHeader) -> RunHistory:
    reader = EventReader(folder / EVENTS_FILE)
    try:
        # Lines of another run may stand in a file to which `--events` has appended.
        history = replay([event for event in reader.read_all() if event.run_id == header.run_id])
    finally:
        reader.close()
    if reader.damaged:
        # A later epoch may have begun in what cannot be read: not even one with each line of the file is given again.
        history.epoch = max(history.epoch, (folder / EVENTS_FILE).stat().st_size // SHORTEST_LINE)
    return history
