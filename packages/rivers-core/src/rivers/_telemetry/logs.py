"""The log records of bodies, exported with the trace and the span of their attempt."""

from __future__ import annotations

import logging
import time

from opentelemetry._logs import Logger, LogRecord, SeverityNumber
from opentelemetry.context import Context

from rivers._events.event import RunWarning, StepLog
from rivers._record.redact import Redactor

__all__ = ["RunLogs"]

# The least level of logging that has each severity.
_SEVERITIES = (
    (logging.CRITICAL, SeverityNumber.FATAL),
    (logging.ERROR, SeverityNumber.ERROR),
    (logging.WARNING, SeverityNumber.WARN),
    (logging.INFO, SeverityNumber.INFO),
    (1, SeverityNumber.DEBUG),
)


class RunLogs:
    """The log records of one run: what bodies log and print, and the run's warnings."""

    def __init__(self, redactor: Redactor, logger: Logger) -> None:
        self._redactor = redactor
        self._logger = logger

    def on_log(self, event: StepLog, context: Context) -> None:
        """Export a record or a printed line of an attempt."""
        attributes: dict[str, object] = {
            "rivers.step.key": self._redactor.text(event.step),
            "rivers.attempt.number": event.attempt,
        }
        # A convention: `log.iostream` has the same two names.
        attributes |= {"logger.name": event.logger} if event.stream == "log" else {"log.iostream": event.stream}
        self._emit(event.time, event.level, event.message, attributes, context)

    def on_warning(self, event: RunWarning, context: Context) -> None:
        """Export a warning of the run."""
        attributes: dict[str, object] = {"logger.name": "rivers.run"}
        if event.step:
            attributes["rivers.step.key"] = self._redactor.text(event.step)
        self._emit(event.time, logging.WARNING, event.message, attributes, context)

    def _emit(self, at: float, level: int, message: str, attributes: dict[str, object], context: Context) -> None:
        severity = next((severity for least, severity in _SEVERITIES if level >= least), SeverityNumber.UNSPECIFIED)
        self._logger.emit(
            LogRecord(
                timestamp=int(at * 1e9),
                observed_timestamp=time.time_ns(),
                context=context,
                severity_text=logging.getLevelName(level) if level else None,
                severity_number=severity,
                body=self._redactor.text(message),
                attributes=attributes,
            )
        )
