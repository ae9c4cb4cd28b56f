"""Where ready units wait for a place, and what is to happen by the clock.

queue ──▶ lane ──place free──▶ running ──▶ release
  ▲                               │
  └────────── timer "retry" ──────┘   timers "overdue" and "silent" watch what runs
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

from rivers._plan.plan import Step
from rivers._plan.unit import Place, Unit

__all__ = ["Alarm", "Lanes"]

Alarm: TypeAlias = Literal["retry", "overdue", "silent"]
"""A unit's backoff is over; its attempt has run for its timeout; it was stopped long ago and has not reported."""

NO_LIMIT = 1 << 60


class _Lane:
    """The queue of ready units of one executor, sync or async, and how many places are free for them."""

    __slots__ = ("free", "queue")

    def __init__(self, places: int | None) -> None:
        self.free = NO_LIMIT if places is None else places
        self.queue: deque[Unit] = deque()


def _lanes(place: Place) -> tuple[_Lane, _Lane]:
    """The lanes for sync and for async steps; one and the same where they share their places."""
    if place.max_steps is None:
        return _Lane(place.max_sync), _Lane(place.max_async)
    shared = _Lane(place.max_steps)
    return shared, shared


class Lanes:
    """The lanes of all executors of a run, its timers, and what runs, by attempt id.

    `now` is the moment of the change that is being made, in seconds of a monotonic clock.
    """

    __slots__ = ("_lanes", "_run_id", "_ticket", "_timers", "_touched", "now", "running")

    def __init__(self, places: Sequence[Place], run_id: str) -> None:
        self.running: dict[str, Unit] = {}
        self.now = 0.0
        self._run_id = run_id
        self._lanes = [_lanes(place) for place in places]
        self._touched: list[_Lane] = []
        self._timers: list[tuple[float, int, Alarm, Unit, str]] = []
        self._ticket = 0

    @property
    def next_due(self) -> float | None:
        """When the first timer goes off, or None."""
        return self._timers[0][0] if self._timers else None

    def queue(self, unit: Unit, first: bool = False) -> None:
        """Let a unit wait for a place; `first` before all others."""
        unit.ready_at = self.now
        lane = self._lane(unit)
        if first:
            lane.queue.appendleft(unit)
        else:
            lane.queue.append(unit)
        self._touched.append(lane)

    def release(self, unit: Unit) -> None:
        """An attempt of the unit is over: its place is free."""
        lane = self._lane(unit)
        lane.free += 1
        self._touched.append(lane)

    def fill(self, starts: list[Unit]) -> None:
        """Give free places to what waits for them; what is doomed is dropped."""
        for lane in self._touched:
            queue = lane.queue
            while lane.free > 0 and queue:
                unit = queue.popleft()
                if unit.doomed is None:
                    self._start(lane, unit)
                    starts.append(unit)
        self._touched.clear()

    def lend(self, placed: int, step: Step) -> Unit | None:
        """Start a waiting unit of this step in the place of a running one, which lends it until that unit is over."""
        for lane in self._lanes[placed]:
            for position, unit in enumerate(lane.queue):
                if unit.step is step:
                    del lane.queue[position]
                    self._start(lane, unit)
                    return unit
        return None

    def set_timer(self, when: float, alarm: Alarm, unit: Unit) -> None:
        """Let `alarms` give this unit from `when` on."""
        self._ticket += 1
        heapq.heappush(self._timers, (when, self._ticket, alarm, unit, unit.attempt_id))

    def alarms(self, now: float) -> Iterator[tuple[Alarm, Unit]]:
        """What is due by now; alarms about an attempt that is over are left out."""
        while self._timers and self._timers[0][0] <= now:
            _, _, alarm, unit, attempt_id = heapq.heappop(self._timers)
            if alarm == "retry" or self.running.get(attempt_id) is unit:
                yield alarm, unit

    def clear(self) -> dict[str, Unit]:
        """Forget everything that waits, for a place or for its backoff; returns it by key."""
        waiting = {unit.key: unit for _, _, alarm, unit, _ in self._timers if alarm == "retry"}
        self._timers = [timer for timer in self._timers if timer[2] == "silent"]
        heapq.heapify(self._timers)
        for pair in self._lanes:
            for lane in pair:
                waiting.update((unit.key, unit) for unit in lane.queue)
                lane.queue.clear()
        return waiting

    def _lane(self, unit: Unit) -> _Lane:
        return self._lanes[unit.step.placed][unit.step.is_async]

    def _start(self, lane: _Lane, unit: Unit) -> None:
        lane.free -= 1
        self._ticket += 1
        unit.begun = unit.overdue = False
        unit.queued = self.now - unit.ready_at
        unit.attempt_id = attempt_id = f"{self._run_id}-{unit.step.index}-{self._ticket}"
        self.running[attempt_id] = unit
