"""Export the spans that bodies make in a worker, at the end of each attempt.

No thread stays for it, as the batch processor's would: a worker whose bodies leave no thread is used again.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections import deque
from typing import Any

from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, SpanProcessor, TracerProvider

from rivers._telemetry.export import QuietExporter, make_exporter, make_resource
from rivers._telemetry.settings import is_configured, signals_of

__all__ = ["flush_spans", "set_up"]

DEADLINE = 2.0
"""Seconds that the end of an attempt waits for the export of its spans."""
PAUSE = 30.0
"""Seconds for which a worker that could not export waits for no export."""
KEPT = 1 << 14
"""Spans that are kept until the attempt ends; the oldest are dropped."""
BATCH = 512

_LOGGER = logging.getLogger("rivers.telemetry")


class AttemptSpans(SpanProcessor):  # type: ignore[misc]  # opentelemetry is an optional extra
    """A span processor that keeps ended spans until `flush`."""

    def __init__(self, exporter: QuietExporter) -> None:
        self._exporter = exporter
        self._ended: deque[ReadableSpan] = deque(maxlen=KEPT)
        self._paused_until = 0.0

    def on_end(self, span: ReadableSpan) -> None:
        """Keep a span that was sampled."""
        if span.context.trace_flags.sampled:
            self._ended.append(span)

    def flush(self) -> None:
        """Export what is kept, in a thread that is waited for up to a deadline."""
        if not self._ended:
            return
        thread = threading.Thread(target=self._export, name="rivers-otel-flush", daemon=True)
        thread.start()
        # A dead collector would cost each attempt of this worker the deadline.
        if time.monotonic() < self._paused_until:
            return
        thread.join(DEADLINE)
        if thread.is_alive() or self._exporter.problem is not None:
            self._paused_until = time.monotonic() + PAUSE
            # No warning: the controller, which exports to the same collector, gives one for the run.
            _LOGGER.info("the spans of this worker are lost: %s", self._exporter.problem or "no answer in time")

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Export what is kept, as the SDK asks for."""
        self.flush()
        return True

    def _export(self) -> None:
        while batch := self._take():
            self._exporter.export(batch)

    def _take(self) -> list[ReadableSpan]:
        found: list[ReadableSpan] = []
        while self._ended and len(found) < BATCH:
            found.append(self._ended.popleft())
        return found


_processors: list[AttemptSpans] = []


def set_up() -> None:
    """Make a provider if the environment asks for one and the user's modules have configured none."""
    if "traces" not in signals_of(os.environ) or is_configured("opentelemetry.trace"):
        return
    provider = TracerProvider(resource=make_resource(), shutdown_on_exit=False)
    processor = AttemptSpans(make_exporter("traces", timeout=DEADLINE))
    provider.add_span_processor(processor)
    _processors.append(processor)
    trace.set_tracer_provider(provider)


def flush_spans() -> None:
    """Export the spans of an attempt, also those of a provider that the user's modules have configured."""
    for processor in _processors:
        processor.flush()
        return
    # Its own exit handler may never run: a pod ends without one, and a worker may be killed.
    provider: Any = trace.get_tracer_provider()
    force = getattr(provider, "force_flush", None)
    if force is not None:
        thread = threading.Thread(target=force, name="rivers-otel-flush", daemon=True)
        thread.start()
        thread.join(DEADLINE)
