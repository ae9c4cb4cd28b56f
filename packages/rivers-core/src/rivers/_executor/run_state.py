"""The state of a run behind a lock: take in what happened, and carry out what it makes due.

events of backends ──▶ router ──▶ handle ──▶ frontier ──▶ Effects ──▶ events to sinks, cancels, submits
time, cancel ─────────────────▶ tick, cancel ──┘
"""

from __future__ import annotations

import math
import threading
import time
from queue import SimpleQueue

from msgspec.structs import replace

from rivers._events import event as events
from rivers._events.dispatcher import EventDispatcher
from rivers._executor.backends import Backends
from rivers._executor.event_router import EventRouter
from rivers._executor.inline_values import InlineValues
from rivers._executor.interrupts import Interrupts
from rivers._executor.local import LocalQueue
from rivers._executor.missing_results import is_interrupt_of_body, is_of_first_body, refused_result
from rivers._executor.pump import Pump
from rivers._executor.recovery import recover_result
from rivers._executor.run_options import BeginAttempt, RunOptions
from rivers._plan.frontier import Frontier
from rivers._plan.plan import Plan
from rivers._plan.specify import Specifier
from rivers._plan.unit import Effects, OpenAttempt, Unit
from rivers.protocol.exception_text import describe_exception
from rivers.protocol.result import Ending, LogRecord, StepEvent, StepResult, StepStarted, without_values
from rivers.protocol.spec import StepSpec

__all__ = ["RunState"]


class RunState:
    """The frontier of a run, which only its lock's holder changes.

    `local` holds the units of blocking backends, for the calling thread. `pump` is the thread that handles the events
    of the other backends, None where there are none. `open_attempts` are those to adopt, by their ids. `stream_waiters`
    are woken by every change. `begun` is true once RunStarted was emitted, `has_given_up` once an attempt was given up
    that may still run.
    """

    def __init__(
        self, plan: Plan, backends: Backends, specifier: Specifier, options: RunOptions, dispatcher: EventDispatcher
    ) -> None:
        observed = bool(options.sinks)
        self._hooks = options.hooks
        self._begin_attempt = options.begin_attempt
        self._has_journal = options.journal is not None
        # Reentrant: a backend may report from within `submit` or `cancel`, which are called with the lock held.
        self.lock = threading.RLock()
        self.frontier = Frontier(
            plan,
            options.run_id,
            backends.places,
            random=options.random,
            observed=observed or options.hooks is not None,
            grace=options.grace,
            epoch=options.epoch,
        )
        self.frontier.restore(options.restored)
        found = (unit.open for unit in options.restored.values() if unit.open is not None)
        self.open_attempts = {attempt.attempt_id: attempt for attempt in found}
        self.local = LocalQueue()
        self.stream_waiters: list[SimpleQueue[Unit | None]] = []
        self.interrupts = Interrupts(self.wake, options.private is not None)
        self.pump: Pump | None = None
        if not all(can.blocking for can in backends.can):
            self.pump = Pump(f"rivers-run-{options.run_id[:8]}", self._pumped, self.seconds_to_wait, self.local.wake)
        self.router = EventRouter(self.handle, self._wake_caller, self.pump, self.interrupts, observed)
        self.run_id = options.run_id
        self._backends = backends
        self._specifier = specifier
        self._inline: InlineValues | None = None
        if options.store is not None and any(executor.has_inline_values for executor in plan.executors):
            self._inline = InlineValues(options.run_id, options.store, backends.is_remote)
        self._dispatcher = dispatcher
        self._waits_until = math.inf
        self.begun = self._cancelled_early = False
        self.has_given_up = False

    # ── what happens ──

    def begin(self) -> None:
        """Start what is ready, or end at once what was cancelled before; call it with the lock held."""
        self.begun = True
        change = self.frontier.cancel if self._cancelled_early else self.frontier.begin
        self._apply(change(time.monotonic(), time.time()))

    def cancel(self) -> None:
        """Start nothing more and ask what runs to stop; returns at once, from any thread."""
        with self.lock:
            if self.begun:
                self._apply(self.frontier.cancel(time.monotonic(), time.time()))
            else:
                # `_begin` has not emitted RunStarted yet, and it must come before the ends of steps.
                self._cancelled_early = True
        self.wake()

    def handle(self, event: StepEvent) -> None:
        """Take in an event of a backend."""
        if type(event) is StepResult:
            self._handle_result(event)
        elif type(event) is StepStarted:
            with self.lock:
                self._apply(self.frontier.on_started(event.attempt_id, event.worker, time.monotonic(), time.time()))
        elif isinstance(event, LogRecord):
            with self.lock:
                unit = self.frontier.running.get(event.attempt_id)
                if unit is None:
                    self._dispatcher.warn(event.message)
                else:
                    self._dispatcher.log(event, unit.key, unit.charged + 1)

    def tick(self) -> None:
        """Carry out what is due by the clock: retries, timeouts, attempts that do not report after a cancel."""
        silent: list[StepResult] = []
        with self.lock:
            due = self.frontier.next_due
            now = time.monotonic()
            if due is not None and due <= now:
                effects = self.frontier.on_timer(now, time.time())
                silent = effects.silent
                self.has_given_up = self.has_given_up or bool(silent)
                self._apply(effects)
        # Without the lock: the stores are asked first whether such an attempt was committed, which may take seconds.
        for result in silent:
            self.handle(result)

    # ── threads that wait ──

    def seconds_to_wait(self) -> float | None:
        """Return the seconds until something is due by the clock; None when only an event can bring it."""
        with self.lock:
            due = self.frontier.next_due
            self._waits_until = math.inf if due is None else due
        return None if due is None else max(0.0, due - time.monotonic())

    def wake(self) -> None:
        """Let the calling thread and the pump look again; callable from a signal handler."""
        self.local.wake()
        if self.pump is not None:
            self.pump.wake()

    def _wake_caller(self) -> None:
        """Wake the calling thread for what it cannot see by itself: the run's end, or a bug in another thread."""
        if self.frontier.over or (self.pump is not None and self.pump.bug is not None):
            self.local.wake()

    def _pumped(self, event: StepEvent | None) -> None:
        if event is not None:
            self.handle(event)
        self.tick()
        if self.frontier.over:
            self.local.wake()

    # ── how it is carried out ──

    def _handle_result(self, result: StepResult) -> None:
        attempt_id = result.attempt_id
        if result.ending is not Ending.SUCCEEDED:
            result = self._recover(result)
        with self.lock:
            unit = self.frontier.running.get(attempt_id)
            if not self.frontier.cancelling and is_interrupt_of_body(unit, result):
                self.interrupts.note()
            if self.interrupts.pending:
                # Before `ended`: what depends on this step then counts as cancelled, and not as skipped.
                self._apply(self.frontier.cancel(time.monotonic(), time.time()))
            result = self._take_values(unit, result)
            self._apply(self.frontier.on_ended(result, time.monotonic(), time.time(), attempt_id))

    def _take_values(self, unit: Unit | None, result: StepResult) -> StepResult:
        """Store the inline values of a result; those that nobody waits for are dropped."""
        if unit is None or self._inline is None:
            return without_values(result)
        return self._inline.take(unit, result)

    def _recover(self, result: StepResult) -> StepResult:
        """Turn the loss of a worker that had committed its outputs before into a success."""
        # The lock is not held while a store is asked, as that may be a bucket far away.
        with self.lock:
            unit = self.frontier.running.get(result.attempt_id)
        if unit is None or is_of_first_body(unit, result):
            return result
        return recover_result(self.run_id, unit, result, self._dispatcher) or result

    def _apply(self, effects: Effects) -> None:
        """Carry out what a change of the frontier makes due; with the lock held, so that all see one order."""
        self.router.applying = True
        for event in effects.events:
            self._dispatcher.emit(event)
            if self._hooks is not None:
                self._hooks(event)
        for attempt_id, grace in effects.stops:
            unit = self.frontier.running.get(attempt_id)
            if unit is not None:
                self._backends.cancel(unit, grace)
        for unit in effects.starts:
            if self._backends.can[unit.step.executor_index].blocking:
                self.local.put(unit)
            else:
                self._submit(unit)
        # The pump sleeps until `_waits_until`; a timer that is due earlier is one it does not know of yet.
        if self.pump is not None and self.frontier.next_due is not None and self.frontier.next_due < self._waits_until:
            self.pump.wake()
        for queue in self.stream_waiters:
            queue.put(None)
        self.stream_waiters.clear()
        self.router.applying = False

    def _submit(self, unit: Unit) -> None:
        """Hand an attempt to a backend that does not block; what that raises is the attempt's end."""
        try:
            backend = self._backends[unit.step.executor_index]
            known = self.open_attempts.get(unit.attempt_id)
            if known is None:
                backend.submit(self.spec_of(unit))
            else:
                self._show_start(unit, known)
                backend.adopt(self.spec_of(unit))
        except Exception as error:  # noqa: BLE001 - a third party's backend may raise anything, and no attempt is lost for it
            assert self.pump is not None
            self.pump.put(refused_result(unit, error))

    def _show_start(self, unit: Unit, known: OpenAttempt) -> None:
        """Show an adopted attempt as running to those who have not seen its start."""
        if known.started is not None:
            self._dispatcher.show(
                events.StepStarted(
                    run_id=self.run_id,
                    time=known.started,
                    step=unit.key,
                    attempt=unit.charged + 1,
                    attempt_id=known.attempt_id,
                    executor=self.frontier.executors[unit.step.executor_index].kind,
                    worker=known.worker,
                )
            )

    def spec_of(self, unit: Unit) -> StepSpec:
        """Return the spec of a unit's current attempt, which is about to be submitted: the journal notes it before."""
        # An attempt that is adopted was noted by the controller that submitted it.
        if self._has_journal and unit.attempt_id not in self.open_attempts:
            with self.lock:
                self._dispatcher.note(
                    events.StepSubmitted(
                        run_id=self.run_id,
                        time=time.time(),
                        step=unit.key,
                        attempt=unit.charged + 1,
                        attempt_id=unit.attempt_id,
                    )
                )
        live = bool(unit.step.streams) and self._backends.places[unit.step.executor_index].streams
        spec = self._specifier.spec(unit, self.frontier.groups, live)
        if self._inline is not None:
            spec = self._inline.attach(spec)
        return spec if self._begin_attempt is None else self._trace(self._begin_attempt, unit, spec)

    def _trace(self, begin_attempt: BeginAttempt, unit: Unit, spec: StepSpec) -> StepSpec:
        """Begin the span of an attempt, and return its spec with the context for the spans of its body."""
        function = unit.step.node.definition.function
        name = getattr(function, "__qualname__", None)
        name = f"{getattr(function, '__module__', '')}.{name}" if name is not None else None
        try:
            context = begin_attempt(unit.key, unit.attempt_id, unit.charged + 1, unit.queued, name)
        except Exception as error:  # noqa: BLE001 - the program's own tracer may raise anything, and no run fails for it
            self._begin_attempt = None
            self._dispatcher.warn(f"attempts are not traced any more: {describe_exception(error)}", unit.key)
            return spec
        return spec if context is None else replace(spec, trace_context=context)
