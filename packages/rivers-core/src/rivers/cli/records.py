"""The records below the home folder of a command, and the facts of each."""

from __future__ import annotations

import os
import time
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from rivers._events.event import Event, RunFinished
from rivers._io.home import expand_home
from rivers._record.reader import EVENTS_FILE, is_being_written, read_header
from rivers._record.runs import DEFAULT_HOME, RunRecords
from rivers._repository.observe import HOME_VARIABLE
from rivers.exceptions import RecordError

__all__ = ["SHORT_ID", "describe_record", "last_event", "records_of", "started_text"]

SHORT_ID = 8
TAIL = 64 * 1024
"""Bytes at the end of an events file in which its last event is looked for."""


def records_of(home: Path | None) -> RunRecords:
    """Return the records below --home, RIVERS_HOME or .rivers."""
    if home is not None:
        return RunRecords(home)
    named = os.environ.get(HOME_VARIABLE)
    return RunRecords(expand_home(named, HOME_VARIABLE) if named else DEFAULT_HOME)


def started_text(started: float | None, *, is_short: bool = False) -> str:
    """Return a time for people, in the local zone; a short one is a time of today, or the date of another day."""
    if not started:
        return ""
    moment = datetime.fromtimestamp(started).astimezone()
    if not is_short:
        return f"{moment:%Y-%m-%d %H:%M:%S}"
    is_today = moment.date() == datetime.now(moment.tzinfo).date()
    return f"{moment:%H:%M}" if is_today else f"{moment:%d %b}"


def describe_record(folder: Path) -> dict[str, Any]:
    """Return the facts of a record, from its header and its last event alone: a record may have gigabytes."""
    events = folder / EVENTS_FILE
    try:
        header = read_header(folder)
    except RecordError:
        header = None
    is_written = is_being_written(events)
    last = last_event(events)
    status = last.status if isinstance(last, RunFinished) else ("running" if is_written else "lost")
    started = header.started if header is not None else None
    ended = time.time() if status == "running" else (last.time if last is not None else None)
    return {
        "run_id": header.run_id if header is not None else folder.name,
        "status": status,
        "started": started,
        "seconds": ended - started if ended is not None and started is not None else None,
        "repository": header.repository if header is not None else "",
        "job": header.job if header is not None else None,
        "partition": header.partition if header is not None else None,
        "steps": len(header.steps) if header is not None else 0,
        "folder": str(folder),
    }


def last_event(events: Path) -> Event | None:
    """Return the last event of a file that can be read, None where there is none near its end."""
    decoder: msgspec.json.Decoder[Event] = msgspec.json.Decoder(Event)
    try:
        with events.open("rb") as file:
            # The beginning of the first line is cut off, and is no JSON then.
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL))
            lines = file.read().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        try:
            return decoder.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # A line that is not finished, or the end of a long one.
            continue
    return None
