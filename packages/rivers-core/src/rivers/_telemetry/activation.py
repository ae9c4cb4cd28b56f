"""Decide whether a run is traced, and load OpenTelemetry only then."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Protocol

from rivers._events.event import Event
from rivers._record.header import RunHeader
from rivers._record.redact import Redactor
from rivers._telemetry.settings import is_disabled, program_has_provider, signals_of
from rivers.protocol.spec import TraceContext

__all__ = ["Telemetry", "wanted_telemetry"]

_LOGGER = logging.getLogger("rivers.telemetry")
_warned: set[str] = set()


class Telemetry(Protocol):
    """An event sink that exports a run, and begins the spans of its attempts."""

    def __call__(self, event: Event) -> None: ...

    def begin_attempt(
        self, step: str, attempt_id: str, attempt: int, queued: float, function: str | None
    ) -> TraceContext | None:
        """Begin the span of an attempt that is about to be submitted, after `queued` seconds, and return its context.

        `function` is the qualified name of its body.
        """

    def close(self) -> None:
        """Export what is left, within a deadline."""


def wanted_telemetry() -> Callable[[RunHeader, Redactor], Telemetry] | None:
    """Return what makes the sink of a run; None unless the environment or the program asks for OpenTelemetry."""
    if is_disabled(os.environ) or not (signals_of(os.environ) or program_has_provider()):
        return None
    try:
        from rivers._telemetry.sink import make_sink
    # Not installed, or a release that is too old.
    except ImportError as error:
        _warn_once(str(error))
        return None
    return make_sink


def _warn_once(problem: str) -> None:
    # Once for the process: platforms set these variables for all programs, also for those that cannot use them.
    if problem not in _warned:
        _warned.add(problem)
        _LOGGER.warning(
            "the run is not traced, though the environment or the program asks for it: %s; install rivers-core[otel], "
            "or set OTEL_SDK_DISABLED=true",
            problem,
        )
