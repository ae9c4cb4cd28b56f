"""A program with a tracer provider of its own; prints each span that it got, with its parent."""

from __future__ import annotations

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

import rivers as rs

exporter = InMemorySpanExporter()
provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("program")


@rs.Asset
def numbers() -> int:
    with tracer.start_as_current_span("body"):
        return 1


with tracer.start_as_current_span("request"):
    rs.CodeRepository([numbers]).materialize()
spans = {span.context.span_id: span for span in exporter.get_finished_spans()}
pairs = [(span.name, spans[span.parent.span_id].name) for span in spans.values() if span.parent is not None]
phases = ("queued", "load", "run", "store")
print("\n".join(sorted(f"{name} < {parent}" for name, parent in pairs if name not in phases)))
