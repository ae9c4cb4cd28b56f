"""The OTLP environment variables: which signals to export, and how. Pure; imports no OpenTelemetry."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Mapping

__all__ = ["SIGNALS", "exporter_module", "is_disabled", "program_has_provider", "signals_of"]

SIGNALS = ("traces", "metrics", "logs")
ENDPOINT = "OTEL_EXPORTER_OTLP_ENDPOINT"
_MODULES = {"traces": "trace_exporter", "metrics": "metric_exporter", "logs": "_log_exporter"}
_API = {
    "opentelemetry.trace": "get_tracer_provider",
    "opentelemetry.metrics": "get_meter_provider",
    "opentelemetry._logs": "get_logger_provider",
}


def is_disabled(environment: Mapping[str, str]) -> bool:
    """Return whether `OTEL_SDK_DISABLED` switches telemetry off."""
    return environment.get("OTEL_SDK_DISABLED", "").strip().lower() == "true"


def signals_of(environment: Mapping[str, str]) -> list[str]:
    """Return the signals that the environment asks for: those with an endpoint whose exporter is not `none`."""
    if is_disabled(environment):
        return []
    return [
        signal
        for signal in SIGNALS
        if (environment.get(ENDPOINT) or environment.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_ENDPOINT"))
        and environment.get(f"OTEL_{signal.upper()}_EXPORTER", "otlp").strip().lower() in ("", "otlp")
    ]


def exporter_module(signal: str, environment: Mapping[str, str]) -> str:
    """Return the module with the exporter of a signal, for the protocol that the environment names.

    Without a protocol it is `http/protobuf`, as the specification says, or `grpc` where only that is installed.
    """
    general = environment.get("OTEL_EXPORTER_OTLP_PROTOCOL", "")
    protocol = environment.get(f"OTEL_EXPORTER_OTLP_{signal.upper()}_PROTOCOL", general).strip().lower()
    if not protocol:
        protocol = "http/protobuf" if _is_installed("opentelemetry.exporter.otlp.proto.http") else "grpc"
    kind = "grpc" if protocol == "grpc" else "http"
    return f"opentelemetry.exporter.otlp.proto.{kind}.{_MODULES[signal]}"


def _is_installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    # Its parent package is missing.
    except ModuleNotFoundError:
        return False


def program_has_provider() -> bool:
    """Return whether the program has configured a provider of OpenTelemetry; imports nothing for that."""
    return any(is_configured(module) for module in _API)


def is_configured(module: str) -> bool:
    """Return whether the provider of one signal's API is another than the proxy that stands for none."""
    api = sys.modules.get(module)
    getter = getattr(api, _API[module], None)
    # Asking for it makes none: the API answers with a proxy until one is set.
    return getter is not None and "Proxy" not in type(getter()).__name__
