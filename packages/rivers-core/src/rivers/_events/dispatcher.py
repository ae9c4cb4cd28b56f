"""Dispatch the events of a run to its sinks."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Sequence

from rivers._events.event import Event, RunWarning, StepLog
from rivers._events.sink import EventSink
from rivers.protocol.exception_text import describe_exception
from rivers.protocol.result import LogRecord, StreamRecord

__all__ = ["EventDispatcher"]

_LOGGER = logging.getLogger("rivers.run")


class EventDispatcher:
    """The event sinks of one run, called one after another; false when there are none.

    A sink that raises gets no further events of the run. `journal` is the one of them that also takes intents. Without
    sinks, warnings go to the logger `rivers.run`, so that none is lost, and all other events are dropped.
    """

    def __init__(self, run_id: str, sinks: Sequence[EventSink], journal: EventSink | None = None) -> None:
        self._run_id = run_id
        self._journal = journal
        self._sinks = list(sinks)
        self._broken: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._sinks)

    @property
    def has_journal(self) -> bool:
        """True if the run has a journal that still works."""
        return self._journal is not None

    def emit(self, event: Event) -> None:
        """Call all sinks with an event; raise nothing for what they do."""
        # A copy, as a sink that raises is removed meanwhile.
        for sink in tuple(self._sinks):
            self._call(sink, event)

    def note(self, intent: Event) -> None:
        """Call the journal alone, if the run has one that still works."""
        if self._journal is not None:
            self._call(self._journal, intent)

    def show(self, event: Event) -> None:
        """Call all sinks but the journal, which has the event from an earlier controller."""
        for sink in tuple(self._sinks):
            if sink is not self._journal:
                self._call(sink, event)

    def _call(self, sink: EventSink, event: Event) -> None:
        try:
            sink(event)
        except Exception as error:  # noqa: BLE001 - a sink is the user's code, and a run does not fail for it
            self._sinks.remove(sink)
            if sink is self._journal:
                self._journal = None
            problem = f"the event sink {sink!r} raised {describe_exception(error)}; it gets no further events"
            self._broken.append(f"{problem} of run {self._run_id}")
            self.warn(problem)

    def warn(self, message: str, step: str | None = None) -> None:
        """Emit a RunWarning, or log it where nobody listens."""
        if not self._sinks:
            _LOGGER.warning("%s (run %s)", message, self._run_id)
            return
        self.emit(RunWarning(run_id=self._run_id, time=time.time(), message=message, step=step))

    def log(self, record: LogRecord, step: str, attempt: int) -> None:
        """Emit a log record of a running attempt, of its body or of its worker, as a StepLog."""
        if not self._sinks:
            # Of what is not listened to, only rivers' own warnings are kept, not the body's log.
            if record.logger.partition(".")[0] == "rivers":
                self.warn(f"step {step!r}: {record.message}")
            return
        self.emit(
            StepLog(
                run_id=self._run_id,
                time=record.time or time.time(),
                step=step,
                attempt=attempt,
                message=record.message,
                level=record.level,
                logger=record.logger,
                stream=record.stream,
                seq=record.seq if isinstance(record, StreamRecord) else 0,
            )
        )

    def warn_of_broken_sinks(self) -> None:
        """Issue a RuntimeWarning for each sink that raised; call it after the run, in the caller's thread."""
        for problem in self._broken:
            warnings.warn(problem, RuntimeWarning, stacklevel=5)
