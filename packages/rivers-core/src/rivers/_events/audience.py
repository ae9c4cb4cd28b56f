"""The audience of a run: its sinks, told one after another; one that raises is left out from then on."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Sequence

from rivers._events.event import Event, RunWarning, StepLog
from rivers._events.sink import EventSink
from rivers.protocol.exception_text import describe_exception
from rivers.protocol.result import LogRecord

__all__ = ["Audience"]


_LOGGER = logging.getLogger("rivers.run")


class Audience:
    """Tells events to the sinks of one run; false when nobody listens.

    Then warnings, and only they, go to the logger `rivers.run`, so that none of them is lost.
    """

    def __init__(self, run_id: str, sinks: Sequence[EventSink]) -> None:
        self._run_id = run_id
        self._sinks = list(sinks)
        self._complaints: list[str] = []

    def __bool__(self) -> bool:
        return bool(self._sinks)

    def emit(self, event: Event) -> None:
        """Tell all sinks; raises nothing for what they do."""
        for sink in tuple(self._sinks):
            try:
                sink(event)
            except Exception as error:  # noqa: BLE001 - a sink is the user's code, and a run does not fail for it
                self._sinks.remove(sink)
                complaint = f"the event sink {sink!r} raised {describe_exception(error)}; it was told nothing more"
                self._complaints.append(f"{complaint} of run {self._run_id}")
                self.warn(complaint)

    def warn(self, message: str, step: str | None = None) -> None:
        """Tell of something that fails nothing."""
        if not self._sinks:
            _LOGGER.warning("%s (run %s)", message, self._run_id)
            return
        self.emit(RunWarning(run_id=self._run_id, time=time.time(), message=message, step=step))

    def log(self, record: LogRecord, step: str, attempt: int) -> None:
        """Tell what the body of a running attempt logged or printed, or what a worker says of it."""
        if not self._sinks:
            if record.logger.partition(".")[0] == "rivers":  # ours, and not the body's
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
            )
        )

    def complain(self) -> None:
        """After the run, in the thread that called it: warn of the sinks that raised."""
        for complaint in self._complaints:
            warnings.warn(complaint, RuntimeWarning, stacklevel=4)
