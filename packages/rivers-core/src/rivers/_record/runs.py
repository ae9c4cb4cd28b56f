"""The records of a home folder: find, list and prune them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rivers._record.reader import EVENTS_FILE, is_being_written
from rivers.exceptions import RecordError

__all__ = ["DEFAULT_HOME", "KEEP_BYTES", "KEEP_RUNS", "RunRecords"]

DEFAULT_HOME = Path(".rivers")
KEEP_RUNS = 200
KEEP_BYTES = 2 * 2**30
"""Runs, and their bytes, that are kept when a new run is recorded."""


@dataclass(frozen=True, slots=True)
class _Record:
    folder: Path
    modified: float
    size: int


class RunRecords:
    """The records below a home folder: `<home>/runs/<run id>/`.

    Raises:
        RecordError: from methods that look for records, the folder cannot be read.
    """

    def __init__(self, home: str | Path = DEFAULT_HOME) -> None:
        self.home = Path(home).expanduser()
        self.folder = self.home / "runs"

    def folder_of(self, run_id: str) -> Path:
        """Return the folder of a run."""
        return self.folder / run_id

    def folders(self) -> list[Path]:
        """Return the folders of all records, the newest first."""
        return [record.folder for record in self._records()]

    def find(self, run: str | None = None) -> Path:
        """Return the record of a run: the newest, the one whose id begins so, or the one at a path.

        Raises:
            RecordError: there is none, or several begin so.
        """
        folders = self.folders()
        if run is None or run == "latest":
            if not folders:
                raise RecordError(
                    f"no recorded run in {self.folder}",
                    hint="rivers run records each run; materialize() does with record=True or RIVERS_HOME",
                )
            return folders[0]
        path = Path(run).expanduser()
        if _is_record(path):
            return path
        found = [folder for folder in folders if folder.name.startswith(run)]
        if len(found) == 1:
            return found[0]
        if not found:
            near = ", ".join(folder.name[:8] for folder in folders[:5])
            raise RecordError(f"no recorded run {run!r} in {self.folder}", hint=f"the newest are {near or 'none'}")
        names = ", ".join(folder.name[:12] for folder in found[:5])
        raise RecordError(f"the run id {run!r} is not unique in {self.folder}: {names}", hint="give more of it")

    def prune(
        self, keep: int = KEEP_RUNS, keep_bytes: int = KEEP_BYTES, *, older_than: float | None = None
    ) -> list[Path]:
        """Delete the oldest records and return their folders; those that are being written stay.

        Args:
            keep: The number of newest records to keep.
            keep_bytes: The bytes that all kept records may have.
            older_than: Also delete the records last written before this time, in seconds since the epoch.
        """
        removed: list[Path] = []
        total = 0
        for number, record in enumerate(self._records()):
            total += record.size
            is_old = older_than is not None and record.modified < older_than
            # The newest stays however large it is, else a run could delete its own record.
            is_over = number >= keep or (total > keep_bytes and number > 0)
            if (is_over or is_old) and not is_being_written(record.folder / EVENTS_FILE):
                shutil.rmtree(record.folder, ignore_errors=True)
                removed.append(record.folder)
                total -= record.size
        return removed

    def _records(self) -> list[_Record]:
        return sorted(self._scan(), key=lambda record: (record.modified, record.folder.name), reverse=True)

    def _scan(self) -> Iterator[_Record]:
        try:
            folders = list(self.folder.iterdir())
        except (FileNotFoundError, NotADirectoryError):
            return
        except OSError as error:
            raise RecordError(f"cannot read the records in {self.folder}: {error.strerror}") from error
        for folder in folders:
            try:
                # Only what has the file of a record: nothing else in that folder may be deleted.
                stat = (folder / EVENTS_FILE).stat()
                # Reports that people have put beside it count, too.
                size = sum(file.stat().st_size for file in folder.iterdir())
            except OSError:
                continue
            yield _Record(folder, stat.st_mtime, size)


def _is_record(path: Path) -> bool:
    try:
        return (path / EVENTS_FILE).is_file() or (path.is_file() and path.suffix == ".jsonl")
    except OSError:
        # It is too long for a path, or lies in a folder of somebody else.
        return False
