"""`rivers runs`: list and prune the records of runs."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from pathlib import Path

from rivers._record.runs import KEEP_BYTES, KEEP_RUNS
from rivers._terminal.text import clean, count_of, duration
from rivers.cli.errors import CommandError, ExitCode
from rivers.cli.printer import stdout
from rivers.cli.records import SHORT_ID, describe_record, records_of, started_text
from rivers.cli.tables import print_table

__all__ = ["list_runs", "parse_age", "parse_size", "prune_runs"]

MANY = 10**9
WIDE = 76
"""Columns from which a table has whole dates."""
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_BYTES = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30, "t": 2**40}
_STYLES = {"success": "green", "failure": "red", "lost": "red", "cancelled": "yellow", "running": "cyan"}


def list_runs(home: Path | None, limit: int, as_json: bool) -> ExitCode:
    """Print the newest runs with their status."""
    records = records_of(home)
    folders = records.folders()
    found = [describe_record(folder) for folder in folders[: limit or None]]
    printer = stdout()
    if as_json:
        printer(json.dumps(found, ensure_ascii=False))
        return ExitCode.OK
    if not found:
        printer(f"no recorded runs in {records.folder}")
        return ExitCode.OK
    rows = [
        (
            (one["run_id"][:SHORT_ID], "bold"),
            (one["status"], _STYLES.get(one["status"], "")),
            started_text(one["started"], is_short=printer.width < WIDE),
            duration(one["seconds"]) if one["seconds"] is not None else "",
            str(one["steps"]),
            clean(" ".join(text for text in (one["repository"], one["job"], one["partition"]) if text)),
        )
        for one in found
    ]
    print_table(printer, ("run", "status", "started", "took", "steps", "target"), rows)
    if len(folders) > len(found):
        printer(f"… and {len(folders) - len(found)} older ones: --limit 0 lists all")
    return ExitCode.OK


def prune_runs(home: Path | None, keep: int | None, older_than: str | None, max_size: str | None) -> ExitCode:
    """Delete old records: all but the newest `keep`, those older than a time, and the oldest over a size."""
    if keep is None and older_than is None and max_size is None:
        keep, size = KEEP_RUNS, KEEP_BYTES
    else:
        size = parse_size(max_size) if max_size is not None else MANY * 2**20
    if keep is not None and keep < 0:
        raise CommandError(f"invalid --keep {keep}: expected a whole number of at least 0")
    before = time.time() - parse_age(older_than) if older_than is not None else None
    removed = records_of(home).prune(keep if keep is not None else MANY, size, older_than=before)
    stdout()(f"deleted {count_of(len(removed), 'record')}")
    return ExitCode.OK


def parse_age(text: str) -> float:
    """Return the seconds of a text such as `7d`, `12h` or `90s`.

    Raises:
        CommandError: it is something else.
    """
    return _parse("--older-than", text, r"(\d+(?:\.\d+)?)\s*([smhdw])", _SECONDS, "a time such as 7d, 12h or 30m")


def parse_size(text: str) -> int:
    """Return the bytes of a text such as `500MB` or `2GiB`.

    Raises:
        CommandError: it is something else.
    """
    return int(
        _parse("--max-size", text, r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", _BYTES, "a size such as 500MB or 2GB")
    )


def _parse(option: str, text: str, pattern: str, units: Mapping[str, int], expected: str) -> float:
    found = re.fullmatch(pattern, text.strip().lower())
    if found is None:
        raise CommandError(f"invalid {option} {text!r}: expected {expected}")
    return float(found[1]) * units[found[2]]
