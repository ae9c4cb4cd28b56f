"""The phases of an attempt: consecutive spans of time, from when it was ready to its end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from rivers._record.view import AttemptView, StepView

__all__ = ["PHASES", "AttemptPhases", "phases_of"]

PHASES = ("queued", "schedule", "pull", "boot", "load", "run", "store", "rest")
"""The phases in their order. `boot` is the rest of it where a pod's schedule and pull are known, and `rest` what no
timing covers, such as the way of the result to the controller."""


class AttemptPhases(NamedTuple):
    """The phases of one attempt in seconds; they follow one another from `begin`, in seconds since the epoch."""

    begin: float
    queued: float
    schedule: float
    pull: float
    boot: float
    load: float
    run: float
    store: float
    rest: float

    @property
    def end(self) -> float:
        """The end of the attempt."""
        return sum(self)

    @property
    def active(self) -> float:
        """The begin of its boot: before it, no worker was taken."""
        return self.begin + self.queued

    @property
    def start_up(self) -> float:
        """The seconds until its worker was there: schedule, pull and boot."""
        return self.schedule + self.pull + self.boot

    @property
    def busy(self) -> float:
        """The seconds for which it held a worker."""
        return self.start_up + self.load + self.run + self.store + self.rest


def phases_of(step: StepView, origin: float, now: float, ready: float | None = None) -> list[AttemptPhases]:
    """Return the phases of each attempt of a step.

    No phase begins before `origin`, the start of the run, nor before the end of the attempt before it. A last attempt
    that has not ended is in its phase `run` until `now`. One whose times are not known takes none.
    The first is queued from `ready` on, when all had ended that the step waits for.
    """
    found: list[AttemptPhases] = []
    floor = origin
    for attempt in step.attempts:
        is_open = attempt is step.attempts[-1] and attempt.started is not None
        # A run without a record has the times of the last attempts alone.
        phases = _phases(attempt, floor, now if is_open else floor)
        # An executor may keep an attempt for a worker of its own, and when it is busy it learns late that a delay is
        # over: from the begin of both the attempt was queued.
        if ready is not None and floor <= ready < phases.begin:
            phases = phases._replace(begin=ready, queued=phases.queued + phases.begin - ready)
        found.append(phases)
        floor, ready = max(floor, phases.end), attempt.retry_at
    return found


def _phases(attempt: AttemptView, floor: float, default_end: float) -> AttemptPhases:
    timings = attempt.timings
    ended = attempt.ended if attempt.ended is not None else default_end
    started = attempt.started
    # The end of an attempt that never reached its worker: all of it was spent on the way there.
    if started is None:
        started = ended
    started = max(floor, min(started, ended))
    # Clocks of two machines differ: neither may reach back beyond the attempt before.
    boot = min(timings.boot, started - floor)
    queued = min(timings.queued, started - floor - boot)
    left = max(0.0, ended - started)
    body = [timings.load, timings.run, timings.store]
    # Without timings (a lost worker, an attempt that still runs), the body had the whole time.
    if not any(body):
        body = [0.0, left, 0.0]
    load, run, store = _fit(body, left)
    schedule, pull = _fit([timings.schedule, timings.pull], boot)
    return AttemptPhases(
        begin=started - boot - queued,
        queued=queued,
        schedule=schedule,
        pull=pull,
        boot=boot - schedule - pull,
        load=load,
        run=run,
        store=store,
        rest=max(0.0, left - load - run - store),
    )


def _fit(parts: Sequence[float], whole: float) -> list[float]:
    """Cut the parts, one after another, to what fits into the whole: clocks of two machines differ."""
    fitted: list[float] = []
    for part in parts:
        fitted.append(max(0.0, min(part, whole)))
        whole -= fitted[-1]
    return fitted
