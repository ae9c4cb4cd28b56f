"""The queues of units that wait for a slot of an executor, and the timers of a run.

queue ──▶ queue of its executor ──slot free──▶ running ──▶ release
  ▲                                               │
  └────────────── timer "retry" ──────────────────┘   timers "overdue" and "silent" watch what runs
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Literal, TypeAlias

from rivers._plan.plan import Step
from rivers._plan.unit import FIRST, ExecutorLimits, Unit, attempt_id_of

__all__ = ["Alarm", "DispatchQueues"]

Alarm: TypeAlias = Literal["retry", "overdue", "silent"]
"""A unit's backoff is over; its attempt has run for its timeout; it was stopped long ago and has not reported."""

NO_LIMIT = 1 << 60


class SlotQueue:
    """The queue of ready units of one executor, sync or async, and its number of free slots."""

    __slots__ = ("free", "waiting")

    def __init__(self, slots: int | None) -> None:
        self.free = NO_LIMIT if slots is None else slots
        self.waiting: deque[Unit] = deque()


def make_queues(limits: ExecutorLimits) -> tuple[SlotQueue, SlotQueue]:
    """Return the queues for sync and for async steps, which are the same where the two share their slots."""
    if limits.max_steps is None:
        return SlotQueue(limits.max_sync), SlotQueue(limits.max_async)
    shared = SlotQueue(limits.max_steps)
    return shared, shared


class DispatchQueues:
    """The queues of all executors of a run, its timers, and the running units by attempt id.

    `now` is the time of the current change, in seconds of a monotonic clock.
    """

    __slots__ = ("_epoch", "_queues", "_run_id", "_ticket", "_timers", "_touched", "now", "running")

    def __init__(self, executors: Sequence[ExecutorLimits], run_id: str, epoch: int) -> None:
        self.running: dict[str, Unit] = {}
        self.now = 0.0
        self._run_id = run_id
        self._epoch = epoch
        self._queues = [make_queues(limits) for limits in executors]
        self._touched: list[SlotQueue] = []
        self._timers: list[tuple[float, int, Alarm, Unit, str]] = []
        self._ticket = 0

    @property
    def next_due(self) -> float | None:
        """The time of the first timer, or None."""
        return self._timers[0][0] if self._timers else None

    def queue(self, unit: Unit, first: bool = False) -> None:
        """Let a unit wait for a slot; with `first`, before all others."""
        unit.ready_at = self.now
        queue = self._queue_of(unit)
        if first:
            queue.waiting.appendleft(unit)
        else:
            queue.waiting.append(unit)
        self._touched.append(queue)

    def release(self, unit: Unit) -> None:
        """Free the slot of a unit whose attempt is over."""
        queue = self._queue_of(unit)
        queue.free += 1
        self._touched.append(queue)

    def fill(self, starts: list[Unit]) -> None:
        """Start waiting units in the free slots and append them to `starts`; drop those that are doomed."""
        # Only queues that have changed can have both a free slot and a waiting unit.
        for queue in self._touched:
            while queue.free > 0 and queue.waiting:
                unit = queue.waiting.popleft()
                if unit.doomed is None:
                    self._start(queue, unit)
                    starts.append(unit)
        self._touched.clear()

    def lend(self, executor_index: int, step: Step) -> Unit | None:
        """Start a waiting unit of this step in the slot of a running unit, which lends it until the other is over."""
        for queue in self._queues[executor_index]:
            for position, unit in enumerate(queue.waiting):
                if unit.step is step:
                    del queue.waiting[position]
                    self._start(queue, unit)
                    return unit
        return None

    def set_timer(self, when: float, alarm: Alarm, unit: Unit) -> None:
        """Let `alarms` yield this unit from `when` on."""
        self._ticket += 1
        # The ticket breaks ties: units cannot be compared, and equal times keep their order.
        heapq.heappush(self._timers, (when, self._ticket, alarm, unit, unit.attempt_id))

    def alarms(self, now: float) -> Iterator[tuple[Alarm, Unit]]:
        """Yield and remove the timers that are due by now, except those of attempts that are over."""
        while self._timers and self._timers[0][0] <= now:
            _, _, alarm, unit, attempt_id = heapq.heappop(self._timers)
            # An attempt that ended leaves its timers in the heap; its id is never used again.
            if alarm == "retry" or self.running.get(attempt_id) is unit:
                yield alarm, unit

    def clear(self) -> dict[str, Unit]:
        """Remove all units that wait for a slot or for the end of their backoff, and return them by key."""
        waiting = {unit.key: unit for _, _, alarm, unit, _ in self._timers if alarm == "retry"}
        self._timers = [timer for timer in self._timers if timer[2] == "silent"]
        heapq.heapify(self._timers)
        for pair in self._queues:
            for queue in pair:
                waiting.update((unit.key, unit) for unit in queue.waiting)
                queue.waiting.clear()
        return waiting

    def _queue_of(self, unit: Unit) -> SlotQueue:
        return self._queues[unit.step.executor_index][unit.step.is_async]

    def _start(self, queue: SlotQueue, unit: Unit) -> None:
        queue.free -= 1
        self._ticket += 1
        unit.begun = unit.overdue = False
        unit.queued = self.now - unit.ready_at
        # The ticket tells attempts apart; a step's first one has none, as preflight has given its id away already.
        ticket = self._ticket if unit.attempt_id or unit.map_key is not None else FIRST
        unit.attempt_id = attempt_id = (
            attempt_id_of(self._run_id, unit.step.index, self._epoch, ticket)
            if unit.adopts is None
            else unit.adopts.attempt_id
        )
        self.running[attempt_id] = unit
