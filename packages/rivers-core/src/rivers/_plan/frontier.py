"""The state machine of a run: which steps are ready, running and over. It does no I/O and reads no clock.

    begin ────┐
    on_started│    ┌──────────┐    Effects.starts   attempts to submit
    on_ended ─┼──▶ │ Frontier │──▶ Effects.stops    attempts to cancel
    on_timer ─┤    └──────────┘    Effects.events   events to emit
    cancel ───┘                    Effects.silent   attempts to give up

    waiting ──deps done──▶ queued ──slot free──▶ running ──▶ succeeded │ failed │ skipped │ cancelled
       │                      ▲──────retry, backoff─┘            ▲
       └──deps done, restored as committed, or unchanged─────────┘ unchanged

A mapped step becomes a `Group` of units, one per element, when its source has succeeded. A step that collects the group
waits for all of it; a step that streams it may start at once. Nothing recurses, so a chain may have any length.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence

from rivers._definitions.compute import escalate
from rivers._plan.dispatch_queues import DispatchQueues
from rivers._plan.ledger import Ledger
from rivers._plan.plan import Plan, Step
from rivers._plan.report import StepState
from rivers._plan.restored import RestoredUnit, restore_attempts
from rivers._plan.reuse import Reuse
from rivers._plan.streams import Streams
from rivers._plan.unit import (
    Effects,
    ExecutorLimits,
    Group,
    StreamState,
    Unit,
    cancel_timeout,
    cancelled_attempt,
    dispatch_timeout,
    missing_failure,
    redispatch_delay,
    step_timeout,
)
from rivers.protocol.failure import Failure, FailureReason
from rivers.protocol.result import Ending, OutputRecord, StepResult

__all__ = ["Frontier"]

DISPATCH_DEADLINE = 300.0
"""Seconds for which an attempt that never began is dispatched again without counting as an attempt."""
SILENCE = 10.0
"""Seconds beyond a cancel's grace after which an attempt that does not report is given up."""


class Frontier:
    """The state of one run. Times are seconds of a monotonic clock, `wall` seconds of the epoch.

    `random` returns numbers in [0, 1) for jitter. With `observed` false no events are made. `running` holds the running
    units by attempt id, `reports` those that are over by step key, `groups` the instances of mapped steps by the index
    of the step. `epoch` counts the controllers that have carried out this run before.
    """

    def __init__(
        self,
        plan: Plan,
        run_id: str,
        executors: Sequence[ExecutorLimits],
        *,
        random: Callable[[], float],
        observed: bool = True,
        grace: float = 10.0,
        epoch: int = 0,
    ) -> None:
        self.plan = plan
        self.executors = executors
        self.grace = grace
        self.cancelling = False
        self.groups: dict[int, Group] = {}
        self.remaining = len(plan.steps)
        self._random = random
        self._queues = DispatchQueues(executors, run_id, epoch)
        self._ledger = Ledger(executors, run_id, observed)
        self.running = self._queues.running
        self.reports = self._ledger.reports
        self._streams = Streams(plan, executors, self.groups)
        self._map_keys: dict[int, tuple[str, ...]] = {}
        self._waiting = [len(step.deps) for step in plan.steps]
        self._over = bytearray(len(plan.steps))
        self._children = plan.children
        self._ready_units: dict[int, Unit] = {}
        self._expanding: deque[Step] = deque()
        self._losing: deque[tuple[Step, str, str]] = deque()
        self._restored: dict[str, RestoredUnit] = {}
        self._is_adopting = False
        self._reused: deque[tuple[Unit, RestoredUnit]] = deque()
        self._compared: Reuse | None = None
        self._unchanged: deque[tuple[Unit, tuple[OutputRecord, ...]]] = deque()

    @property
    def over(self) -> bool:
        """True once every step has ended and nothing runs."""
        return self.remaining == 0 and not self._queues.running

    @property
    def next_due(self) -> float | None:
        """The time of the next timer, for `on_timer`, or None."""
        return self._queues.next_due

    def restore(self, units: Mapping[str, RestoredUnit]) -> None:
        """Take what is known of units, by key, from an earlier controller; call it before `begin`.

        A unit that has committed ends as reused when its turn comes; another one goes on with its attempts.
        """
        self._restored = dict(units)
        self._is_adopting = any(known.open is not None for known in units.values())

    def compare(self, reuse: Reuse) -> None:
        """Let units end as unchanged that need not run; call it before `begin`."""
        self._compared = reuse
        # What a step streams is a part of its fingerprint.
        self._streams.is_whole = True

    # ── inputs ──

    def begin(self, now: float, wall: float) -> Effects:
        """Start the run: every step without upstreams is ready."""
        effects = self._start_change(now, wall)
        for step in self.plan.steps:
            if not step.deps and not self.cancelling:
                self._make_ready(step)
        return self._settle(effects)

    def on_started(self, attempt_id: str, worker: str, now: float, wall: float) -> Effects:
        """Take the start of an attempt, which starts its timeout; a second start of it changes nothing."""
        effects = self._start_change(now, wall)
        unit = self.running.get(attempt_id)
        if unit is None or unit.begun:
            return effects
        unit.begun = True
        unit.started = wall
        self._limit_time(unit, 0.0)
        self._ledger.record_start(unit, worker, effects)
        return effects

    def on_ended(self, result: StepResult, now: float, wall: float, attempt_id: str | None = None) -> Effects:
        """Take the end of an attempt; one that does not run (a second end, an unknown id) changes nothing.

        `attempt_id` is the attempt that has ended, where `result` is that of an earlier one which had committed.
        """
        effects = self._start_change(now, wall)
        unit = self.running.pop(attempt_id or result.attempt_id, None)
        if unit is None:
            return effects
        self._queues.release(unit)
        if result.ending is Ending.SUCCEEDED:
            self._on_succeeded(unit, result, effects)
        elif unit.doomed is not None:
            self._close(unit, StepState.SKIPPED, effects, result, unit.doomed)
        elif result.ending is Ending.NOT_STARTED:
            self._on_not_started(unit, result, effects)
        elif result.ending is Ending.CANCELLED and not unit.overdue:
            self._cancelled(unit, result, effects)
        else:
            self._on_failed(unit, result, result.failure or missing_failure(), effects)
        return self._settle(effects)

    def on_timer(self, now: float, wall: float) -> Effects:
        """Take the passing of time: queue retries after their backoff, stop overdue attempts, give up silent ones."""
        effects = self._start_change(now, wall)
        for alarm, unit in self._queues.alarms(now):
            if alarm == "retry":
                self._queue(unit)
            elif alarm == "overdue":
                unit.overdue = True
                self._stop(unit, effects)
            else:
                effects.silent.append(cancel_timeout(unit, self.cancelling))
        return self._settle(effects)

    def cancel(self, now: float, wall: float) -> Effects:
        """End the run: stop what runs, and never start the rest."""
        effects = self._start_change(now, wall)
        if self.cancelling or self.over:
            return effects
        self.cancelling = True
        waiting = self._queues.clear()
        for unit in self.running.values():
            self._stop(unit, effects)
        for index, group in self.groups.items():
            if not self._over[index]:
                self._cancel_group(self.plan.steps[index], group, waiting, effects)
        busy = {unit.step.index for unit in self.running.values()}
        for step in self.plan.steps:
            if not self._over[step.index] and step.index not in busy and step.index not in self.groups:
                unit = self._ready_units.get(step.index) or Unit(step)
                self._close(unit, StepState.CANCELLED, effects, None)
        return effects

    def item(self, attempt_id: str, parameter: str, n: int) -> StreamState:
        """Return the state of the n-th item, counted from 0, of a stream that a running attempt consumes."""
        unit = self.running.get(attempt_id)
        if unit is None or self.cancelling:
            return StreamState(broken="the run was cancelled")
        return self._streams.item(unit, parameter, n)

    def feeders(self, attempt_id: str, parameter: str) -> list[Step]:
        """Return the mapped steps that a running consumer's stream needs, the nearest first."""
        return self._streams.feeders(self.running[attempt_id].step, parameter)

    def lend(self, attempt_id: str, steps: Sequence[Step]) -> Unit | None:
        """Start one ready unit of these steps in the slot of a consumer that waits for its stream."""
        executor_index = self.running[attempt_id].step.executor_index
        return next(filter(None, (self._queues.lend(executor_index, step) for step in steps)), None)

    # ── units ──

    def _start_change(self, now: float, wall: float) -> Effects:
        self._queues.now = now
        return Effects(now, wall)

    def _make_ready(self, step: Step) -> None:
        if step.mapped_over is not None:
            self._expanding.append(step)
        else:
            self._queue(self._ready_units.setdefault(step.index, Unit(step)))

    def _queue(self, unit: Unit) -> None:
        if self._restored:
            known = self._restored.pop(unit.key, None)
            if known is not None and known.attempt_id is not None:
                self._reused.append((unit, known))
                return
            if known is not None:
                restore_attempts(unit, known, self.executors)
        if self._compared is not None and unit.fingerprint is None:
            outputs = self._compared.find(unit, self.groups)
            if outputs is not None:
                self._unchanged.append((unit, outputs))
                return
        # What runs already takes its slot before what does not.
        is_first = unit.adopts is not None or (bool(unit.step.streams) and self._streams.is_live(unit.step))
        self._queues.queue(unit, is_first)

    def _limit_time(self, unit: Unit, elapsed: float) -> None:
        """Set the timer that ends an attempt at its timeout; it began `elapsed` seconds ago."""
        timeout = unit.step.node.definition.timeout
        if timeout is not None and not self.cancelling and not self.executors[unit.step.executor_index].blocking:
            self._queues.set_timer(self._queues.now + timeout - elapsed, "overdue", unit)

    def _adopt(self, unit: Unit, effects: Effects) -> None:
        """Go on with an attempt of an earlier controller, whose start may be recorded already."""
        known, unit.adopts = unit.adopts, None
        if known is not None and known.started is not None:
            unit.begun, unit.started = True, known.started
            # The clock may have been set back since.
            self._limit_time(unit, max(0.0, effects.wall - known.started))

    def _stop(self, unit: Unit, effects: Effects) -> None:
        """Ask for the end of a running attempt, and set the timer that gives it up."""
        limits = self.executors[unit.step.executor_index]
        grace = self.grace if limits.grace is None else limits.grace
        effects.stops.append((unit.attempt_id, grace))
        # A blocking executor runs it in the calling thread, which cannot be given up: the run ends after it.
        if not limits.blocking:
            self._queues.set_timer(effects.now + grace + SILENCE, "silent", unit)

    def _on_succeeded(self, unit: Unit, result: StepResult, effects: Effects) -> None:
        unit.charged += 1
        self._ledger.record_end(unit, StepState.SUCCEEDED, result, None, effects)
        self._advance(unit, result.outputs, result.attempt_id, effects)

    def _reuse(self, unit: Unit, known: RestoredUnit, effects: Effects) -> None:
        self._ledger.record_reused(unit, known, effects)
        self._advance(unit, known.outputs, known.attempt_id or "", effects)

    def _end_unchanged(self, unit: Unit, outputs: tuple[OutputRecord, ...], effects: Effects) -> None:
        assert self._compared is not None
        attempt_id = self._compared.attempt_of(unit)
        self._ledger.record_unchanged(unit, outputs, attempt_id, effects)
        self._advance(unit, outputs, attempt_id, effects)

    def _advance(self, unit: Unit, outputs: Sequence[OutputRecord], attempt_id: str, effects: Effects) -> None:
        """Go on with what waits for a unit whose outputs are stored."""
        if self._compared is not None:
            self._compared.note(unit, outputs, attempt_id)
        if unit.map_key is not None:
            self._instance_over(unit, None, effects)
            return
        for output in outputs:
            if output.map_keys is not None:
                self._map_keys[unit.step.index] = output.map_keys
        self._step_succeeded(unit.step)

    def _cancelled(self, unit: Unit, result: StepResult, effects: Effects) -> None:
        """End a unit as cancelled; an attempt counts that had begun, as far as anybody has said so."""
        if unit.begun or result.worker or result.failure is not None:
            unit.charged += 1
            unit.failures = (*unit.failures, result.failure or cancelled_attempt(result))
        self._close(unit, StepState.CANCELLED, effects, result)

    def _on_failed(self, unit: Unit, result: StepResult, failure: Failure, effects: Effects) -> None:
        if unit.overdue and failure.reason is not FailureReason.TIMEOUT:
            failure = step_timeout(unit, failure)
        unit.failures = (*unit.failures, failure)
        unit.charged += 1
        policy = unit.step.retry
        if policy is None or self.cancelling or not policy.retries(failure, unit.charged):
            self._close(unit, StepState.FAILED, effects, result)
            return
        delay = policy.backoff.delay(unit.charged, self._random()) if policy.backoff is not None else 0.0
        if policy.escalate is not None:
            unit.compute = escalate(unit.request_compute(self.executors), policy.escalate, failure.reason)
        unit.unstarted, unit.give_up = 0, None
        self._retry(unit, result, failure, delay, False, effects)

    def _on_not_started(self, unit: Unit, result: StepResult, effects: Effects) -> None:
        """Dispatch an attempt again whose body never ran, free of charge, with full jitter, until the deadline."""
        if self.cancelling:
            self._close(unit, StepState.CANCELLED, effects, result)
            return
        if unit.give_up is None:
            unit.give_up = effects.now + DISPATCH_DEADLINE
        if effects.now >= unit.give_up:
            self._on_failed(unit, result, result.failure or dispatch_timeout(DISPATCH_DEADLINE), effects)
            return
        delay = self._random() * redispatch_delay(unit.unstarted)
        unit.unstarted += 1
        self._retry(unit, result, result.failure, delay, True, effects)

    def _retry(
        self, unit: Unit, result: StepResult, failure: Failure | None, delay: float, free: bool, effects: Effects
    ) -> None:
        self._ledger.record_retry(unit, result, failure, delay, free, effects)
        if delay > 0:
            self._queues.set_timer(effects.now + delay, "retry", unit)
        else:
            self._queue(unit)

    def _close(
        self, unit: Unit, state: StepState, effects: Effects, result: StepResult | None, cause: str | None = None
    ) -> None:
        """Record a unit that is over without success, and skip the steps that need it."""
        self._ledger.record_end(unit, state, result, cause, effects)
        culprit = cause or unit.key
        if unit.map_key is not None:
            self._instance_over(unit, culprit, effects)
        else:
            self._end_step(unit.step)
            self._skip_children(unit.step, culprit, effects)

    # ── steps ──

    def _end_step(self, step: Step) -> None:
        self._over[step.index] = 1
        self._ready_units.pop(step.index, None)
        self.remaining -= 1

    def _step_succeeded(self, step: Step) -> None:
        """End a step, and make the steps ready that waited for it alone."""
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
            self._make_ready(step)

    def _skip_children(self, step: Step, culprit: str, effects: Effects) -> None:
        """Skip everything downstream of a step that did not succeed.

        A step that is mapped over its instances is not skipped: it goes on with those that succeeded.
        """
        if self.cancelling:
            return
        steps = self.plan.steps
        stack = [steps[child] for child in reversed(self._children[step.index])]
        if step.index in self.groups:
            stack = [other for other in stack if other.mapped_over != step.index]
        while stack:
            other = stack.pop()
            if self._skip(other, culprit, effects):
                stack.extend(steps[child] for child in reversed(self._children[other.index]))

    def _skip(self, step: Step, culprit: str, effects: Effects) -> bool:
        """Skip a step that has not begun, and return whether it was; doom a consumer that runs already."""
        if self._over[step.index] or step.index in self.groups:
            return False
        unit = self._ready_units.get(step.index) or Unit(step)
        unit.doomed = culprit
        if unit.attempt_id in self.running:
            return False
        self._ledger.record_end(unit, StepState.SKIPPED, None, culprit, effects)
        self._end_step(step)
        return True

    def _settle(self, effects: Effects) -> Effects:
        """Expand, end and reuse units until nothing changes, then start waiting units in free slots."""
        while self._expanding or self._losing or self._reused or self._unchanged:
            if self._expanding:
                self._expand(self._expanding.popleft())
            elif self._reused:
                self._reuse(*self._reused.popleft(), effects)
            elif self._unchanged:
                self._end_unchanged(*self._unchanged.popleft(), effects)
            else:
                step, map_key, culprit = self._losing.popleft()
                self.groups[step.index].active += 1
                self._close(Unit(step, map_key), StepState.SKIPPED, effects, None, culprit)
        self._queues.fill(effects.starts)
        if self._is_adopting:
            for unit in effects.starts:
                self._adopt(unit, effects)
        return effects

    # ── mapped steps ──

    def _expand(self, step: Step) -> None:
        """Make an instance of a mapped step for each key of its source, and release the steps that stream it."""
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

    def _instance_over(self, unit: Unit, culprit: str | None, effects: Effects) -> None:
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
                self._doom_consumers(step, culprit, effects)
        if not self.cancelling:
            self._notify_chained_maps(step, key, culprit)
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
            self._skip_children(step, group.broken, effects)

    def _notify_chained_maps(self, step: Step, key: str, culprit: str | None) -> None:
        """Add or end the instances of chained maps whose element is there, or never will be."""
        for child in self._children[step.index]:
            other = self.plan.steps[child]
            if other.mapped_over == step.index and child in self.groups:
                if culprit is None:
                    self._add_instance(other, self.groups[child], key)
                else:
                    self._losing.append((other, key, culprit))

    def _doom_consumers(self, step: Step, culprit: str, effects: Effects) -> None:
        if self.cancelling:
            return
        for child in self._children[step.index]:
            other = self.plan.steps[child]
            if step.index in other.streams and self._skip(other, culprit, effects):
                self._skip_children(other, culprit, effects)

    def _cancel_group(self, step: Step, group: Group, waiting: dict[str, Unit], effects: Effects) -> None:
        """Cancel the instances that do not run; the running ones end the group later."""
        waiting.update((unit.key, unit) for unit in group.held)
        group.held.clear()
        busy = {unit.map_key for unit in self.running.values() if unit.step is step}
        for key in group.keys:
            if key not in busy and key not in group.finished and key not in group.lost:
                group.active += 1
                unit = waiting.get(f"{step.key}[{key}]") or Unit(step, key)
                self._close(unit, StepState.CANCELLED, effects, None)
