"""Attach the trace context of an attempt."""

from __future__ import annotations

from opentelemetry import context as otel_context
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from rivers.protocol.spec import TraceContext

__all__ = ["attach"]

_W3C = TraceContextTextMapPropagator()


def attach(context: TraceContext) -> None:
    """Make a span the current one; it ends with the context variables of the attempt, so nothing detaches it."""
    # By hand and not by the global propagator, which the program may have replaced by one of another format.
    carrier = {"traceparent": context.traceparent}
    if context.tracestate is not None:
        carrier["tracestate"] = context.tracestate
    otel_context.attach(_W3C.extract(carrier))
