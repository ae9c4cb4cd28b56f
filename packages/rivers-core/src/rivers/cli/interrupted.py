"""Find the recorded runs that can be resumed."""

from __future__ import annotations

from pathlib import Path

from rivers._record.header import RunHeader
from rivers._record.reader import read_header
from rivers._record.runs import RunRecords
from rivers.cli.records import describe_record
from rivers.cli.request import Chosen
from rivers.exceptions import RecordError

__all__ = ["find_interrupted", "find_unfinished"]

_INTERRUPTED = ("lost", "cancelled", "running")


def find_unfinished(records: RunRecords) -> Path:
    """Return the newest record of a run that goes on no more and did not succeed.

    Raises:
        RecordError: there is none.
    """
    for folder in records.folders():
        if describe_record(folder)["status"] not in ("success", "running"):
            return folder
    raise RecordError(f"every recorded run in {records.folder} has succeeded or still goes on")


def find_interrupted(records: RunRecords, chosen: Chosen) -> Path | None:
    """Return the record of the newest run of the same target, job, selection and partition, if it was interrupted.

    One that still goes on counts, too: to resume it is refused.
    """
    job = chosen.job.name if chosen.job is not None else None
    for folder in records.folders():
        try:
            header = read_header(folder)
        except RecordError:
            continue
        if header is None or _choice_of(header) != (chosen.name, job, chosen.selection, chosen.request.partition):
            continue
        return folder if describe_record(folder)["status"] in _INTERRUPTED else None
    return None


def _choice_of(header: RunHeader) -> tuple[object, ...]:
    return header.repository, header.job, header.selection, header.partition
