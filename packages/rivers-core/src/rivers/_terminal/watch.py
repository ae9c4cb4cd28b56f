"""Watch a recorded run of another process until it is over."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TextIO

from rivers._events.event import Event, RunWarning
from rivers._record.reader import EVENTS_FILE, DamagedLine, EventReader, is_being_written, try_header
from rivers._record.view import RunView
from rivers._terminal.choose import choose_painter
from rivers._terminal.progress import RunProgress
from rivers._terminal.sink import INTERVAL, Painter

__all__ = ["watch"]

MOST_DAMAGED = 3


def watch(path: Path, stream: TextIO | None = None, *, log_level: int | None = None) -> RunView:
    """Show the run of a record, given by its folder or its events file, until it is over, and return its view.

    It is shown like a run of this process: live in a terminal, else as lines. The end is the summary. Where the process
    of the run was killed, the status is `lost`, and the summary says so. Ctrl-C ends the watching, not the run.

    Raises:
        RecordError: there is no record at that path.
        KeyboardInterrupt: Ctrl-C; the terminal is restored.
    """
    events_path = path / EVENTS_FILE if path.is_dir() else path
    reader = EventReader(events_path)
    try:
        progress = RunProgress(try_header(events_path.parent)[0], log_level=log_level)
        painter = choose_painter(stream)
        try:
            _follow(reader, progress, painter)
        except BaseException:
            painter.abandon()
            raise
    finally:
        reader.close()
    return progress.view


def _follow(reader: EventReader, progress: RunProgress, painter: Painter) -> None:
    view = progress.view
    damaged = 0
    while True:
        # Before the events: what is written until the end of its process is then read.
        is_written = is_being_written(reader.path)
        found = reader.read()
        view.run_id = view.run_id or (found[0].run_id if found else "")
        # Runs share a file that they append to: the first one is shown.
        events: list[Event] = [event for event in found if event.run_id == view.run_id]
        events += [_warning(view, line) for line in reader.damaged[damaged:MOST_DAMAGED]]
        damaged = len(reader.damaged)
        taken = progress.take(events)
        if not found and not is_written:
            view.end_without_word()
            progress.take([])
        painter.paint(progress, taken, time.time())
        if view.is_over:
            painter.finish(progress)
            return
        if not found:
            time.sleep(INTERVAL)


def _warning(view: RunView, line: DamagedLine) -> RunWarning:
    message = f"line {line.number} of the record cannot be read: {line.problem}"
    return RunWarning(run_id=view.run_id, time=view.last_time or time.time(), message=message)
