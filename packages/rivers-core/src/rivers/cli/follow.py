"""`rivers logs` and `rivers watch`: read a record, also while another process writes it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

from rivers._definitions.names import did_you_mean
from rivers._events.event import (
    Event,
    RunFinished,
    StepCancelled,
    StepFailed,
    StepLog,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepUnchanged,
)
from rivers._record.reader import EVENTS_FILE, EventReader, is_being_written, read_run, try_header
from rivers._record.runs import RunRecords
from rivers._terminal.text import clean
from rivers._terminal.watch import watch as watch_record
from rivers.cli.errors import CommandError, ExitCode
from rivers.cli.printer import Printer, stderr, stdout
from rivers.cli.records import SHORT_ID, describe_record, last_event, records_of
from rivers.cli.show import warn_of_damage

__all__ = ["logs", "watch"]

POLL = 0.1
"""Seconds between two looks at a record that is being written."""
_ENDS = (StepSucceeded, StepUnchanged, StepFailed, StepSkipped, StepCancelled)


def follow(events_path: Path, reader: EventReader, is_over: Callable[[], bool]) -> Iterator[Event]:
    """Yield the events of a record until it is over or no process writes it any more."""
    while True:
        # Before the events are read: what was written until the lock went is then still read.
        is_written = is_being_written(events_path)
        events = reader.read()
        yield from events
        if not events:
            if is_over() or not is_written:
                return
            time.sleep(POLL)


# ── logs ──


def logs(run: str | None, step: str, home: Path | None, is_followed: bool) -> ExitCode:
    """Print what a step has logged and printed; with `is_followed` until the step or its process ends.

    Raises:
        RecordError: there is no such record.
        CommandError: the run has no such step.
    """
    path = records_of(home).find(run)
    check_record(path)
    events_path = path / EVENTS_FILE if path.is_dir() else path
    header, header_damage = try_header(events_path.parent)
    printer = StepLogPrinter(step, stdout())
    known = {planned.key: None for planned in header.steps} if header is not None else {}
    reader = EventReader(events_path)
    try:
        # A wrong name must not be waited for.
        if is_followed and (step in known or not known):
            for event in follow(events_path, reader, lambda: printer.is_over):
                printer(event)
        else:
            for event in reader.read_all():
                known.setdefault(getattr(event, "step", None) or "", None)
                printer(event)
    finally:
        reader.close()
    if not printer.has_step and step not in known:
        names = [name for name in known if name]
        hint = f"it has {', '.join(names[:10])}{', …' if len(names) > 10 else ''}" if names else None
        raise CommandError(f"no step {step!r} in the run{did_you_mean(step, names)}", hint=hint)
    warn_of_damage([*header_damage, *reader.damaged])
    if not printer.has_logs:
        stderr()(f"{step} has logged nothing")
    return ExitCode.OK


class StepLogPrinter:
    """A printer of the logs of one step; of a mapped step those of all instances, each line with its key."""

    def __init__(self, step: str, printer: Printer) -> None:
        self.has_step = False
        self.has_logs = False
        self.is_over = False
        self._step = step
        self._print = printer

    def __call__(self, event: Event) -> None:
        """Print the event, if it is one of the step's."""
        key = getattr(event, "step", None)
        if isinstance(event, RunFinished) or (key == self._step and isinstance(event, _ENDS)):
            self.is_over = True
        if not isinstance(key, str) or (key != self._step and key.partition("[")[0] != self._step):
            return
        self.has_step = True
        prefix = f"{key[len(self._step) :]} " if key != self._step else ""
        if isinstance(event, StepStarted) and event.attempt > 1:
            self._print(f"{prefix}── attempt {event.attempt} ──")
        elif isinstance(event, StepLog):
            self.has_logs = True
            moment = datetime.fromtimestamp(event.time).astimezone().strftime("%H:%M:%S")
            source = LEVELS.get(event.level, event.level) if event.stream == "log" else event.stream
            for line in clean(event.message).rstrip("\n").split("\n"):
                self._print(f"{prefix}{moment} {source:<7} {line}")


LEVELS = {10: "debug", 20: "info", 30: "warning", 40: "error", 50: "fatal"}


# ── watch ──


def watch(run: str | None, home: Path | None) -> ExitCode:
    """Show a run that another process carries out until it ends, and return the code with which it should have ended.

    Raises:
        RecordError: there is no such record.
    """
    path = find_running(records_of(home), run)
    check_record(path)
    try:
        view = watch_record(path, stdout().stream)
    except KeyboardInterrupt:
        stderr()(f"the run goes on; rivers watch {path.name[:SHORT_ID]} shows it again")
        return ExitCode.INTERRUPTED
    if view.status == "lost":
        header = view.header
        who = f"process {header.pid} on {header.host}" if header is not None and header.pid else "the process"
        stderr()(f"error: {who} ended without finishing the run: it was killed or crashed")
    return _CODES.get(view.status, ExitCode.INFRASTRUCTURE)


_CODES = {"success": ExitCode.OK, "failure": ExitCode.STEP_FAILED, "cancelled": ExitCode.CANCELLED}


def check_record(path: Path) -> None:
    """Check that a file which no process writes holds events of a run.

    Raises:
        RecordError: it does not.
    """
    events_path = path / EVENTS_FILE if path.is_dir() else path
    if last_event(events_path) is None and not is_being_written(events_path):
        read_run(path, keeps_logs=False)


def find_running(records: RunRecords, run: str | None) -> Path:
    """Return the record that a text names; without one the newest run that goes on, else the newest.

    Raises:
        RecordError: there is none.
    """
    if run is None:
        for folder in records.folders():
            if describe_record(folder)["status"] == "running":
                return folder
    return records.find(run)
