"""`--retry-failed`: the recorded run of which a new one runs what did not succeed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rivers._record.header import RunHeader
from rivers._record.reader import read_header
from rivers._record.runs import RunRecords
from rivers.cli.errors import CommandError
from rivers.cli.target import target_identity
from rivers.exceptions import RecordError

__all__ = ["LATEST", "Retried", "find_retried"]

LATEST = "latest"


@dataclass(frozen=True, slots=True)
class Retried:
    """The record of the run that is retried, and its header."""

    folder: Path
    header: RunHeader


def find_retried(records: RunRecords, run: str, target: str, partition: str | None) -> Retried:
    """Return the run that a text names; `latest` is the newest one of the same target, and of the partition if given.

    Raises:
        RecordError: there is no such record.
        CommandError: the record has no header, or is of a run of another partition.
    """
    if run == LATEST:
        return _find_newest(records, target, partition)
    folder = records.find(run)
    header = read_header(folder) if folder.is_dir() else None
    if header is None:
        raise CommandError(f"the record {folder} has no header: expected the folder of a run")
    if partition is not None and header.partition != partition:
        has = f"the partition {header.partition!r}" if header.partition is not None else "no partition"
        raise CommandError(
            f"invalid --partition {partition!r} with --retry-failed {run}: that run has {has}",
            hint="leave --partition out, or the run: --retry-failed alone retries the last run of the partition",
        )
    return Retried(folder, header)


def _find_newest(records: RunRecords, target: str, partition: str | None) -> Retried:
    wanted = target_identity(target, Path.cwd())
    for folder in records.folders():
        try:
            header = read_header(folder)
        except RecordError:
            # It is damaged, or of a newer version.
            continue
        if header is None or partition not in (None, header.partition):
            continue
        if target_identity(header.repository, header.folder) == wanted:
            return Retried(folder, header)
    of_partition = f" of partition {partition}" if partition is not None else ""
    option = f" --partition {partition}" if partition is not None else ""
    raise RecordError(
        f"no recorded run{of_partition} of {target} in {records.folder}",
        hint=f"run it: rivers run {target}{option}; or name a run of `rivers runs`: --retry-failed RUN",
    )
