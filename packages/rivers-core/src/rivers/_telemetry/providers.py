"""Set up the providers of OpenTelemetry from the environment, once for the process, and flush them."""

from __future__ import annotations

import atexit
import logging
import os
import threading
import time
from collections.abc import Callable

from opentelemetry import _logs, metrics, trace
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from rivers._telemetry.export import QuietExporter, describe_target, make_exporter, make_resource
from rivers._telemetry.settings import is_configured, signals_of
from rivers.protocol.exception_text import describe_exception

__all__ = ["flush", "set_up"]

FLUSH_DEADLINE = 5.0
"""Seconds that the end of a run waits for the last export."""
EXIT_DEADLINE = 2.0
"""Seconds that the end of the process waits for it, for spans of the program after its last run."""
QUEUE = 1 << 16
"""Spans that wait for their export; the SDK's own limit of 2,048 is less than a second of a run of small steps."""

_LOGGER = logging.getLogger("rivers.telemetry")
_lock = threading.Lock()
_signals: list[str] = []
_exporters: list[QuietExporter] = []
_flushes: list[Callable[[], object]] = []
_problems: list[str] = []


def set_up() -> None:
    """Make a provider for each signal that the environment asks for and that the program has not configured."""
    with _lock:
        # A second run finds them, also where an exporter could not be made.
        signals = [signal for signal in signals_of(os.environ) if signal not in _signals]
        _signals.extend(signals)
        for signal in signals:
            api, set_up_signal = _SET_UPS[signal]
            if is_configured(api):
                continue
            try:
                set_up_signal()
            # A package of the protocol is missing, or a variable has a value that the SDK refuses.
            except Exception as error:  # noqa: BLE001 - the SDK may raise anything, and no run fails for it
                _LOGGER.warning("%s are not exported: %s", signal, describe_exception(error))
        if signals:
            atexit.unregister(_flush_at_exit)
            atexit.register(_flush_at_exit)


def _set_up_traces() -> None:
    queue = {} if "OTEL_BSP_MAX_QUEUE_SIZE" in os.environ else {"max_queue_size": QUEUE}
    processor = BatchSpanProcessor(_exporter("traces"), schedule_delay_millis=1000, **queue)
    # Its own exit handler would wait for a dead collector for as long as the exporter's timeout.
    provider = TracerProvider(resource=make_resource(), shutdown_on_exit=False)
    provider.add_span_processor(processor)
    trace.set_tracer_provider(provider)
    _flushes.append(provider.force_flush)


def _set_up_metrics() -> None:
    # Its own thread exports once a minute, or as OTEL_METRIC_EXPORT_INTERVAL says.
    reader = PeriodicExportingMetricReader(_exporter("metrics"))
    provider = MeterProvider([reader], resource=make_resource(), shutdown_on_exit=False)
    metrics.set_meter_provider(provider)
    _flushes.append(provider.force_flush)


def _set_up_logs() -> None:
    processor = BatchLogRecordProcessor(_exporter("logs"), schedule_delay_millis=1000)
    provider = LoggerProvider(resource=make_resource(), shutdown_on_exit=False)
    provider.add_log_record_processor(processor)
    _logs.set_logger_provider(provider)
    _flushes.append(provider.force_flush)


_SET_UPS: dict[str, tuple[str, Callable[[], None]]] = {
    "traces": ("opentelemetry.trace", _set_up_traces),
    "metrics": ("opentelemetry.metrics", _set_up_metrics),
    "logs": ("opentelemetry._logs", _set_up_logs),
}


def _exporter(signal: str) -> QuietExporter:
    exporter = make_exporter(signal)
    _exporters.append(exporter)
    return exporter


def flush() -> None:
    """Export what is left, within a deadline; log one warning if that fails, and none if the last flush failed, too."""
    was_broken = bool(_problems)
    is_done = _flush_all(EXIT_DEADLINE if was_broken else FLUSH_DEADLINE)
    _problems[:] = [exporter.problem for exporter in _exporters if exporter.problem is not None]
    if not is_done and not _problems:
        _problems.append(f"{describe_target('traces')} has not answered within {FLUSH_DEADLINE:g} s")
    if _problems and not was_broken:
        _LOGGER.warning("telemetry of the run is lost: %s; the run itself is not affected", _problems[0])


def _flush_at_exit() -> None:
    # A collector that was dead at the end of the last run costs no second wait.
    if not _problems:
        _flush_all(EXIT_DEADLINE)


def _flush_all(deadline: float) -> bool:
    """Flush the providers side by side, each in a daemon thread; return whether all were done in time."""
    # Their own timeouts are not kept by every release of the SDK.
    threads = [threading.Thread(target=_quietly(one), name="rivers-otel-flush", daemon=True) for one in _flushes]
    for thread in threads:
        thread.start()
    end = time.monotonic() + deadline
    for thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
    return not any(thread.is_alive() for thread in threads)


def _quietly(function: Callable[[], object]) -> Callable[[], None]:
    def run() -> None:
        try:
            function()
        except Exception:
            _LOGGER.debug("a flush failed", exc_info=True)

    return run
