"""Exporters whose failures are kept instead of logged, as one warning at the end of a run is enough."""

from __future__ import annotations

import importlib
import logging
import os
from typing import Any
from urllib.parse import urlsplit

from opentelemetry.sdk.resources import Resource

from rivers._telemetry.settings import ENDPOINT, exporter_module

__all__ = ["QuietExporter", "describe_target", "make_exporter", "make_resource"]

_CLASSES = {"traces": "OTLPSpanExporter", "metrics": "OTLPMetricExporter", "logs": "OTLPLogExporter"}
_LOUD = "opentelemetry.exporter.otlp"


class QuietExporter:
    """An OTLP exporter that remembers its last failure in `problem`.

    All else is the exporter's: an attribute that is not here is its own.
    """

    def __init__(self, signal: str, exporter: Any) -> None:
        self.signal = signal
        self.problem: str | None = None
        self._exporter = exporter

    def export(self, batch: Any, *arguments: Any, **options: Any) -> Any:
        """Export a batch and return the exporter's result, None if it raised."""
        try:
            result = self._exporter.export(batch, *arguments, **options)
        except Exception as error:  # noqa: BLE001 - an exporter may raise anything, and no run fails for it
            self.problem = f"exporting {self.signal} to {describe_target(self.signal)} failed: {type(error).__name__}"
            return None
        self.problem = None
        if result.name != "SUCCESS":
            self.problem = f"exporting {self.signal} to {describe_target(self.signal)} failed"
        return result

    def __getattr__(self, name: str) -> Any:
        return getattr(self._exporter, name)


def describe_target(signal: str) -> str:
    """Return the host and port that a signal is exported to."""
    endpoint = os.environ.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT") or os.environ.get(ENDPOINT, "")
    # Without a password in it.
    return urlsplit(endpoint).netloc.rpartition("@")[2] or "the collector"


def make_resource() -> Resource:
    """Return the resource of this process: the environment's, with `rivers` as the service where it names none."""
    named = "OTEL_SERVICE_NAME" in os.environ or "service.name" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    return Resource.create({} if named else {"service.name": "rivers"})


def make_exporter(signal: str, timeout: float | None = None) -> QuietExporter:
    """Make the exporter of a signal as the environment says.

    `timeout` is in seconds, None the environment's.

    Raises:
        ModuleNotFoundError: the package of the protocol is not installed.
    """
    module = importlib.import_module(exporter_module(signal, os.environ))
    _silence()
    return QuietExporter(signal, getattr(module, _CLASSES[signal])(timeout=timeout))


def _silence() -> None:
    # A dead collector is logged with each retry of each batch of each signal, to the user's terminal where logging is
    # not configured. The filter is on the loggers themselves, as a parent's would not apply.
    for name in [*logging.root.manager.loggerDict]:
        if name.startswith(_LOUD):
            logging.getLogger(name).addFilter(_drop_failures)


def _drop_failures(record: logging.LogRecord) -> bool:
    return record.levelno < logging.WARNING
