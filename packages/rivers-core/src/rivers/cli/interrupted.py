"""Find the recorded runs that can be resumed or retried."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from rivers._record.backfill_log import BACKFILL_TAG
from rivers._record.header import RunHeader
from rivers._record.reader import read_header
from rivers._record.runs import RunRecords
from rivers.cli.records import SHORT_ID, describe_record, started_text
from rivers.cli.request import Chosen
from rivers.cli.target import target_identity
from rivers.exceptions import RecordError

__all__ = ["find_failed", "find_interrupted", "find_unfinished"]

_INTERRUPTED = ("lost", "cancelled", "running")


@dataclass(frozen=True, slots=True)
class _Known:
    """A record with its header and the status of its run."""

    folder: Path
    header: RunHeader
    status: str

    @property
    def name(self) -> str:
        return self.header.run_id[:SHORT_ID]


def find_unfinished(records: RunRecords) -> Path:
    """Return the newest record of a run that goes on no more, did not succeed, and was not retried with success.

    Raises:
        RecordError: there is none.
    """
    # Without any record it says so.
    records.find()
    newer: list[_Known] = []
    passed = ""
    for run in _known(records):
        newer.append(run)
        if run.status in ("success", "running"):
            continue
        retry = _retried(newer).get(run.header.run_id)
        if retry is None:
            return run.folder
        passed = passed or f"run {run.name} was retried by run {retry}, which succeeded"
    if passed:
        raise RecordError(f"nothing to resume: {passed}")
    raise RecordError(f"every recorded run in {records.folder} has succeeded or still goes on")


def find_interrupted(records: RunRecords, chosen: Chosen, backfill: str | None) -> Path | None:
    """Return the record of the newest run of the same target, job, selection and partition, if it was interrupted.

    With the id of a `backfill` only its own runs count: those of others may have another config.
    One that still goes on counts, too: to resume it is refused. One that was retried with success does not.
    """
    job = chosen.job.name if chosen.job is not None else None
    wanted = target_identity(chosen.name, Path.cwd())
    newer: list[_Known] = []
    for run in _known(records):
        newer.append(run)
        if backfill not in (None, run.header.tags.get(BACKFILL_TAG)):
            continue
        if _choice_of(run.header) == (wanted, job, chosen.selection, chosen.request.partition):
            is_open = run.status in _INTERRUPTED and run.header.run_id not in _retried(newer)
            return run.folder if is_open else None
    return None


def find_failed(records: RunRecords, target: str) -> str | None:
    """Return a name and a time of the newest run of a target of which something is left to run, None without one.

    What a later run with all of its steps has made is not left.
    """
    wanted = target_identity(target, Path.cwd())
    made: list[set[str]] = []
    for run in _known(records):
        if _target_of(run.header) != wanted or run.header.partition is not None:
            continue
        steps = {step.key for step in run.header.steps}
        if run.status == "success":
            made.append(steps)
        elif run.status != "running" and not any(steps <= later for later in made):
            return f"{run.name} of {started_text(run.header.started, is_short=True)}"
    return None


def _known(records: RunRecords) -> Iterator[_Known]:
    for folder in records.folders():
        try:
            header = read_header(folder)
        except RecordError:
            # It is damaged, or of a newer version.
            continue
        if header is not None:
            yield _Known(folder, header, str(describe_record(folder)["status"]))


def _retried(known: Sequence[_Known]) -> dict[str, str]:
    """Return the runs of which a retry with all of their steps, or a retry of that, succeeded; with its short name."""
    by_id = {run.header.run_id: run for run in known}
    found: dict[str, str] = {}
    for run in known:
        before, seen = run, {run.header.run_id}
        while run.status == "success" and before.header.retry_of in by_id and before.header.retry_of not in seen:
            before = by_id[before.header.retry_of]
            seen.add(before.header.run_id)
            if _steps(before) <= _steps(run):
                found[before.header.run_id] = run.name
    return found


def _steps(run: _Known) -> set[str]:
    return {step.key for step in run.header.steps}


def _choice_of(header: RunHeader) -> tuple[object, ...]:
    return _target_of(header), header.job, header.selection, header.partition


def _target_of(header: RunHeader) -> tuple[str, str]:
    return target_identity(header.repository, header.folder)
