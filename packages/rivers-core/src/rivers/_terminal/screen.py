"""Draw the progress of a run as lines: totals, active steps, what waits and for what. Pure, for all displays."""

from __future__ import annotations

import re
from collections import Counter
from heapq import nsmallest
from typing import NamedTuple

from rivers._record.view import StepView, ViewState
from rivers._terminal.progress import RunProgress
from rivers._terminal.spans import Line, Span, fit, line_of
from rivers._terminal.summary import counts_text, instance_counts
from rivers._terminal.text import cells, clean, clip, duration

__all__ = ["draw", "rough_duration"]

MOST_OTHERS = 4
"""Lines of starting and retrying steps that are kept free where running ones would fill the screen."""
MOST_REASONS = 2
# The pod's long name would leave no room for what it waits for.
_OF_ITS_POD = re.compile(r"^waits for its pod \S+: ")
_SIGNS = {
    ViewState.RUNNING: Span("● ", "accent"),
    ViewState.STARTING: Span("○ ", "warn"),
    ViewState.RETRYING: Span("↻ ", "warn"),
}


class _Row(NamedTuple):
    sign: Span
    name: str
    place: str
    phase: str
    message: str
    style: str = "dim"


def draw(progress: RunProgress, now: float, width: int, height: int) -> list[Line]:
    """Return the lines of a live display, at most `height` of `width` cells; `now` is seconds since the epoch."""
    head = [_bar(progress, now, width), line_of(*counts_text(progress.view))]
    waiting = _waiting(progress, width) if height > 6 else []
    rows, left = _choose(progress, now, max(0, height - len(head) - len(waiting)))
    lines = [*head, *_table(rows, width)]
    if left:
        counts = ", ".join(f"{count:,} {state.value}" for state, count in left.items())
        lines.append(line_of(Span(f"… and {counts}", "dim")))
    return [fit(line, width) for line in [*lines, *waiting]][:height]


# ── totals ──


def _bar(progress: RunProgress, now: float, width: int) -> Line:
    view = progress.view
    share = view.done / view.total if view.total else 0.0
    end = view.ended if view.ended is not None else now
    took = _clock(end - view.started) if view.started is not None else ""
    left = progress.estimate.seconds_left(view, now) if not view.is_over else None
    numbers = f" {share * 100:3.0f} %  {view.done:,} of {view.total:,}"
    times = f"  {took}" + (f", about {rough_duration(left)} left" if left is not None else "")
    if cells(numbers) + cells(times) > width:
        return line_of(Span(numbers.strip(), "bold"), Span(times, "dim"))
    room = min(width - cells(numbers) - cells(times), 40)
    if room < 8:
        return line_of(Span(numbers.strip(), "bold"), Span(times, "dim"))
    full = int(share * room)
    bad = view.counts[ViewState.FAILED] + view.counts[ViewState.LOST] > 0
    done = "━" * full + ("╸" if full < room and share > 0 else "")
    return line_of(
        Span(done, "bad" if bad else "good"),
        Span("─" * (room - len(done)), "dim"),
        Span(numbers, "bold"),
        Span(times, "dim"),
    )


def rough_duration(seconds: float) -> str:
    """Return a duration as exact as an estimate is: `20 s`, `3 min`, `2.5 h`."""
    if seconds < 10:
        return f"{max(1, round(seconds))} s"
    if seconds < 55:
        return f"{round(seconds / 5) * 5} s"
    if seconds < 90 * 60:
        return f"{max(1, round(seconds / 60))} min"
    return f"{seconds / 3600:.1f} h"


# ── active steps ──


def _choose(progress: RunProgress, now: float, room: int) -> tuple[list[_Row], Counter[ViewState]]:
    """Return the rows that have room, and the number of steps in each state that have none."""
    steps = [step for step in progress.active.values() if step.map_key is None]
    running = [step for step in steps if step.state is ViewState.RUNNING]
    others = [step for step in steps if step.state is not ViewState.RUNNING]
    mapped = [_mapped_row(progress, key) for key, counts in progress.mapped.items() if _is_active(counts)]
    if len(mapped) + len(steps) > room:
        mapped = mapped[: max(1, room // 3)]
        room = max(0, room - len(mapped) - 1)
    most_others = min(len(others), max(MOST_OTHERS, room - len(running)), room)
    # Of thousands of async steps only those that are shown are sorted.
    shown = _longest(progress, running, room - most_others) + _longest(progress, others, most_others)
    left = Counter(step.state for step in steps) - Counter(step.state for step in shown)
    return [*mapped, *(_row(progress, step, now) for step in shown)], left


def _longest(progress: RunProgress, steps: list[StepView], count: int) -> list[StepView]:
    return nsmallest(count, steps, key=lambda step: (progress.since.get(step.key, 0.0), step.key))


def _is_active(counts: Counter[ViewState]) -> bool:
    return any(counts[state] > 0 for state in _SIGNS)


def _row(progress: RunProgress, step: StepView, now: float) -> _Row:
    elapsed = _clock(now - progress.since.get(step.key, now))
    message, style = _last_line(step.message), "warn"
    if step.state is ViewState.RETRYING:
        wait = max(0.0, (step.retry_at or now) - now)
        phase = f"retry{_attempt(step, 1)}" + (f" in {wait:.0f} s" if wait >= 0.5 else " is due")
        message = _last_line(step.failure.summary.partition("\n")[0]) if step.failure is not None else message
    elif step.state is ViewState.STARTING:
        phase = f"starting {elapsed}"
        message = _OF_ITS_POD.sub("", message)
    else:
        phase, style = f"running {elapsed}", "dim"
        if step.last is not None and step.last.number > 1:
            phase += f" (try{_attempt(step, 0)})"
    return _Row(_SIGNS[step.state], clean(step.key), _place(progress, step), phase, message, style)


def _attempt(step: StepView, more: int) -> str:
    """Return the number of the last attempt, or of the next one, out of those that its policy allows."""
    attempt = step.last
    if attempt is None:
        return ""
    number = attempt.number + (0 if attempt.is_free else more)
    most = step.header.max_attempts if step.header is not None else None
    return f" {number}" + (f" of {most}" if most is not None and most >= number else "")


def _place(progress: RunProgress, step: StepView) -> str:
    """Return the executor of a step, and its worker once it has one."""
    attempt, header = step.last, progress.view.header
    if attempt is not None and attempt.ended is None:
        return clean(f"{attempt.executor} {attempt.worker}".strip())
    return header.executors[step.header.executor].kind if header is not None and step.header is not None else ""


def _mapped_row(progress: RunProgress, key: str) -> _Row:
    counts = progress.mapped[key]
    total = progress.view.instance_count(key)
    done = sum(count for state, count in counts.items() if state.is_over)
    sign = next(_SIGNS[state] for state in _SIGNS if counts[state] > 0)
    rest = +counts
    for state in (ViewState.SUCCEEDED, ViewState.UNCHANGED):
        del rest[state]
    text = "".join(span.text for span in instance_counts(rest))
    return _Row(sign, clean(key), "", f"{done:,} of {total:,} done", text)


def _clock(seconds: float) -> str:
    """Return an elapsed time in whole seconds: tenths that change in each frame draw the eye."""
    return f"{int(max(seconds, 0))} s" if seconds < 60 else duration(seconds)


def _last_line(text: str) -> str:
    return next((line for line in reversed(clean(text).splitlines()) if line.strip()), "").strip()


def _table(rows: list[_Row], width: int) -> list[Line]:
    if not rows:
        return []
    name = min(max(cells(row.name) for row in rows), max(12, width // 3))
    place = min(max(cells(row.place) for row in rows), width // 4) if width >= 70 else 0
    phase = min(max(cells(row.phase) for row in rows), 34)
    lines: list[Line] = []
    for row in rows:
        spans = [row.sign, Span(_pad(row.name, name), "bold")]
        if place:
            spans.append(Span("  " + _pad(row.place, place), "dim"))
        spans.append(Span("  " + _pad(row.phase, phase)))
        spans.append(Span("  " + row.message, row.style))
        lines.append(tuple(spans))
    return lines


def _pad(text: str, width: int) -> str:
    text = clip(text, width)
    return text + " " * (width - cells(text))


# ── waiting steps ──


def _waiting(progress: RunProgress, width: int) -> list[Line]:
    """Return the steps that are ready for a free worker, and what the next ones wait for, one line for each."""
    reasons: dict[str | None, list[str]] = {}
    for step, cause in progress.waiting():
        reasons.setdefault(cause, []).append(clean(step.key))
    lines: list[Line] = []
    # What is ready first.
    for cause, names in sorted(reasons.items(), key=lambda item: item[0] is not None)[:MOST_REASONS]:
        label = Span("  ready    " if cause is None else "  waiting  ", "dim")
        because = f"  for {clean(cause)}" if cause is not None and width >= 40 else ""
        lines.append(line_of(label, clip(", ".join(names), width - 11 - cells(because)), Span(because, "dim")))
    return lines
