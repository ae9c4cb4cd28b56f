"""The sinks that come with rivers for `on_event=`; any callable that takes an event is a sink."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import IO, TypeAlias

import msgspec

from rivers._events.event import Event, RunWarning, StepFailed, StepLog, StepRetrying

__all__ = ["EventSink", "JsonLinesSink", "ListSink", "LoggingSink"]

EventSink: TypeAlias = Callable[[Event], None]


class ListSink:
    """A sink that keeps every event in `events`, in order; for tests and notebooks."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event) -> None:
        self.events.append(event)


class LoggingSink:
    """A sink that logs every event to a logger, by default `rivers.run`: failures as errors, retries as warnings."""

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self.logger = logger or logging.getLogger("rivers.run")

    def __call__(self, event: Event) -> None:
        if isinstance(event, StepLog):
            self.logger.log(event.level or logging.INFO, "%s: %s", event.step, event.message)
            return
        level = logging.INFO
        if isinstance(event, StepFailed):
            level = logging.ERROR
        elif isinstance(event, RunWarning | StepRetrying):
            level = logging.WARNING
        self.logger.log(level, "%s", _line(event))


def _line(event: Event) -> object:
    """Return the event as one line; a failure by its summary, as its traceback would fill pages."""
    if isinstance(event, StepFailed):
        return f"StepFailed {event.step!r}, attempt {event.attempt}: {event.failure.summary}"
    if isinstance(event, StepRetrying):
        why = event.failure.summary if event.failure is not None else "it did not start"
        return f"StepRetrying {event.step!r} in {event.delay:.1f} s, after attempt {event.attempt}: {why}"
    return event


class JsonLinesSink:
    """A sink that writes each event as one line of JSON to a file, at once; a context manager that closes the file."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        # Unbuffered and appending: a line is whole on the disk when the process is killed, and runs share a file.
        self._file: IO[bytes] = self.path.open("ab", buffering=0)
        self._encoder = msgspec.json.Encoder()

    def __call__(self, event: Event) -> None:
        self._file.write(self._encoder.encode(event) + b"\n")

    def close(self) -> None:
        """Close the file; further events raise ValueError."""
        self._file.close()

    def __enter__(self) -> JsonLinesSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
