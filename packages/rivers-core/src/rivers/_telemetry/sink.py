"""The sink that exports a run with OpenTelemetry."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

from opentelemetry import _logs, metrics, trace

from rivers._events.event import (
    Event,
    RunFinished,
    RunStarted,
    RunWarning,
    StepCancelled,
    StepFailed,
    StepLog,
    StepRetrying,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepUnchanged,
)
from rivers._record.header import RunHeader
from rivers._record.redact import Redactor
from rivers._telemetry.logs import RunLogs
from rivers._telemetry.metrics import RunMetrics
from rivers._telemetry.providers import flush, set_up
from rivers._telemetry.spans import RunSpans
from rivers.protocol.spec import TraceContext

__all__ = ["TelemetrySink", "make_sink"]

SCOPE = "rivers"
_NAMES: dict[type, str] = {
    RunStarted: "on_run_started",
    RunFinished: "on_run_finished",
    StepStarted: "on_started",
    StepSucceeded: "on_succeeded",
    StepFailed: "on_failed",
    StepRetrying: "on_retrying",
    StepUnchanged: "on_unchanged",
    StepSkipped: "on_skipped",
    StepCancelled: "on_cancelled",
}


class TelemetrySink:
    """An event sink of one run that makes spans, metrics and log records.

    Its providers export in threads of their own; `close` waits for them within a deadline.
    """

    def __init__(self, header: RunHeader, redactor: Redactor) -> None:
        version = header.versions.get("rivers-core")
        self._spans = RunSpans(header, redactor, trace.get_tracer(SCOPE, version))
        self._logs = RunLogs(redactor, _logs.get_logger(SCOPE, version))
        instruments = RunMetrics(header, metrics.get_meter(SCOPE, version or ""))
        # Metrics first: the end of a span forgets its step.
        self._handlers: dict[type, tuple[Callable[[Any], None], ...]] = {
            kind: (getattr(instruments, name), getattr(self._spans, name)) for kind, name in _NAMES.items()
        }
        self.begin_attempt: Callable[[str, str, int, float, str | None], TraceContext | None]
        self.begin_attempt = self._spans.begin_attempt

    def __call__(self, event: Event) -> None:
        for handler in self._handlers.get(type(event), ()):
            handler(event)
        if isinstance(event, StepLog):
            # Else each record would be exported twice.
            if event.stream != "log" or not _has_own_handler():
                self._logs.on_log(event, self._spans.context_of(event.step))
        elif isinstance(event, RunWarning):
            self._spans.on_warning(event)
            self._logs.on_warning(event, self._spans.context_of(event.step or ""))

    def close(self) -> None:
        """Export what is left, within a deadline."""
        flush()


def make_sink(header: RunHeader, redactor: Redactor) -> TelemetrySink:
    """Set the providers up, unless the program has, and return the sink of a run."""
    set_up()
    return TelemetrySink(header, redactor)


def _has_own_handler() -> bool:
    """Return whether the program exports its log records itself, with the handler of OpenTelemetry."""
    return any(type(handler).__module__.startswith("opentelemetry.") for handler in logging.root.handlers)
