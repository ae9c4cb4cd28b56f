"""The critical path of a run, and its length if no step had waited for a worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rivers._record.view import RunView, StepView
from rivers._report.phases import AttemptPhases

__all__ = ["PathStep", "StepTimes", "critical_path", "dependencies", "shortest_ends", "times_of"]


class StepTimes(NamedTuple):
    """The times of a step: `begin` and `end` in seconds since the epoch, and the seconds of each kind in between.

    `queued` is spent waiting for a worker, `retried` on attempts that failed and on the waits after them, `work` is the
    rest: the step would have taken it with a worker of its own and without a failure.
    """

    begin: float
    end: float
    queued: float
    boot: float
    retried: float
    work: float


class PathStep(NamedTuple):
    """A step of the critical path, by its index; `waited` are the seconds since the end of the one before it."""

    step: int
    waited: float


def times_of(attempts: Sequence[AttemptPhases]) -> StepTimes | None:
    """Return the times of a step by its attempts; None where it has none."""
    if not attempts:
        return None
    begin, last = attempts[0].begin, attempts[-1]
    # All from the begin of the first attempt to that of the last, but the first wait for a worker.
    retried = max(0.0, last.begin - begin - attempts[0].queued) if len(attempts) > 1 else 0.0
    queued = (attempts[0].queued if len(attempts) > 1 else 0.0) + last.queued
    return StepTimes(begin, last.end, queued, last.start_up, retried, last.busy - last.start_up)


def dependencies(view: RunView) -> list[tuple[int, ...]]:
    """Return the indices of the steps that each step waits for, in the order of `view.steps`.

    An instance of a mapped step waits for the instance of the same key, where both steps are mapped.
    """
    indices = {key: index for index, key in enumerate(view.steps)}
    planned = view.header.steps if view.header is not None else ()
    of_node = {
        node.key: tuple(indices[step.key] for step in view.instances.get(node.key, ()))
        or ((indices[node.key],) if node.key in indices else ())
        for node in planned
    }
    return [_step_dependencies(view, step, indices, of_node) for step in view.steps.values()]


def _step_dependencies(
    view: RunView, step: StepView, indices: dict[str, int], of_node: dict[str, tuple[int, ...]]
) -> tuple[int, ...]:
    if step.header is None or view.header is None:
        return ()
    found: list[int] = []
    # A collecting step depends on all instances, an instance on one: together as many as there are instances.
    for dep in step.header.deps:
        node = view.header.steps[dep]
        # Only where both are mapped over the same elements is there an instance of that key.
        twin = indices.get(f"{node.key}[{step.map_key}]") if step.map_key is not None else None
        found += of_node[node.key] if twin is None else (twin,)
    return tuple(found)


def critical_path(times: Sequence[StepTimes | None], deps: Sequence[tuple[int, ...]]) -> list[PathStep]:
    """Return the chain of steps that ends last: each began when the one before it in the chain had ended."""
    ran = [index for index, one in enumerate(times) if one is not None]
    path: list[PathStep] = []
    current = max(ran, key=lambda index: _end(times, index), default=None)
    while current is not None:
        begin = _times(times, current).begin
        before = max(
            (dep for dep in deps[current] if times[dep] is not None and dep != current),
            key=lambda index: _end(times, index),
            default=None,
        )
        path.append(PathStep(current, 0.0 if before is None else max(0.0, begin - _end(times, before))))
        # A damaged record could name a cycle.
        current = before if len(path) <= len(times) else None
    return path[::-1]


def shortest_ends(
    work: Sequence[float], deps: Sequence[tuple[int, ...]], order: Sequence[int], without: int | None = None
) -> list[float]:
    """Return the seconds from the start of the run to the end of each step, with a worker for each at once.

    `order` has every step behind those that it waits for. The step `without` takes no time.
    """
    ends = [0.0] * len(work)
    for index in order:
        ready = max((ends[dep] for dep in deps[index]), default=0.0)
        ends[index] = ready + (0.0 if index == without else work[index])
    return ends


def _times(times: Sequence[StepTimes | None], index: int) -> StepTimes:
    found = times[index]
    assert found is not None
    return found


def _end(times: Sequence[StepTimes | None], index: int) -> float:
    return _times(times, index).end
