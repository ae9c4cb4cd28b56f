"""Analysis of a run: lanes with their idle time, the critical path, and what would shorten the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rivers._record.view import RunView
from rivers._report.critical_path import StepTimes, critical_path, shortest_ends, times_of
from rivers._report.dependencies import dependencies
from rivers._report.hints import RunFacts, hints_of
from rivers._report.lanes import Lane, LaneItem, assign_lanes
from rivers._report.phases import AttemptPhases

__all__ = ["analyse"]

ATTEMPTS = 1000
"""An attempt of a lane is `step * 1000 + its place among the step's attempts`, which stays the same in a live page."""
MOST_CANDIDATES = 2
"""Steps of the critical path for which the page says what the run would take without them."""


def analyse(view: RunView, phases: Sequence[Sequence[AttemptPhases]], now: float) -> dict[str, Any]:
    """Return lanes, critical path and hints as plain data."""
    origin = view.started or now
    times = [times_of(attempts) for attempts in phases]
    indices = {key: index for index, key in enumerate(view.steps)}
    deps = [tuple(indices[dep.key] for dep in dependencies(view, step)) for step in view.steps.values()]
    path = critical_path(times, deps)
    lanes = _lanes(view, phases)
    facts = _facts(view, times, deps, path, lanes, origin, max(0.0, now - origin))
    return {
        "lanes": [[lane.executor, lane.label, lane.items] for lane in lanes],
        "path": path,
        "shortest": round(facts.shortest, 3),
        "hints": [[hint.kind, hint.text, hint.step] for hint in hints_of(facts)],
    }


def _lanes(view: RunView, phases: Sequence[Sequence[AttemptPhases]]) -> list[Lane]:
    items = [
        LaneItem(index * ATTEMPTS + place, attempt.executor, attempt.worker, times.active, times.end)
        for index, (step, attempts) in enumerate(zip(view.steps.values(), phases, strict=True))
        for place, (attempt, times) in enumerate(zip(step.attempts, attempts, strict=True))
    ]
    return assign_lanes(items)


def _facts(
    view: RunView,
    times: Sequence[StepTimes | None],
    deps: Sequence[tuple[int, ...]],
    path: Sequence[int],
    lanes: Sequence[Lane],
    origin: float,
    seconds: float,
) -> RunFacts:
    steps = list(view.steps.values())
    order = sorted(range(len(steps)), key=lambda i: header.level if (header := steps[i].header) is not None else 0)
    # A step that is retried takes its attempts' time also with a worker of its own.
    work = [0.0 if one is None else one.end - one.begin - one.queued for one in times]
    on_path = [found for index in path if (found := times[index]) is not None]
    candidates = sorted(path, key=lambda index: -work[index])[:MOST_CANDIDATES]
    return RunFacts(
        seconds=seconds,
        # Nobody wants a run shorter that was killed or cancelled.
        is_over=view.status in ("success", "failure"),
        shortest=max(shortest_ends(work, deps, order), default=0.0),
        without={steps[index].key: max(shortest_ends(work, deps, order, index), default=0.0) for index in candidates},
        work={
            steps[index].key: work[index] - found.boot for index in candidates if (found := times[index]) is not None
        },
        before=max(0.0, on_path[0].begin - origin) if on_path else 0.0,
        queued=sum(one.queued for one in on_path),
        retried=sum(one.retried for one in on_path),
        boot=sum(one.boot for one in on_path),
        lanes=len(lanes),
        busy=sum(lane.busy for lane in lanes),
    )
