"""Hints on what would shorten a run, from what its time went into."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["RunFacts", "RunHint", "hints_of"]

WORTH = 0.1
"""The share of a run from which something is worth a hint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunFacts:
    """The time of a run in seconds: `shortest` with a worker for each step at once, the others on its critical path.

    `before` passed until its first step was ready.
    `without` is `shortest` if a step took no time, and `work` the time that the step took with a worker that has
    started, for the longest steps of the critical path.
    """

    seconds: float
    is_over: bool
    shortest: float
    without: dict[str, float]
    work: dict[str, float]
    before: float
    queued: float
    retried: float
    boot: float
    lanes: int
    busy: float


class RunHint(NamedTuple):
    """A hint: its kind, its text, and the step that it is about."""

    kind: str
    text: str
    step: str | None = None


def hints_of(facts: RunFacts) -> list[RunHint]:
    """Return hints, the most useful first; none for a run that goes on or has no time in it."""
    if not facts.is_over or facts.seconds <= 0.05 or not facts.work:
        return []
    return list(_hints(facts))


def _hints(facts: RunFacts) -> Iterator[RunHint]:
    total = facts.seconds
    saved = total - facts.shortest
    # The rest of what is saved passed while no step was ready.
    if min(saved, facts.queued) > WORTH * total:
        yield RunHint(
            "workers",
            f"Steps of the critical path waited {format_seconds(facts.queued)} for a free worker. With a worker "
            f"for each step at once the run takes at least {format_seconds(facts.shortest)} instead "
            f"of {format_seconds(total)}.",
        )
    yield from _steps(facts)
    if facts.before > WORTH * total:
        yield RunHint(
            "before",
            f"{format_seconds(facts.before)} passed before the first step was ready, while the executors were checked.",
        )
    if facts.retried > WORTH * total:
        yield RunHint(
            "retries",
            f"{format_seconds(facts.retried)} of the critical path went into attempts that failed and the waits "
            "after them.",
        )
    if facts.boot > WORTH * total:
        yield RunHint(
            "boot",
            f"{format_seconds(facts.boot)} of the critical path went into starting workers. Larger steps, a smaller "
            "image or workers that are kept need fewer starts.",
        )
    capacity = facts.lanes * total
    # One worker has nobody to hand its idle time to.
    if facts.lanes > 1 and facts.busy < 0.5 * capacity and facts.queued <= WORTH * total:
        enough = max(1, math.ceil(facts.busy / total))
        yield RunHint(
            "idle",
            f"The {facts.lanes} workers were idle for {1 - facts.busy / capacity:.0%} of the run; the same work fills "
            f"{enough} worker{'s' if enough > 1 else ''}.",
        )


def _steps(facts: RunFacts) -> Iterator[RunHint]:
    for key, seconds in facts.work.items():
        saved = min(seconds, facts.shortest - facts.without[key])
        if saved > WORTH * facts.seconds:
            yield RunHint(
                "step",
                f"{key} takes {format_seconds(seconds)} of the critical path. Making it faster shortens the run by up "
                f"to {format_seconds(saved)}.",
                key,
            )


def format_seconds(seconds: float) -> str:
    """Return a duration as a person writes it: `340 ms`, `2.4 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds < 0.9995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
