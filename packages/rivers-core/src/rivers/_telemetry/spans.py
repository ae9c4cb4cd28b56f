"""The spans of a run, made from its events.

RUN nightly ─┬─ orders ─┬─ attempt 1 ─┬─ queued, boot, load, run, store
             │          │             └─ the spans of the body
             │          └─ attempt 2, linked to attempt 1
             └─ totals …
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from opentelemetry import context as otel_context
from opentelemetry import trace
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from rivers._events.event import (
    RunFinished,
    RunStarted,
    RunWarning,
    StepCancelled,
    StepFailed,
    StepRetrying,
    StepSkipped,
    StepStarted,
    StepSucceeded,
    StepUnchanged,
)
from rivers._record.header import RunHeader, StepHeader
from rivers._record.redact import Redactor
from rivers._telemetry.attributes import (
    SHORTEST_PHASE,
    evidence_attributes,
    failure_result,
    phase_attributes,
    run_attributes,
    step_attributes,
    worker_attributes,
)
from rivers.protocol.failure import Failure, FailureReason
from rivers.protocol.result import Timings
from rivers.protocol.spec import TraceContext

__all__ = ["RunSpans"]

_W3C = TraceContextTextMapPropagator()
_STATUS = {"success": "success", "failure": "failure", "cancelled": "cancellation"}


@dataclass(slots=True)
class _OpenAttempt:
    """The span of an attempt that runs; times are seconds since the epoch."""

    span: Span
    submitted: float
    queued: float
    started: float | None = None


@dataclass(slots=True)
class _OpenStep:
    span: Span
    attempt: _OpenAttempt | None = None
    last: Span | None = None


class RunSpans:
    """The spans of one run; `begin_attempt` starts those of an attempt, events end them.

    The run's span is a child of the span that is current where this object is made.
    """

    def __init__(self, header: RunHeader, redactor: Redactor, tracer: Tracer) -> None:
        self._header = header
        self._redactor = redactor
        self._tracer = tracer
        self._headers = {step.key: step for step in header.steps}
        self._parent = otel_context.get_current()
        self._run: Span | None = None
        self._inside = self._parent
        self._steps: dict[str, _OpenStep] = {}

    def context_of(self, step: str) -> otel_context.Context:
        """Return the context of a step's running attempt, or the nearest one that there is."""
        found = self._steps.get(step)
        if found is None:
            return self._inside
        return trace.set_span_in_context(found.attempt.span if found.attempt is not None else found.span, self._inside)

    def begin_attempt(
        self, step: str, attempt_id: str, attempt: int, queued: float, function: str | None
    ) -> TraceContext | None:
        """Begin the span of an attempt, and the step's if it is the first one; return the attempt's context."""
        # Now and not when the worker reports its start: its body needs the span to nest under.
        now = time.time()
        begin = _nanoseconds(now - queued)
        open_step = self._steps.get(step)
        if open_step is None:
            open_step = self._steps[step] = self._begin_step(step, begin, function)
        # The attempts of a step are siblings; the link is what viewers draw between them.
        links = [Link(open_step.last.get_span_context(), {"rivers.link": "retry"})] if open_step.last else None
        span = self._tracer.start_span(
            f"attempt {attempt}",
            context=trace.set_span_in_context(open_step.span, self._inside),
            attributes={"rivers.attempt.number": attempt, "rivers.attempt.id": attempt_id},
            links=links,
            start_time=begin,
        )
        open_step.attempt = _OpenAttempt(span, now, queued)
        carrier: dict[str, str] = {}
        _W3C.inject(carrier, trace.set_span_in_context(span, self._inside))
        if "traceparent" not in carrier:
            return None
        return TraceContext(traceparent=carrier["traceparent"], tracestate=carrier.get("tracestate"))

    # ── events ──

    def on_run_started(self, event: RunStarted) -> None:
        """Begin the run's span."""
        name = self._header.job or self._header.repository
        self._run = self._tracer.start_span(
            f"RUN {name}" if name else "RUN",
            context=self._parent,
            # As the semantic conventions ask for, of pipelines.
            kind=SpanKind.SERVER,
            attributes=self._clean(run_attributes(self._header)),
            start_time=_nanoseconds(event.time),
        )
        self._inside = trace.set_span_in_context(self._run, self._parent)

    def on_run_finished(self, event: RunFinished) -> None:
        """End the run's span, and any step's that has none of its own end."""
        # An interrupted run: its last events are missing, but a span that is not ended is never exported.
        for step in [*self._steps.values()]:
            self._end_step(step, "cancellation", event.time)
        self._steps.clear()
        if self._run is not None:
            self._run.set_attribute("cicd.pipeline.result", _STATUS.get(event.status, event.status))
            if event.status == "failure":
                self._run.set_attribute("error.type", "step_failed")
                self._run.set_status(Status(StatusCode.ERROR, "a step failed"))
            self._run.end(_nanoseconds(event.time))

    def on_warning(self, event: RunWarning) -> None:
        """Add an event to the span of the warning's step, or to the run's."""
        open_step = self._steps.get(event.step) if event.step else None
        span = open_step.span if open_step is not None else self._run
        if span is not None:
            message = self._redactor.text(event.message)
            span.add_event("rivers.warning", {"message": message}, _nanoseconds(event.time))

    def on_started(self, event: StepStarted) -> None:
        """Note where an attempt runs, and since when."""
        open_step = self._steps.get(event.step)
        if open_step is not None and open_step.attempt is not None:
            open_step.attempt.started = event.time
            open_step.attempt.span.set_attributes(worker_attributes(event.executor, event.worker))

    def on_succeeded(self, event: StepSucceeded) -> None:
        """End a step, its attempt and its phases."""
        self._end_attempt(event.step, event.time, event.timings, None)
        self._close(event.step, "success", event.time)

    def on_failed(self, event: StepFailed) -> None:
        """End a step that failed, with the exception."""
        self._end_attempt(event.step, event.time, event.timings, event.failure)
        self._close(event.step, failure_result(event.failure.reason), event.time, event.failure)

    def on_retrying(self, event: StepRetrying) -> None:
        """End an attempt; the step goes on."""
        open_step = self._steps.get(event.step)
        if open_step is not None and open_step.attempt is not None:
            open_step.attempt.span.set_attributes(
                {"rivers.retry.delay": event.delay, "rivers.attempt.is_free": event.free}
            )
        self._end_attempt(event.step, event.time, event.timings, event.failure)

    def on_unchanged(self, event: StepUnchanged) -> None:
        """Record a step that need not run."""
        step = self._ended_early(event.step, event.time)
        step.span.set_attribute("rivers.step.unchanged_since", event.attempt_id)
        self._close(event.step, "skip", event.time)

    def on_skipped(self, event: StepSkipped) -> None:
        """Record a step that does not run."""
        step = self._ended_early(event.step, event.time)
        step.span.set_attribute("rivers.step.cause", self._redactor.text(event.cause))
        self._close(event.step, "skip", event.time)

    def on_cancelled(self, event: StepCancelled) -> None:
        """End a cancelled step."""
        self._ended_early(event.step, event.time)
        self._end_attempt(event.step, event.time, Timings(), event.failure)
        self._close(event.step, "cancellation", event.time)

    # ── spans ──

    def _begin_step(self, step: str, begin: int, function: str | None) -> _OpenStep:
        # The name has no mapping key: backends group spans by name.
        base, bracket, rest = step.partition("[")
        header = self._headers.get(base) or StepHeader(key=base, executor=0, level=0)
        attributes = step_attributes(header, step, rest.removesuffix("]") if bracket else None, function)
        span = self._tracer.start_span(base, context=self._inside, attributes=self._clean(attributes), start_time=begin)
        return _OpenStep(span)

    def _ended_early(self, step: str, at: float) -> _OpenStep:
        """Return a step that may end before its first attempt."""
        found = self._steps.get(step)
        if found is None:
            found = self._steps[step] = self._begin_step(step, _nanoseconds(at), None)
        return found

    def _end_attempt(self, step: str, at: float, timings: Timings, failure: Failure | None) -> None:
        open_step = self._steps.get(step)
        if open_step is None or open_step.attempt is None:
            return
        attempt = open_step.attempt
        open_step.attempt, open_step.last = None, attempt.span
        inside = trace.set_span_in_context(attempt.span, self._inside)
        for name, begin, end in _phases(attempt, timings, at):
            span = self._tracer.start_span(name, context=inside, start_time=_nanoseconds(begin))
            span.set_attribute("rivers.phase", name)
            span.end(_nanoseconds(end))
        attempt.span.set_attributes(phase_attributes(timings))
        if failure is not None:
            self._fail(attempt.span, failure, at)
        attempt.span.end(_nanoseconds(at))

    def _close(self, step: str, result: str, at: float, failure: Failure | None = None) -> None:
        open_step = self._steps.pop(step, None)
        if open_step is not None:
            if failure is not None:
                self._fail(open_step.span, failure, at, is_whole=False)
            self._end_step(open_step, result, at)

    def _end_step(self, step: _OpenStep, result: str, at: float) -> None:
        if step.attempt is not None:
            step.attempt.span.end(_nanoseconds(at))
        step.span.set_attribute("cicd.pipeline.task.run.result", result)
        step.span.end(_nanoseconds(at))

    def _fail(self, span: Span, failure: Failure, at: float, is_whole: bool = True) -> None:
        span.set_attribute("error.type", failure.type or failure.reason.value)
        span.set_attribute("rivers.failure.reason", failure.reason.value)
        # Stopped on purpose, which is no error.
        if failure.reason is FailureReason.CANCELLED:
            return
        span.set_status(Status(StatusCode.ERROR, self._redactor.text(failure.summary)))
        if not is_whole:
            return
        exception = {
            "exception.type": failure.type or failure.reason.value,
            "exception.message": failure.message,
            "exception.stacktrace": failure.traceback,
        }
        span.add_event("exception", self._clean(exception), _nanoseconds(at))
        if failure.evidence is not None:
            span.set_attributes(self._clean(evidence_attributes(failure.evidence)))

    def _clean(self, attributes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the attributes that have a value, without secrets."""
        return dict(_redacted(attributes, self._redactor))


def _redacted(attributes: Mapping[str, Any], redactor: Redactor) -> Iterator[tuple[str, Any]]:
    for name, value in attributes.items():
        if isinstance(value, str):
            yield name, redactor.text(value)
        elif isinstance(value, tuple):
            if value:
                yield name, [redactor.text(str(item)) for item in value]
        elif value is not None:
            yield name, value


def _phases(attempt: _OpenAttempt, timings: Timings, at: float) -> Iterator[tuple[str, float, float]]:
    """Yield the phases that took some time, with their begin and end."""
    if attempt.queued >= SHORTEST_PHASE:
        yield "queued", attempt.submitted - attempt.queued, attempt.submitted
    # A worker reports seconds, as its clock may differ. They are counted back from the end, since the report of the
    # start may come together with it.
    inside = timings.load + timings.run + timings.store
    begin = at - inside if attempt.started is None else min(attempt.started, at - inside)
    begin = max(attempt.submitted, begin)
    if timings.boot >= SHORTEST_PHASE:
        yield "boot", max(attempt.submitted, begin - timings.boot), begin
    for name in ("load", "run", "store"):
        seconds = getattr(timings, name)
        end = min(begin + seconds, max(at, begin))
        if seconds >= SHORTEST_PHASE:
            yield name, begin, end
        begin = end


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
