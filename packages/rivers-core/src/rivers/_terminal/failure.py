"""The failure of a step as text: the user's frame first, then what the exception says and what else is known."""

from __future__ import annotations

from rivers._record.view import AttemptView, StepView
from rivers._terminal.spans import Line, Span, fit, line_of, to_text
from rivers._terminal.text import cells, clean, clip_left, duration, shorten_path, wrap
from rivers._terminal.trace import Frame, Trace, read_trace
from rivers.protocol.exception_text import labelled
from rivers.protocol.failure import HINT, Failure, FailureReason, describe

__all__ = ["failure_lines", "failure_text"]

MOST_MESSAGE_LINES = 12
MOST_RELATED = 3
INDENT = "    "


def failure_text(step: StepView, width: int = 80, *, unicode: bool = True, color: bool = False) -> str:
    """Return the failure of a step's last attempt that has one, as lines of at most `width` cells; else an empty text.

    The first line has the step and its exception. Then come the innermost frame in the user's own code with its source
    line, where it was called, causes, evidence of a lost worker, hints and notes.
    """
    return to_text(failure_lines(step, width), unicode=unicode, color=color)


def failure_lines(step: StepView, width: int, *, folder: str = "") -> list[Line]:
    """Return the lines of `failure_text`; paths below `folder` are shown relative to it."""
    failure = step.failure
    if failure is None:
        return []
    attempt = next(attempt for attempt in reversed(step.attempts) if attempt.failure is failure)
    lines = _headline(step, failure, width)
    if failure.traceback:
        lines += _frames(read_trace(clean(failure.traceback)), width, folder)
    if failure.evidence is not None and (evidence := describe(failure.evidence)) not in failure.message:
        lines += _indented(clean(evidence), width, "warn")
    if step.header is not None and step.header.location is not None and not _has_own_frame(failure):
        location = shorten_path(step.header.location, folder)
        lines.append(line_of(INDENT, Span("defined at ", "dim"), Span(clip_left(location, width - 15), "accent")))
    for note in failure.notes:
        lines += _indented(clean(note), width, "accent" if note.startswith(HINT) else "")
    lines.append(line_of(INDENT, Span(_circumstances(step, attempt), "dim")))
    return [fit(line, width) for line in lines]


def _headline(step: StepView, failure: Failure, width: int) -> list[Line]:
    """Return the step with its exception: on one line where it fits, else with the message below."""
    head = [Span("✗ ", "bad"), Span(clean(step.key), "bold"), Span("  ")]
    if failure.reason is FailureReason.ERROR:
        label, message = failure.type.removeprefix("rivers.exceptions."), failure.message
    else:
        # Nobody raised it: the reason says more than a type.
        label, message = failure.reason.value.replace("_", " "), labelled(failure.type, failure.message)
    label, message = clean(label), clean(message).strip()
    line = line_of(*head, Span(label, "bad"), f": {message}" if label and message else message)
    if "\n" not in message and cells("".join(span.text for span in line)) <= width:
        return [line]
    wrapped = wrap(message, width - len(INDENT))
    lines = [line_of(*head, Span(label, "bad"))]
    lines += [line_of(INDENT, text) for text in wrapped[:MOST_MESSAGE_LINES]]
    if len(wrapped) > MOST_MESSAGE_LINES:
        lines.append(line_of(INDENT, Span(f"… {len(wrapped) - MOST_MESSAGE_LINES} more lines", "dim")))
    return lines


def _frames(trace: Trace, width: int, folder: str) -> list[Line]:
    lines: list[Line] = []
    raised = trace.raised
    if raised.frames:
        here = raised.own[-1] if raised.own else raised.frames[-1]
        lines += _frame("at", here, width, folder)
        if raised.own and raised.own[0].function != here.function:
            lines += _frame("called at", raised.own[0]._replace(source=""), width, folder)
        if raised.frames[-1] is not here and not raised.frames[-1].file.startswith("<"):
            lines += _frame("raised in", raised.frames[-1]._replace(source=""), width, folder)
    for block in [*reversed(trace.causes[-MOST_RELATED:]), *trace.members[:MOST_RELATED]]:
        text = block.text
        lines.append(line_of(INDENT, Span(f"{block.relation or 'contains'} ", "dim"), Span(text)))
        if block.own:
            lines += _frame("at", block.own[-1], width, folder)
    return lines


def _frame(relation: str, frame: Frame, width: int, folder: str) -> list[Line]:
    where = f"{shorten_path(frame.file, folder)}:{frame.line}"
    function = f" in {frame.function}" if frame.function and frame.function != "<module>" else ""
    room = max(width - len(INDENT) - len(relation) - len(function) - 1, 20)
    lines = [
        line_of(INDENT, Span(f"{relation} ", "dim"), Span(clip_left(where, room), "accent"), Span(function, "dim"))
    ]
    if frame.source:
        lines.append(line_of(INDENT * 2, Span(frame.source, "bold")))
    return lines


def _has_own_frame(failure: Failure) -> bool:
    return bool(failure.traceback and read_trace(failure.traceback).raised.own)


def _indented(text: str, width: int, style: str) -> list[Line]:
    return [line_of(INDENT, Span(line, style)) for line in wrap(text, width - len(INDENT))[:MOST_MESSAGE_LINES]]


def _circumstances(step: StepView, attempt: AttemptView) -> str:
    most = step.header.max_attempts if step.header is not None else None
    number = f"attempt {attempt.number}" + (f" of {most}" if most is not None and most >= attempt.number else "")
    facts = [number] if attempt.number > 1 or (most or 1) > 1 else []
    facts += [clean(fact) for fact in (attempt.executor, attempt.worker) if fact]
    if attempt.started is not None and attempt.ended is not None:
        facts.append(f"after {duration(attempt.ended - attempt.started)}")
    return " · ".join(facts)
