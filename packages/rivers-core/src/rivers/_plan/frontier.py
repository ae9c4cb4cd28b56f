"""The frontier of a run: what is ready, what runs, what is over. It does no I/O and reads no clock.

    begin ─┐
    started│    ┌──────────┐    Owed.starts   attempts to submit
    ended ─┼──▶ │ Frontier │──▶ Owed.stops    attempts to cancel
    due   ─┤    └──────────┘    Owed.events   what to tell the sinks
    cancel─┘

    waiting ──deps done──▶ queued ──place free──▶ running ──▶ succeeded │ failed │ skipped │ cancelled
                              ▲──────retry, backoff──┘

A mapped step becomes a `Group` of units, one per element, when its source has succeeded. Whoever collects the group
waits for all of it; whoever streams it may start at once.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

from rivers._definitions.compute import Compute, escalate
from rivers._events.event import Event, StepCancelled, StepFailed, StepRetrying, StepSkipped, StepStarted, StepSucceeded
from rivers._plan.plan import Plan, Step
from rivers._plan.report import StepReport, StepState
from rivers._plan.unit import Group, Lane, Owed, Place, StreamState, Unit, timed_out, unreported
from rivers.protocol.failure import Failure, FailureReason
from rivers.protocol.result import Ending, StepResult

__all__ = ["Frontier"]

DISPATCH_DEADLINE = 300.0
"""Seconds for which an attempt that never began is dispatched again free of charge (faults.md, D)."""
DISPATCH_BACKOFF = (0.2, 10.0)
ABANDON_AFTER = 10.0
"""Seconds beyond a cancel's grace after which an attempt that does not report is given up."""


class Frontier:
    """The state of one run; see the module's docstring. Times are seconds of a monotonic clock, `wall` of the epoch.

    `random` gives numbers in [0, 1) for jitter. With `observed` false no events are made.
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
        self.run_id = run_id
        self.places = places
        self.random = random
        self.observed = observed
        self.grace = grace
        self.cancelling = False
        self.reports: dict[str, StepReport] = {}
        self.running: dict[str, Unit] = {}
        self.groups: dict[int, Group] = {}
        self._map_keys: dict[int, tuple[str, ...]] = {}
        self.remaining = len(plan.steps)
        self._lanes = [(Lane(place.max_sync), Lane(place.max_async)) for place in places]
        self._touched: list[Lane] = []
        self._waiting = [len(step.deps) for step in plan.steps]
        self._over = bytearray(len(plan.steps))
        self._children: list[list[int]] = [[] for _ in plan.steps]
        self._queued: dict[int, Unit] = {}
        self._timers: list[tuple[float, int, str, Unit, str]] = []
        self._ticket = 0
        for step in plan.steps:
            for index in step.deps:
                self._children[index].append(step.index)

    @property
    def over(self) -> bool:
        """Whether every step has ended and nothing runs."""
        return self.remaining == 0 and not self.running

    @property
    def next_due(self) -> float | None:
        """When `due` has something to do, or None."""
        return self._timers[0][0] if self._timers else None

    # ── what may happen ──

    def begin(self, now: float, wall: float) -> Owed:
        """The run starts: everything without upstreams is ready."""
        owed = Owed()
        for step in self.plan.steps:
            if not step.deps:
                self._ready(step, owed, now, wall)
        return self._filled(owed)

    def started(self, attempt_id: str, worker: str, now: float, wall: float) -> Owed:
        """An attempt has reached its worker: its timeout begins to run."""
        owed = Owed()
        unit = self.running.get(attempt_id)
        if unit is None:
            return owed
        timeout = unit.step.node.definition.timeout
        place = self.places[unit.step.placed]
        if timeout is not None and not place.blocking:
            self._set_timer(now + timeout, "overdue", unit)
        if self.observed:
            owed.events.append(
                StepStarted(
                    run_id=self.run_id,
                    time=wall,
                    step=unit.key,
                    attempt=unit.charged + 1,
                    attempt_id=attempt_id,
                    executor=place.kind,
                    worker=worker,
                )
            )
        return owed

    def ended(self, result: StepResult, now: float, wall: float) -> Owed:
        """An attempt has ended; an attempt that is not running (a second end, an unknown id) changes nothing."""
        owed = Owed()
        unit = self.running.pop(result.attempt_id, None)
        if unit is None:
            return owed
        self._free(unit)
        if result.ending is Ending.SUCCEEDED:
            self._succeeded(unit, result, owed, now, wall)
        elif unit.doomed is not None:
            self._close(unit, StepState.SKIPPED, owed, now, wall, result, cause=unit.doomed)
        elif result.ending is Ending.NOT_STARTED:
            self._not_started(unit, result, owed, now, wall)
        elif result.ending is Ending.CANCELLED and not unit.overdue:
            self._close(unit, StepState.CANCELLED, owed, now, wall, result)
        else:
            self._failed(unit, result, owed, now, wall)
        return self._filled(owed)

    def due(self, now: float, wall: float) -> Owed:
        """Time has passed: retries whose backoff is over, attempts that are overdue or do not report."""
        owed = Owed()
        while self._timers and self._timers[0][0] <= now:
            _, _, what, unit, attempt_id = heapq.heappop(self._timers)
            if what == "retry":
                self._queue(unit, now)
            elif self.running.get(attempt_id) is not unit:
                continue
            elif what == "overdue":
                unit.overdue = True
                owed.stops.append((attempt_id, self.grace))
                self._set_timer(now + self.grace + ABANDON_AFTER, "abandon", unit)
            else:
                self._abandon(unit, owed, now, wall)
        return self._filled(owed)

    def cancel(self, now: float, wall: float) -> Owed:
        """End the run: what has not begun never will, what runs is asked to stop."""
        owed = Owed()
        if self.cancelling:
            return owed
        self.cancelling = True
        self._timers = [timer for timer in self._timers if timer[2] == "abandon"]
        heapq.heapify(self._timers)
        for unit in self.running.values():
            owed.stops.append((unit.attempt_id, self.grace))
            self._set_timer(now + self.grace + ABANDON_AFTER, "abandon", unit)
        busy = {unit.step.index for unit in self.running.values()}
        for sync_lane, async_lane in self._lanes:
            sync_lane.queue.clear()
            async_lane.queue.clear()
        for index, group in self.groups.items():
            if not self._over[index]:
                self._cancel_group(self.plan.steps[index], group, owed, now, wall)
        for step in self.plan.steps:
            if not self._over[step.index] and step.index not in busy and step.index not in self.groups:
                unit = self._queued.get(step.index) or Unit(step, step.key, None, now)
                self._close(unit, StepState.CANCELLED, owed, now, wall, None)
        return owed

    def item(self, attempt_id: str, parameter: str, n: int) -> StreamState:
        """The n-th item of a stream that a running attempt consumes, counted from 0."""
        unit = self.running.get(attempt_id)
        if unit is None or self.cancelling:
            return StreamState(broken="the run was cancelled")
        if unit.doomed is not None:
            return StreamState(broken=unit.doomed)
        source = next(source for source in unit.step.node.inputs if source.parameter == parameter)
        group = self.groups[self._step_of(unit.step, source.node)]
        if n >= len(group.keys):
            return StreamState(ended=True)
        if source.ordered:
            return StreamState(key=group.keys[n]) if group.keys[n] in group.finished else StreamState()
        return StreamState(key=group.done[n]) if n < len(group.done) else StreamState()

    def lend(self, attempt_id: str, parameter: str) -> Unit | None:
        """Start, in the place of a consumer that waits for its stream, one ready unit that the stream needs."""
        consumer = self.running[attempt_id]
        source = next(source for source in consumer.step.node.inputs if source.parameter == parameter)
        index: int | None = self._step_of(consumer.step, source.node)
        while index is not None:  # the nearest first, so that the next item comes as soon as it can
            for lane in self._lanes[consumer.step.placed]:
                for position, unit in enumerate(lane.queue):
                    if unit.step.index == index:
                        del lane.queue[position]
                        self._start(unit)
                        lane.free -= 1
                        return unit
            index = self.plan.steps[index].mapped_over
        return None

    # ── how it changes ──

    def _step_of(self, step: Step, node: int | None) -> int:
        return next(index for index in step.deps if self.plan.steps[index].node.index == node)

    def _is_live(self, step: Step) -> bool:
        """A stream's consumer may start before its instances are done only where it cannot take their last place."""
        place = self.places[step.placed]
        return bool(step.streams) and place.streams and (place.blocking or place.max_sync is None)

    def _lane(self, unit: Unit) -> Lane:
        return self._lanes[unit.step.placed][unit.step.node.is_async]

    def _set_timer(self, when: float, what: str, unit: Unit) -> None:
        self._ticket += 1
        heapq.heappush(self._timers, (when, self._ticket, what, unit, unit.attempt_id))

    def _ready(self, step: Step, owed: Owed, now: float, wall: float) -> None:
        if step.mapped_over is not None:
            self._expand(step, owed, now, wall)
            return
        unit = Unit(step, step.key, None, now)
        self._queued[step.index] = unit
        self._queue(unit, now)

    def _queue(self, unit: Unit, now: float) -> None:
        unit.ready_at = now
        lane = self._lane(unit)
        if unit.step.streams and self._is_live(unit.step):
            lane.queue.appendleft(unit)
        else:
            lane.queue.append(unit)
        self._touched.append(lane)

    def _start(self, unit: Unit) -> None:
        unit.dispatches += 1
        unit.overdue = False
        unit.attempt_id = f"{self.run_id}-{unit.step.index}-{self._next()}"
        self.running[unit.attempt_id] = unit

    def _next(self) -> int:
        self._ticket += 1
        return self._ticket

    def _free(self, unit: Unit) -> None:
        lane = self._lane(unit)
        lane.free += 1
        self._touched.append(lane)

    def _filled(self, owed: Owed) -> Owed:
        """Give free places to what waits for them."""
        for lane in self._touched:
            queue = lane.queue
            while lane.free > 0 and queue:
                unit = queue.popleft()
                if unit.doomed is None:
                    lane.free -= 1
                    self._start(unit)
                    owed.starts.append(unit)
        self._touched.clear()
        return owed

    def _succeeded(self, unit: Unit, result: StepResult, owed: Owed, now: float, wall: float) -> None:
        if self.observed:
            owed.events.append(
                StepSucceeded(
                    run_id=self.run_id,
                    time=wall,
                    step=unit.key,
                    attempt=unit.charged + 1,
                    outputs=result.outputs,
                    timings=result.timings,
                    worker=result.worker,
                )
            )
        unit.charged += 1
        self._report(unit, StepState.SUCCEEDED, result, None)
        if unit.map_key is not None:
            self._instance_over(unit, None, owed, now, wall)
            return
        for output in result.outputs:
            if output.map_keys is not None:
                self._map_keys[unit.step.index] = output.map_keys
        self._step_over(unit.step, owed, now, wall)

    def _failed(self, unit: Unit, result: StepResult, owed: Owed, now: float, wall: float) -> None:
        failure = result.failure or Failure(
            reason=FailureReason.INFRASTRUCTURE, type="", message="the executor reported a failure without saying which"
        )
        if unit.overdue and failure.reason is not FailureReason.TIMEOUT:
            failure = timed_out(unit, failure)
        unit.failures = (*unit.failures, failure)
        unit.charged += 1
        policy = unit.step.retry
        if policy is None or self.cancelling or not policy.retries(failure, unit.charged):
            self._close(unit, StepState.FAILED, owed, now, wall, result, failure=failure)
            return
        delay = policy.backoff.delay(unit.charged, self.random()) if policy.backoff is not None else 0.0
        if policy.escalate is not None:
            unit.compute = escalate(unit.compute or Compute(), policy.escalate, failure.reason)
        self._again(unit, failure, delay, False, owed, now, wall)

    def _not_started(self, unit: Unit, result: StepResult, owed: Owed, now: float, wall: float) -> None:
        """The body never ran: dispatch it again at no charge, with full jitter, until the deadline."""
        if self.cancelling:
            self._close(unit, StepState.CANCELLED, owed, now, wall, result)
            return
        if unit.give_up is None:
            unit.give_up = now + DISPATCH_DEADLINE
        if now >= unit.give_up:
            self._failed(unit, result, owed, now, wall)
            return
        first, most = DISPATCH_BACKOFF
        delay = self.random() * min(most, first * 2 ** min(unit.dispatches, 10))
        self._again(unit, result.failure, delay, True, owed, now, wall)

    def _again(
        self, unit: Unit, failure: Failure | None, delay: float, free: bool, owed: Owed, now: float, wall: float
    ) -> None:
        if self.observed:
            owed.events.append(
                StepRetrying(
                    run_id=self.run_id,
                    time=wall,
                    step=unit.key,
                    attempt=unit.charged + (1 if free else 0),
                    failure=failure,
                    delay=delay,
                    free=free,
                )
            )
        if delay > 0:
            self._set_timer(now + delay, "retry", unit)
        else:
            self._queue(unit, now)

    def _close(
        self,
        unit: Unit,
        state: StepState,
        owed: Owed,
        now: float,
        wall: float,
        result: StepResult | None,
        *,
        failure: Failure | None = None,
        cause: str | None = None,
    ) -> None:
        """A unit is over without success: tell it, and skip what needs it."""
        if self.observed:
            owed.events.append(self._fact(unit, state, wall, failure, cause))
        self._report(unit, state, result, cause)
        culprit = cause or unit.key
        if unit.map_key is not None:
            self._instance_over(unit, culprit, owed, now, wall)
        else:
            self._end_step(unit.step)
            self._skip_children(unit.step, culprit, owed, wall)

    def _fact(self, unit: Unit, state: StepState, wall: float, failure: Failure | None, cause: str | None) -> Event:
        if state is StepState.FAILED:
            assert failure is not None
            return StepFailed(run_id=self.run_id, time=wall, step=unit.key, attempt=unit.charged, failure=failure)
        if state is StepState.SKIPPED:
            return StepSkipped(run_id=self.run_id, time=wall, step=unit.key, cause=cause or "")
        return StepCancelled(run_id=self.run_id, time=wall, step=unit.key, attempt=unit.charged)

    def _report(self, unit: Unit, state: StepState, result: StepResult | None, cause: str | None) -> None:
        kind = self.places[unit.step.placed].kind
        if result is None:
            report = StepReport(unit.key, state, kind, unit.charged, failures=unit.failures, cause=cause)
        else:
            report = StepReport(
                unit.key, state, kind, unit.charged, result.timings, result.worker, unit.failures, cause, result.outputs
            )
        self.reports[unit.key] = report

    def _end_step(self, step: Step) -> None:
        self._over[step.index] = 1
        self._queued.pop(step.index, None)
        self.remaining -= 1

    def _step_over(self, step: Step, owed: Owed, now: float, wall: float) -> None:
        """A step has succeeded: what waited for it alone is ready."""
        self._end_step(step)
        for child in self._children[step.index]:
            other = self.plan.steps[child]
            if step.mapped_over is None or not self._starts_early(other, step):
                self._satisfy(other, owed, now, wall)

    def _starts_early(self, step: Step, mapped: Step) -> bool:
        """Whether a step waits only for a mapped step's expansion: it is mapped over it, or streams it live."""
        return step.mapped_over == mapped.index or (mapped.index in step.streams and self._is_live(step))

    def _satisfy(self, step: Step, owed: Owed, now: float, wall: float) -> None:
        if self._over[step.index] or self.cancelling:
            return
        self._waiting[step.index] -= 1
        if self._waiting[step.index] == 0:
            self._ready(step, owed, now, wall)

    def _skip_children(self, step: Step, culprit: str, owed: Owed, wall: float) -> None:
        """Everything downstream of a step that did not succeed is skipped, however deep, without recursion."""
        if self.cancelling:
            return
        stack = list(reversed(self._children[step.index]))
        while stack:
            other = self.plan.steps[stack.pop()]
            if self._skip(other, culprit, owed, wall):
                stack.extend(reversed(self._children[other.index]))

    def _skip(self, step: Step, culprit: str, owed: Owed, wall: float) -> bool:
        """Skip a step that has not begun; a consumer that runs already is doomed instead, a group breaks by itself."""
        if self._over[step.index] or step.index in self.groups:
            return False
        if step.streams:
            for unit in self.running.values():
                if unit.step is step:
                    unit.doomed = culprit
                    return False
        unit = self._queued.get(step.index) or Unit(step, step.key, None, 0.0)
        unit.doomed = culprit
        if self.observed:
            owed.events.append(self._fact(unit, StepState.SKIPPED, wall, None, culprit))
        self._report(unit, StepState.SKIPPED, None, culprit)
        self._end_step(step)
        return True

    def _abandon(self, unit: Unit, owed: Owed, now: float, wall: float) -> None:
        """An attempt was asked to stop and never reported: its place is given up with it."""
        del self.running[unit.attempt_id]
        failure = unreported(unit, self.cancelling)
        result = StepResult(attempt_id=unit.attempt_id, ending=Ending.FAILED, failure=failure)
        if self.cancelling:
            self._close(unit, StepState.CANCELLED, owed, now, wall, result)
        else:
            self._failed(unit, result, owed, now, wall)

    # ── mapped steps ──

    def _expand(self, step: Step, owed: Owed, now: float, wall: float) -> None:
        """The source's keys are known: make an instance for each, and let go who need not wait for all of them."""
        assert step.mapped_over is not None
        source = self.groups.get(step.mapped_over)
        keys = source.keys if source is not None else self._map_keys.get(step.mapped_over, ())
        group = self.groups[step.index] = Group(step.node.index, keys)
        for child in self._children[step.index]:
            if self._starts_early(self.plan.steps[child], step):
                self._satisfy(self.plan.steps[child], owed, now, wall)
        for key in keys:
            if source is None or key in source.finished:
                self._add_instance(step, group, key, now)
            elif key in source.lost:
                self._lose_instance(step, key, source.lost[key], owed, now, wall)
        if not keys:
            self._step_over(step, owed, now, wall)

    def _add_instance(self, step: Step, group: Group, map_key: str, now: float) -> None:
        unit = Unit(step, f"{step.key}[{map_key}]", map_key, now)
        limit = step.node.max_concurrency
        if limit is not None and group.active >= limit:
            group.held.append(unit)
        else:
            group.active += 1
            self._queue(unit, now)

    def _lose_instance(self, step: Step, map_key: str, culprit: str, owed: Owed, now: float, wall: float) -> None:
        """An instance of a chained map whose element never came."""
        unit = Unit(step, f"{step.key}[{map_key}]", map_key, now)
        self.groups[step.index].active += 1
        self._close(unit, StepState.SKIPPED, owed, now, wall, None, cause=culprit)

    def _instance_over(self, unit: Unit, culprit: str | None, owed: Owed, now: float, wall: float) -> None:
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
                self._doom_consumers(step, culprit, owed, wall)
        if not self.cancelling:
            self._pass_on(step, key, culprit, owed, now, wall)
            if group.held:
                group.active += 1
                self._queue(group.held.popleft(), now)
        if group.left > 0:
            return
        if group.broken is None:
            self._step_over(step, owed, now, wall)
        else:
            self._end_step(step)
            self._skip_children(step, group.broken, owed, wall)

    def _pass_on(self, step: Step, key: str, culprit: str | None, owed: Owed, now: float, wall: float) -> None:
        """Tell the instances of chained maps that their element is there, or never will be."""
        for child in self._children[step.index]:
            other = self.plan.steps[child]
            if other.mapped_over == step.index and child in self.groups:
                if culprit is None:
                    self._add_instance(other, self.groups[child], key, now)
                else:
                    self._lose_instance(other, key, culprit, owed, now, wall)

    def _doom_consumers(self, step: Step, culprit: str, owed: Owed, wall: float) -> None:
        if self.cancelling:
            return
        for child in self._children[step.index]:
            other = self.plan.steps[child]
            if step.index in other.streams and self._skip(other, culprit, owed, wall):
                self._skip_children(other, culprit, owed, wall)

    def _cancel_group(self, step: Step, group: Group, owed: Owed, now: float, wall: float) -> None:
        """Cancel the instances that do not run; those that do end the group."""
        busy = {unit.map_key for unit in self.running.values() if unit.step is step}
        group.held.clear()
        for key in group.keys:
            if key not in busy and key not in group.finished and key not in group.lost:
                group.active += 1
                self._close(Unit(step, f"{step.key}[{key}]", key, now), StepState.CANCELLED, owed, now, wall, None)
