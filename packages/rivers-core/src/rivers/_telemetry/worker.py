"""The trace context of an attempt where its body runs; loads OpenTelemetry for traced runs only, if it is there."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from functools import cache

from rivers.protocol.spec import TraceContext

__all__ = ["enter_trace", "export_spans", "prepare_export"]


def enter_trace(context: TraceContext) -> None:
    """Make the span of an attempt the current one, in the present context variables."""
    attach = _attach()
    if attach is not None:
        attach(context)


def prepare_export() -> None:
    """Set up the export of a body's spans in a worker, which is no part of the controller's process."""
    if _attach() is not None:
        _exports_spans()


def export_spans() -> None:
    """Export the spans that the body has ended, within a deadline."""
    if _attach() is not None and _exports_spans():
        from rivers._telemetry.worker_export import flush_spans

        flush_spans()


@cache
def _attach() -> Callable[[TraceContext], None] | None:
    if importlib.util.find_spec("opentelemetry") is None:
        return None
    try:
        from rivers._telemetry.propagation import attach
    # A broken installation fails no attempt.
    except Exception:  # noqa: BLE001 - importing it may raise anything, such as a TypeError of a protobuf too old
        return None
    return attach


@cache
def _exports_spans() -> bool:
    try:
        from rivers._telemetry.worker_export import set_up

        set_up()
    # The SDK, or the exporter of the protocol, is not installed here, or a variable is wrong. The controller, which
    # has the same variables, warns of that.
    except Exception:  # noqa: BLE001 - the SDK may raise anything, and no attempt fails for it
        return False
    return True
