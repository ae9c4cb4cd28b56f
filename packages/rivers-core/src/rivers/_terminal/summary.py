"""The summary of a run as text: its end, failures, what they have kept from running, retries, the slowest steps."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

from rivers._record.view import RunView, StepView, ViewState
from rivers._terminal.failure import INDENT, failure_lines
from rivers._terminal.spans import Line, Span, fit, line_of, to_text
from rivers._terminal.text import cells, clean, clip, count_of, duration, warning_text, wrap

__all__ = ["counts_text", "instance_counts", "root_cause", "status_lines", "summary", "summary_lines"]

MOST_FAILURES = 10
MOST_INSTANCES = 3
"""Failures of instances of one mapped step that are shown in full: often all of them failed alike."""
MOST_NAMES = 8
MOST_LISTED = 5
SLOW = 0.1
"""Seconds from which a step is listed among the slowest."""

_STATUS = {
    "running": ("●", "accent", "has been running for"),
    "success": ("✓", "good", "succeeded in"),
    "failure": ("✗", "bad", "failed after"),
    "cancelled": ("■", "warn", "was cancelled after"),
    "lost": ("✗", "bad", "was killed after"),
}
_NAMES = {
    ViewState.FAILED: "bad",
    ViewState.LOST: "bad",
    ViewState.CANCELLED: "warn",
    ViewState.SKIPPED: "warn",
    ViewState.RETRYING: "warn",
    ViewState.RUNNING: "accent",
    ViewState.STARTING: "accent",
    ViewState.WAITING: "dim",
    ViewState.UNCHANGED: "dim",
    ViewState.SUCCEEDED: "good",
}


def summary(view: RunView, width: int = 80, unicode: bool = True, *, color: bool = False) -> str:
    """Return the summary of a run, as lines of at most `width` cells.

    The first line has the status, the duration and the number of steps in each state. Then come the failures with the
    user's own frames, what was skipped because of them, retries, mapped steps, the slowest steps and warnings; each
    list is bounded. `color` adds ANSI colours.
    """
    return to_text(summary_lines(view, width), unicode=unicode, color=color)


def summary_lines(view: RunView, width: int, *, has_failures: bool = True) -> list[Line]:
    """Return the lines of `summary`, without the failures where those stand above already."""
    skipped = _skipped(view)
    sections = [
        _failures(view, width, skipped)
        if has_failures
        else _titled("Failed", _names_line(view.of_state(ViewState.FAILED), width - 14)),
        _titled("Skipped", _skipped_lines(skipped, width - 14)),
        _titled("Cancelled", _names_line(view.of_state(ViewState.CANCELLED), width - 14)),
        _titled("Lost", _names_line(view.of_state(ViewState.LOST), width - 14)),
        # Of the run itself, or of one that it retries: here nothing of them ran.
        _titled("Reused", _names_line((s for s in view.of_state(ViewState.SUCCEEDED) if not s.attempts), width - 14)),
        _titled("Retried", _retried(view)),
        _titled("Mapped", _mapped(view)),
        _titled("Slowest", _slowest(view)),
        _warnings(view, width),
    ]
    lines = status_lines(view, width)
    for section in sections:
        lines += section
    return [fit(line, width) for line in lines]


def status_lines(view: RunView, width: int) -> list[Line]:
    """Return the status of the run and its duration, and the number of steps in each state on the same or next line."""
    sign, style, verb = _STATUS.get(view.status, ("●", "", view.status))
    end = view.ended if view.ended is not None else view.last_time
    took = f" {duration(end - view.started)}" if end is not None and view.started is not None else ""
    run = f" {view.run_id[:8]}" if view.run_id else ""
    partition = view.header.partition if view.header is not None else None
    of = f" of partition {clean(partition)}" if partition else ""
    head, counts = Span(f"{sign} Run{run}{of} {verb}{took}", style), counts_text(view)
    if sum(cells(span.text) for span in (head, *counts)) + 2 <= width:
        return [line_of(head, "  ", *counts)]
    return [line_of(head), line_of("  ", *counts)]


def counts_text(view: RunView) -> list[Span]:
    """Return the number of steps in each state, those that went wrong first."""
    counts = Counter(view.counts)
    # Instances of a mapped step are no steps of the view before their first event.
    counts[ViewState.WAITING] += view.total - len(view.steps)
    return instance_counts(counts) or [Span("no steps", "dim")]


def root_cause(view: RunView, step: StepView) -> str | None:
    """Return the key of the step that did not succeed and because of which this one was skipped."""
    cause, seen = step.cause, {step.key}
    while cause is not None and cause not in seen:
        seen.add(cause)
        above = view.steps.get(cause)
        if above is None or above.cause is None:
            return cause
        cause = above.cause
    return cause


# ── sections ──


def _failures(view: RunView, width: int, skipped: dict[str, list[str]]) -> list[Line]:
    folder = view.header.folder if view.header is not None else ""
    lines: list[Line] = []
    shown, left = 0, 0
    instances: dict[str, int] = {}
    for step in view.of_state(ViewState.FAILED):
        number = instances[step.base_key] = instances.get(step.base_key, 0) + 1
        if shown >= MOST_FAILURES or (step.map_key is not None and number > MOST_INSTANCES):
            left += 1
            continue
        shown += 1
        lines += [(), *failure_lines(step, width, folder=folder)]
        names = skipped.pop(step.key, None)
        if names:
            label = "skipped because of it: "
            lines.append(line_of(INDENT, Span(label, "warn"), Span(_names(names, width - len(INDENT) - len(label)))))
    if left:
        lines += [(), line_of(Span(f"… and {count_of(left, 'more failed step')}", "bad"))]
    return [*lines, ()] if lines else []


def _skipped(view: RunView) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for step in view.of_state(ViewState.SKIPPED):
        found.setdefault(root_cause(view, step) or "", []).append(clean(step.key))
    return found


def _skipped_lines(skipped: dict[str, list[str]], width: int) -> list[Line]:
    lines: list[Line] = []
    for cause, names in list(skipped.items())[:MOST_LISTED]:
        because = f" because of {clean(cause)}" if cause else ""
        lines.append(line_of(_names(names, max(width - cells(because), 20)), Span(because, "dim")))
    left = list(skipped.values())[MOST_LISTED:]
    if left:
        lines.append(line_of(Span(f"… and {sum(map(len, left)):,} more because of {len(left):,} others", "dim")))
    return lines


def _retried(view: RunView) -> list[Line]:
    retried = [step for step in view.steps.values() if len(step.attempts) > 1]
    retried.sort(key=lambda step: -len(step.attempts))
    lines: list[Line] = []
    for step in retried[:MOST_LISTED]:
        failure = next((attempt.failure for attempt in step.attempts if attempt.failure is not None), None)
        why = clean(failure.summary).partition("\n")[0] if failure is not None else ""
        times = f"{clean(step.key)}  {len(step.attempts)} attempts, {step.state.value}"
        lines.append(line_of(times, Span(f"  {why}", "dim")))
    return [*lines, *_more(len(retried))]


def _mapped(view: RunView) -> list[Line]:
    lines: list[Line] = []
    for key, instances in view.instances.items():
        counts = Counter(instance.state for instance in instances)
        lines.append(line_of(f"{clean(key)}  {count_of(len(instances), 'instance')}: ", *instance_counts(counts)))
    return [*lines[:MOST_LISTED], *_more(len(lines))]


def instance_counts(counts: Counter[ViewState]) -> list[Span]:
    """Return the number of instances in each state, those that went wrong first."""
    spans: list[Span] = []
    for state in (state for state in _NAMES if counts[state] > 0):
        spans += [Span(", ")] if spans else []
        spans.append(Span(f"{counts[state]:,} {state.value}", _NAMES[state]))
    return spans


def _slowest(view: RunView) -> list[Line]:
    timed = [(step.seconds or 0.0, step) for step in view.steps.values()]
    slow = [(seconds, step) for seconds, step in timed if seconds >= SLOW]
    if len(view.steps) < 2:
        return []
    slow.sort(key=lambda pair: -pair[0])
    return [
        line_of(f"{duration(seconds):>9}  {clean(step.key)}", Span(f"  {_phases(step)}", "dim"))
        for seconds, step in slow[:MOST_LISTED]
    ]


def _phases(step: StepView) -> str:
    timings = step.attempts[-1].timings
    phases = [("queued", timings.queued), ("boot", timings.boot), ("load", timings.load), ("store", timings.store)]
    # What ran is the rest: only what else took its time is worth a word.
    return ", ".join(f"{name} {duration(seconds)}" for name, seconds in phases if seconds >= SLOW)


def _warnings(view: RunView, width: int) -> list[Line]:
    lines: list[Line] = []
    for warning in view.warnings[:MOST_LISTED]:
        text = warning_text(warning.message, warning.step)
        first, *rest = wrap(text, width - 2)
        lines += [line_of(Span("! ", "warn"), first), *(line_of("  ", line) for line in rest[:3])]
    return [*lines, *_more(len(view.warnings), "warnings")]


# ── pieces ──


def _titled(title: str, lines: Iterable[Line]) -> list[Line]:
    """Return lines with a title before the first and an indent before the others."""
    return [(Span(f"  {title if number == 0 else '':<10}  ", "dim"), *line) for number, line in enumerate(lines)]


def _names_line(steps: Iterable[StepView], width: int) -> list[Line]:
    names = [clean(step.key) for step in steps]
    return [line_of(_names(names, width))] if names else []


def _names(names: list[str], width: int) -> str:
    """Return as many names as have room, and the number of the others."""
    shown: list[str] = []
    for name in names[:MOST_NAMES]:
        if shown and cells(", ".join([*shown, name])) > width - 16:
            break
        shown.append(name)
    left = len(names) - len(shown)
    return clip(", ".join(shown), max(width - 16, 12) if left else width) + (f" and {left:,} more" if left else "")


def _more(count: int, what: str = "") -> list[Line]:
    left = count - MOST_LISTED
    return [line_of(Span(f"… and {left:,} more {what}".rstrip(), "dim"))] if left > 0 else []
