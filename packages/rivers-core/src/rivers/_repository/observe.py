"""Observe a run: the sinks of its events, made from what the caller asks for and what the environment says."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from rivers._events.event import Event
from rivers._events.sink import EventSink
from rivers._io.home import expand_home
from rivers._record.header import RunHeader
from rivers._record.journal import RunJournal
from rivers._record.recorder import RunRecorder
from rivers._record.redact import Redactor, secrets_of
from rivers._record.runs import DEFAULT_HOME, RunRecords
from rivers._telemetry.activation import wanted_telemetry
from rivers.exceptions import ConfigurationError, RecordError
from rivers.protocol.spec import TraceContext

__all__ = [
    "HOME_VARIABLE",
    "PROGRESS_VARIABLE",
    "Durability",
    "Observe",
    "Observers",
    "Record",
    "check_durability",
    "check_durable",
    "check_progress",
    "check_record",
    "record_home",
]

HOME_VARIABLE = "RIVERS_HOME"
PROGRESS_VARIABLE = "RIVERS_PROGRESS"
Record = bool | str | os.PathLike[str] | None
Durability = Literal["process", "power"]


class ClosableSink(Protocol):
    """An event sink of rivers' own that is closed at the end of its run."""

    def __call__(self, event: Event) -> None: ...

    def close(self) -> None:
        """Release what it holds; called once, after the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observe:
    """The ways in which the caller of one run wants to see it.

    `durability` is what the record survives: the end of the process, or a power cut, too. `progress` shows it in the
    terminal, None only where RIVERS_PROGRESS asks for it. `sinks` are made by functions that get the header of the run
    and its redactor. `fields` are further fields of the header.
    """

    on_event: EventSink | None = None
    record: Record = None
    durability: Durability = "process"
    progress: bool | None = False
    sinks: Sequence[Callable[[RunHeader, Redactor], ClosableSink]] = ()
    fields: dict[str, Any] = field(default_factory=dict)


class Observers:
    """The sinks of one run; a context manager that closes those of rivers.

    `header` describes the run and `resources` returns what may hold secrets; neither is called for a run that nobody
    observes. With a `journal` the record of an earlier process goes on. `record` is the folder of the record, None
    where none is written, and `journal` its sink; `describe` returns the header. `begin_attempt` begins the span of an
    attempt, in a traced run.
    """

    def __init__(
        self,
        observe: Observe,
        header: Callable[..., RunHeader],
        resources: Callable[[], Iterable[object]],
        journal: RunJournal | None = None,
    ) -> None:
        self.sinks: list[EventSink] = []
        self.record: Path | None = None
        self.journal: EventSink | None = None
        self.describe = partial(header, **observe.fields)
        self._resources = resources
        self.begin_attempt: Callable[[str, str, int, float, str | None], TraceContext | None] | None = None
        self._own: list[ClosableSink] = []
        home = record_home(observe.record) if journal is None else None
        makers = [*observe.sinks]
        if _is_progress_wanted(observe.progress):
            makers.append(_make_progress)
        make_telemetry = wanted_telemetry()
        if home is not None or journal is not None or makers or make_telemetry is not None:
            redactor = self.redactor()
            described = self.describe()
            if journal is not None:
                self.record = journal.folder
            elif home is not None:
                self.record = _make_room(home).folder_of(described.run_id)
            if self.record is not None:
                is_synced = observe.durability == "power"
                recorder = RunRecorder(self.record, described, redactor, is_synced=is_synced, journal=journal)
                self.journal = recorder
                self._own.append(recorder)
            self._own += [make(described, redactor) for make in makers]
            if make_telemetry is not None:
                telemetry = make_telemetry(described, redactor)
                self.begin_attempt = telemetry.begin_attempt
                self._own.append(telemetry)
        self.sinks += self._own
        if observe.on_event is not None:
            self.sinks.append(observe.on_event)

    def redactor(self) -> Redactor:
        """Return a redactor of the secrets that the controller knows now."""
        return Redactor(secrets_of(self._resources(), os.environ))

    def __enter__(self) -> Observers:
        return self

    def __exit__(self, *exception: object) -> None:
        for sink in self._own:
            sink.close()


def check_progress(progress: object) -> None:
    """Check the argument `progress`.

    Raises:
        ConfigurationError: it is neither a bool nor None.
    """
    if not isinstance(progress, bool | None):
        raise ConfigurationError(
            f"invalid progress={progress!r:.80}: expected True, False or None",
            hint=f"None shows progress only where {PROGRESS_VARIABLE} is set",
        )


def check_durability(durability: object) -> None:
    """Check the argument `durability`.

    Raises:
        ConfigurationError: it is something else.
    """
    if durability not in get_args(Durability):
        raise ConfigurationError(
            f"invalid durability={durability!r:.80}: expected 'process' or 'power'",
            hint="'power' forces each line of the record to disk, which takes about 0.3 ms",
        )


def check_durable(durable: object, record: Record) -> None:
    """Check the argument `durable`; `record` is a checked one.

    Raises:
        ConfigurationError: it is no bool, or it is True for a run that is not recorded.
    """
    if not isinstance(durable, bool):
        raise ConfigurationError(f"invalid durable={durable!r:.80}: expected True or False")
    if durable and record_home(record) is None:
        raise ConfigurationError(
            "invalid durable=True: expected a run that is recorded, as it is resumed from its record",
            hint=f"add record=True, or set {HOME_VARIABLE}",
        )


def _is_progress_wanted(progress: bool | None) -> bool:
    if progress is not None:
        return progress
    return os.environ.get(PROGRESS_VARIABLE, "").strip().lower() not in ("", "0", "false", "no", "off")


def _make_progress(header: RunHeader, redactor: Redactor) -> ClosableSink:
    # At first use: most runs show nothing.
    from rivers._terminal.choose import make_progress

    return make_progress(header, redactor)


def check_record(record: object) -> None:
    """Check the argument `record`.

    Raises:
        ConfigurationError: it is neither a bool, nor a path, nor None.
    """
    if not isinstance(record, bool | str | os.PathLike | None) or record == "":
        raise ConfigurationError(
            f"invalid record={record!r:.80}: expected True, False or the path of a home folder",
            hint=f"True records to {DEFAULT_HOME}/runs, or to the folder that {HOME_VARIABLE} names",
        )


def _make_room(home: Path) -> RunRecords:
    """Return the records of a home folder, without those that are too many."""
    records = RunRecords(home)
    # A folder that cannot be read cannot be written either, of which the recorder warns.
    with contextlib.suppress(RecordError):
        records.prune()
    return records


def record_home(record: Record) -> Path | None:
    """Return the home folder of the record, or None for no record; RIVERS_HOME alone asks for one, too."""
    home = os.environ.get(HOME_VARIABLE)
    if record is False or (record is None and not home):
        return None
    if record is None or record is True:
        return Path(expand_home(home, HOME_VARIABLE)) if home else DEFAULT_HOME
    return Path(expand_home(os.fspath(record), "record"))
