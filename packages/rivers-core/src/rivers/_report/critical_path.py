"""The critical path of a run, and its length if no step had waited for a worker."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rivers._report.phases import AttemptPhases

__all__ = ["StepTimes", "critical_path", "shortest_ends", "times_of"]


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


def times_of(attempts: Sequence[AttemptPhases]) -> StepTimes | None:
    """Return the times of a step by its attempts; None where it has none."""
    if not attempts:
        return None
    begin, last = attempts[0].begin, attempts[-1]
    # All from the begin of the first attempt to that of the last, but the first wait for a worker.
    retried = max(0.0, last.begin - begin - attempts[0].queued) if len(attempts) > 1 else 0.0
    queued = (attempts[0].queued if len(attempts) > 1 else 0.0) + last.queued
    return StepTimes(begin, last.end, queued, last.start_up, retried, last.busy - last.start_up)


def critical_path(times: Sequence[StepTimes | None], deps: Sequence[tuple[int, ...]]) -> list[int]:
    """Return the chain of steps that ends last: each was ready when the one before it in the chain had ended."""
    ran = [index for index, one in enumerate(times) if one is not None]
    path: list[int] = []
    current = max(ran, key=lambda index: _end(times, index), default=None)
    while current is not None:
        before = max(
            (dep for dep in deps[current] if times[dep] is not None and dep != current),
            key=lambda index: _end(times, index),
            default=None,
        )
        path.append(current)
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


def _end(times: Sequence[StepTimes | None], index: int) -> float:
    found = times[index]
    assert found is not None
    return found.end
