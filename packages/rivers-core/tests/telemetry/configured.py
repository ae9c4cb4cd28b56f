"""A program with a tracer provider of its own; prints each span that it got, with its parent.

With the argument `broken` its sampler raises.
"""

from __future__ import annotations

import sys

from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import Decision, SamplingResult, StaticSampler

import rivers as rs


class BrokenSampler(StaticSampler):
    def should_sample(self, *arguments: object, **options: object) -> SamplingResult:
        raise OSError("out of luck")


exporter = InMemorySpanExporter()
provider = TracerProvider(sampler=BrokenSampler(Decision.RECORD_AND_SAMPLE) if "broken" in sys.argv else None)
provider.add_span_processor(SimpleSpanProcessor(exporter))
trace.set_tracer_provider(provider)
tracer = trace.get_tracer("program")


@rs.Asset
def numbers() -> int:
    with tracer.start_as_current_span("body"):
        return 1


if "broken" in sys.argv:
    result = rs.CodeRepository([rs.Asset(lambda: 1, name="one")]).materialize()
    print(result.status)
    sys.exit()
with tracer.start_as_current_span("request"):
    rs.CodeRepository([numbers]).materialize()
spans = {span.context.span_id: span for span in exporter.get_finished_spans()}
pairs = [(span.name, spans[span.parent.span_id].name) for span in spans.values() if span.parent is not None]
phases = ("queued", "load", "run", "store")
print("\n".join(sorted(f"{name} < {parent}" for name, parent in pairs if name not in phases)))
