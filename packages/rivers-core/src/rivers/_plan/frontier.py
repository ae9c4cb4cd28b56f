"""The frontier of a run: what is ready, what runs, what is over. It does no I/O and reads no clock.

    begin ─┐
    started│    ┌──────────┐    Owed.starts   attempts to submit
    ended ─┼──▶ │ Frontier │──▶ Owed.stops    attempts to cancel
    due   ─┤    └──────────┘    Owed.events   what to tell the sinks
    cancel─┘                    Owed.silent   attempts to give up

    waiting ──deps done──▶ queued ──place free──▶ running ──▶ succeeded │ failed │ skipped │ cancelled
                              ▲──────retry, backoff──┘

A mapped step becomes a `Group` of units, one per element, when its source has succeeded. Whoever collects the group
waits for all of it; whoever streams it may start at once. Nothing recurses: a chain may be as long as it likes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence

from rivers._definitions.compute import escalate
from rivers._plan.lanes import Lanes
from rivers._plan.ledger import Ledger
from rivers._plan.plan import Plan, Step
from rivers._plan.report import StepState
from rivers._plan.streams import Streams
from rivers._plan.unit import (
    Group,
    Owed,
    Place,
    StreamState,
    Unit,
    cancel_timeout,
    dispatch_timeout,
    missing_failure,
    redispatch_delay,
    stopped,
    timed_out,
)
from rivers.protocol.failure import Failure, FailureReason
from rivers.protocol.result import Ending, StepResult

__all__ = ["Frontier"]

DISPATCH_DEADLINE = 300.0
"""Seconds for which an attempt that never began is dispatched again free of charge (faults.md, D)."""
SILENCE = 10.0
"""Seconds beyond a cancel's grace after which an attempt that does not report is given up."""


class Frontier:
    """The state of one run; see the module's docstring. Times are seconds of a monotonic clock, `wall` of the epoch.

    `random` gives numbers in [0, 1) for jitter. With `observed` false no events are made. `running` holds what runs by
    attempt id, `reports` what is over by step key, `groups` the instances of mapped steps by the step's index.
    """

    def __init__(
        self,
        plan: Plan,
        run_id: str,
        places: Sequence[Place],
        *,
        random: Callable[[], float],
        observed: bool = True,
        grace: float = 10.0,
    ) -> None:
        self.plan = plan
        self.places = places
        self.grace = grace
        self.cancelling = False
        self.groups: dict[int, Group] = {}
        self.remaining = len(plan.steps)
        self._random = random
        self._lanes = Lanes(places, run_id)
        self._ledger = Ledger(places, run_id, observed)
        self.running = self._lanes.running
        self.reports = self._ledger.reports
        self._streams = Streams(plan, places, self.groups)
        self._map_keys: dict[int, tuple[str, ...]] = {}
        self._waiting = [len(step.deps) for step in plan.steps]
        self._over = bytearray(len(plan.steps))
        self._children = plan.children
        self._ready_units: dict[int, Unit] = {}
        self._expanding: deque[Step] = deque()
        self._losing: deque[tuple[Step, str, str]] = deque()

    @property
    def over(self) -> bool:
        """Whether every step has ended and nothing runs."""
        return self.remaining == 0 and not self._lanes.running

    @property
    def next_due(self) -> float | None:
        """When `due` has something to do, or None."""
        return self._lanes.next_due

    # ── what may happen ──

    def begin(self, now: float, wall: float) -> Owed:
        """The run starts: everything without upstreams is ready."""
        owed = self._change(now, wall)
        for step in self.plan.steps:
            if not step.deps and not self.cancelling:
                self._ready(step)
        return self._settled(owed)

    def started(self, attempt_id: str, worker: str, now: float, wall: float) -> Owed:
        """An attempt has reached its worker: its timeout begins to run. Told twice, the second time changes nothing."""
        owed = self._change(now, wall)
        unit = self.running.get(attempt_id)
        if unit is None or unit.begun:
            return owed
        unit.begun = True
        timeout = unit.step.node.definition.timeout
        if timeout is not None and not self.cancelling and not self.places[unit.step.placed].blocking:
            self._lanes.set_timer(now + timeout, "overdue", unit)
        self._ledger.started(unit, worker, owed)
        return owed

    def ended(self, result: StepResult, now: float, wall: float) -> Owed:
        """An attempt has ended; an attempt that is not running (a second end, an unknown id) changes nothing."""
        owed = self._change(now, wall)
        unit = self.running.pop(result.attempt_id, None)
        if unit is None:
            return owed
        self._lanes.release(unit)
        if result.ending is Ending.SUCCEEDED:
            self._succeeded(unit, result, owed)
        elif unit.doomed is not None:
            self._close(unit, StepState.SKIPPED, owed, result, unit.doomed)
        elif result.ending is Ending.NOT_STARTED:
            self._not_started(unit, result, owed)
        elif result.ending is Ending.CANCELLED and not unit.overdue:
            self._cancelled(unit, result, owed)
        else:
            self._failed(unit, result, result.failure or missing_failure(), owed)
        return self._settled(owed)

    def due(self, now: float, wall: float) -> Owed:
        """Time has passed: retries whose backoff is over, attempts that are overdue or do not report."""
        owed = self._change(now, wall)
        for alarm, unit in self._lanes.alarms(now):
            if alarm == "retry":
                self._queue(unit)
            elif alarm == "overdue":
                unit.overdue = True
                self._stop(unit, owed)
            else:
                owed.silent.append(cancel_timeout(unit, self.cancelling))
        return self._settled(owed)

    def cancel(self, now: float, wall: float) -> Owed:
        """End the run: what has not begun never will, what runs is asked to stop."""
        owed = self._change(now, wall)
        if self.cancelling or self.over:
            return owed
        self.cancelling = True
        waiting = self._lanes.clear()
        for unit in self.running.values():
            self._stop(unit, owed)
        for index, group in self.groups.items():
            if not self._over[index]:
                self._cancel_group(self.plan.steps[index], group, waiting, owed)
        busy = {unit.step.index for unit in self.running.values()}
        for step in self.plan.steps:
            if not self._over[step.index] and step.index not in busy and step.index not in self.groups:
                unit = self._ready_units.get(step.index) or Unit(step)
                self._close(unit, StepState.CANCELLED, owed, None)
        return owed

    def item(self, attempt_id: str, parameter: str, n: int) -> StreamState:
        """The n-th item of a stream that a running attempt consumes, counted from 0."""
        unit = self.running.get(attempt_id)
        if unit is None or self.cancelling:
            return StreamState(broken="the run was cancelled")
        return self._streams.item(unit, parameter, n)

    def feeders(self, attempt_id: str, parameter: str) -> list[Step]:
        """The mapped steps that a running consumer's stream needs, the nearest first."""
        return self._streams.feeders(self.running[attempt_id].step, parameter)

    def lend(self, attempt_id: str, steps: Sequence[Step]) -> Unit | None:
        """Start, in the place of a consumer that waits for its stream, one ready unit of these steps."""
        placed = self.running[attempt_id].step.placed
        return next(filter(None, (self._lanes.lend(placed, step) for step in steps)), None)

    # ── how one unit goes on ──

    def _change(self, now: float, wall: float) -> Owed:
        self._lanes.now = now
        return Owed(now, wall)

    def _ready(self, step: Step) -> None:
        if step.mapped_over is not None:
            self._expanding.append(step)
        else:
            self._queue(self._ready_units.setdefault(step.index, Unit(step)))

    def _queue(self, unit: Unit) -> None:
        self._lanes.queue(unit, first=bool(unit.step.streams) and self._streams.is_live(unit.step))

    def _stop(self, unit: Unit, owed: Owed) -> None:
        """Ask for an end. Who runs it in the calling thread cannot be given up: the run ends when that returns."""
        place = self.places[unit.step.placed]
        grace = self.grace if place.grace is None else place.grace
        owed.stops.append((unit.attempt_id, grace))
        if not place.blocking:
            self._lanes.set_timer(owed.now + grace + SILENCE, "silent", unit)

    def _succeeded(self, unit: Unit, result: StepResult, owed: Owed) -> None:
        unit.charged += 1
        self._ledger.over(unit, StepState.SUCCEEDED, result, None, owed)
        if unit.map_key is not None:
            self._instance_over(unit, None, owed)
            return
        for output in result.outputs:
            if output.map_keys is not None:
                self._map_keys[unit.step.index] = output.map_keys
        self._step_succeeded(unit.step)

    def _cancelled(self, unit: Unit, result: StepResult, owed: Owed) -> None:
        """End a unit as cancelled; an attempt counts that had begun, as far as anybody has said so."""
        if unit.begun or result.worker or result.failure is not None:
            unit.charged += 1
            unit.failures = (*unit.failures, result.failure or stopped(result))
        self._close(unit, StepState.CANCELLED, owed, result)

    def _failed(self, unit: Unit, result: StepResult, failure: Failure, owed: Owed) -> None:
        if unit.overdue and failure.reason is not FailureReason.TIMEOUT:
            failure = timed_out(unit, failure)
        unit.failures = (*unit.failures, failure)
        unit.charged += 1
        policy = unit.step.retry
        if policy is None or self.cancelling or not policy.retries(failure, unit.charged):
            self._close(unit, StepState.FAILED, owed, result)
            return
        delay = policy.backoff.delay(unit.charged, self._random()) if policy.backoff is not None else 0.0
        if policy.escalate is not None:
            unit.compute = escalate(unit.asked(self.places), policy.escalate, failure.reason)
        unit.unstarted, unit.give_up = 0, None
        self._again(unit, failure, delay, False, owed)

    def _not_started(self, unit: Unit, result: StepResult, owed: Owed) -> None:
        """The body never ran: dispatch it again at no charge, with full jitter, until the deadline."""
        if self.cancelling:
            self._close(unit, StepState.CANCELLED, owed, result)
            return
        if unit.give_up is None:
            unit.give_up = owed.now + DISPATCH_DEADLINE
        if owed.now >= unit.give_up:
            self._failed(unit, result, result.failure or dispatch_timeout(DISPATCH_DEADLINE), owed)
            return
        delay = self._random() * redispatch_delay(unit.unstarted)
        unit.unstarted += 1
        self._again(unit, result.failure, delay, True, owed)

    def _again(self, unit: Unit, failure: Failure | None, delay: float, free: bool, owed: Owed) -> None:
        self._ledger.retrying(unit, failure, delay, free, owed)
        if delay > 0:
            self._lanes.set_timer(owed.now + delay, "retry", unit)
        else:
            self._queue(unit)

    def _close(
        self, unit: Unit, state: StepState, owed: Owed, result: StepResult | None, cause: str | None = None
    ) -> None:
        """A unit is over without success: tell it, and skip what needs it."""
        self._ledger.over(unit, state, result, cause, owed)
        culprit = cause or unit.key
        if unit.map_key is not None:
            self._instance_over(unit, culprit, owed)
        else:
            self._end_step(unit.step)
            self._skip_children(unit.step, culprit, owed)

    # ── how the steps follow each other ──

    def _end_step(self, step: Step) -> None:
        self._over[step.index] = 1
        self._ready_units.pop(step.index, None)
        self.remaining -= 1

    def _step_succeeded(self, step: Step) -> None:
        """What waited for this step alone is ready."""
        self._end_step(step)
        for child in self._children[step.index]:
            other = self.plan.steps[child]
            if step.mapped_over is None or not self._streams.starts_early(other, step):
                self._satisfy(other)

    def _satisfy(self, step: Step) -> None:
        if self._over[step.index] or self.cancelling:
            return
        self._waiting[step.index] -= 1
        if self._waiting[step.index] == 0:
            self._ready(step)

    def _skip_children(self, step: Step, culprit: str, owed: Owed) -> None:
        """Everything downstream of a step that did not succeed is skipped, however deep.

        But for what is mapped over the instances of a step: it goes on with those that succeeded.
        """
        if self.cancelling:
            return
        steps = self.plan.steps
        stack = [steps[child] for child in reversed(self._children[step.index])]
        if step.index in self.groups:
            stack = [other for other in stack if other.mapped_over != step.index]
        while stack:
            other = stack.pop()
            if self._skip(other, culprit, owed):
                stack.extend(steps[child] for child in reversed(self._children[other.index]))

    def _skip(self, step: Step, culprit: str, owed: Owed) -> bool:
        """Skip a step that has not begun; a consumer that runs already is doomed instead, a group breaks by itself."""
        if self._over[step.index] or step.index in self.groups:
            return False
        unit = self._ready_units.get(step.index) or Unit(step)
        unit.doomed = culprit
        if unit.attempt_id in self.running:
            return False
        self._ledger.over(unit, StepState.SKIPPED, None, culprit, owed)
        self._end_step(step)
        return True

    def _settled(self, owed: Owed) -> Owed:
        """Carry through what the change has set off, then give free places to what waits for them."""
        while self._expanding or self._losing:
            if self._expanding:
                self._expand(self._expanding.popleft())
            else:
                step, map_key, culprit = self._losing.popleft()
                self.groups[step.index].active += 1
                self._close(Unit(step, map_key), StepState.SKIPPED, owed, None, culprit)
        self._lanes.fill(owed.starts)
        return owed

    # ── mapped steps ──

    def _expand(self, step: Step) -> None:
        """The source's keys are known: make an instance for each, and let go who need not wait for all of them."""
        assert step.mapped_over is not None
        source = self.groups.get(step.mapped_over)
        keys = source.keys if source is not None else self._map_keys.get(step.mapped_over, ())
        origin = source.origin if source is not None else self.plan.steps[step.mapped_over].node
        group = self.groups[step.index] = Group(step.node.index, keys, origin)
        for child in self._children[step.index]:
            if self._streams.starts_early(self.plan.steps[child], step):
                self._satisfy(self.plan.steps[child])
        for key in keys:
            if source is None or key in source.finished:
                self._add_instance(step, group, key)
            elif key in source.lost:
                self._losing.append((step, key, source.lost[key]))
        if not keys:
            self._step_succeeded(step)

    def _add_instance(self, step: Step, group: Group, map_key: str) -> None:
        unit = Unit(step, map_key)
        limit = step.node.max_concurrency
        if limit is not None and group.active >= limit:
            group.held.append(unit)
        else:
            group.active += 1
            self._queue(unit)

    def _instance_over(self, unit: Unit, culprit: str | None, owed: Owed) -> None:
        step, key = unit.step, unit.map_key
        assert key is not None
        group = self.groups[step.index]
        group.left -= 1
        group.active -= 1
        if culprit is None:
            group.done.append(key)
            group.finished.add(key)
        else:
            group.lost[key] = culprit
            if group.broken is None:
                group.broken = culprit
                self._doom_consumers(step, culprit, owed)
        if not self.cancelling:
            self._pass_on(step, key, culprit)
            limit = step.node.max_concurrency
            if group.held and (limit is None or group.active < limit):
                group.active += 1
                self._queue(group.held.popleft())
        if group.left > 0:
            return
        if group.broken is None:
            self._step_succeeded(step)
        else:
            self._end_step(step)
            self._skip_children(step, group.broken, owed)

    def _pass_on(self, step: Step, key: str, culprit: str | None) -> None:
        """Tell the instances of chained maps that their element is there, or never will be."""
        for child in self._children[step.index]:
            other = self.plan.steps[child]
            if other.mapped_over == step.index and child in self.groups:
                if culprit is None:
                    self._add_instance(other, self.groups[child], key)
                else:
                    self._losing.append((other, key, culprit))

    def _doom_consumers(self, step: Step, culprit: str, owed: Owed) -> None:
        if self.cancelling:
            return
        for child in self._children[step.index]:
            other = self.plan.steps[child]
            if step.index in other.streams and self._skip(other, culprit, owed):
                self._skip_children(other, culprit, owed)

    def _cancel_group(self, step: Step, group: Group, waiting: dict[str, Unit], owed: Owed) -> None:
        """Cancel the instances that do not run; those that do end the group."""
        waiting.update((unit.key, unit) for unit in group.held)
        group.held.clear()
        busy = {unit.map_key for unit in self.running.values() if unit.step is step}
        for key in group.keys:
            if key not in busy and key not in group.finished and key not in group.lost:
                group.active += 1
                unit = waiting.get(f"{step.key}[{key}]") or Unit(step, key)
                self._close(unit, StepState.CANCELLED, owed, None)
