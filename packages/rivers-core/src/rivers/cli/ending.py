"""The end of `rivers run`: what is printed and written once the run is over."""

from __future__ import annotations

import os
import shlex
import warnings
from pathlib import Path

from rivers._events.event import Event, RunFinished
from rivers._record.header import RunHeader
from rivers._record.reader import EVENTS_FILE, read_run
from rivers._record.redact import Redactor, secrets_of
from rivers._record.view import RunView
from rivers._terminal.summary import summary
from rivers._terminal.text import clean
from rivers.cli.printer import Printer
from rivers.cli.records import SHORT_ID, last_event, records_of
from rivers.cli.report import save_report

__all__ = ["ViewSink", "print_end", "print_warnings", "write_picture"]


class ViewSink:
    """A sink that folds the events of a run into its view."""

    def __init__(self, header: RunHeader, redactor: Redactor) -> None:
        self.view = RunView(header, keeps_logs=False)
        self.redactor = redactor

    def __call__(self, event: Event) -> None:
        """Take in the next event."""
        self.view.apply(event)

    def close(self) -> None:
        """Close nothing."""


def print_warnings(printer: Printer, *, has_progress: bool) -> None:
    """Print Python's warnings on one line each, without the source line of rivers that they point to."""

    def show(message: Warning | str, category: type[Warning], filename: str, lineno: int, *more: object) -> None:
        # Progress has shown a broken sink when it happened, such as the record on a full disk.
        if not (has_progress and str(message).startswith("the event sink ")):
            redactor = Redactor(secrets_of((), os.environ))
            printer(redactor.text(f"warning: {clean(str(message))}"))

    warnings.showwarning = show  # type: ignore[assignment]  # called with these four, and two that it need not have


def print_end(lines: Printer, seen: ViewSink, record: Path | None, *, has_progress: bool) -> None:
    """Print the summary, unless progress has ended with it, and the command that shows the record."""
    if not has_progress:
        text = summary(seen.view, lines.width, lines.has_unicode, color=lines.has_color)
        lines(seen.redactor.text(text).rstrip())
    if record is None:
        return
    if is_complete(record):
        home = record.parents[1]
        where = f" --home {shlex.quote(str(home))}" if home != records_of(None).home else ""
        lines(f"\nRecord: rivers show {seen.view.run_id[:SHORT_ID]}{where}")
    else:
        lines(f"\nRecord: incomplete, in {record}")


def is_complete(record: Path) -> bool:
    """Return whether the record was written to its end; a full disk cuts it off."""
    return isinstance(last_event(record / EVENTS_FILE), RunFinished)


def write_picture(seen: ViewSink, record: Path | None, output: Path) -> Path:
    """Write the picture of the run and return its path; where there is a whole record, with the logs in it.

    Raises:
        CommandError: the file cannot be written.
    """
    # The view has no logs, as a run may have gigabytes of them.
    if record is not None and is_complete(record):
        return save_report(read_run(record)[0], output)
    return save_report(seen.view, output, seen.redactor)
