"""The run loop: carries out what the frontier owes, and tells it what happened.

    calling thread                     pump thread (only with backends that do not block)
    ──────────────                     ─────────────────────────────────────────────────
    local queue ◀── starts ──┐         inbox ◀── events of those backends, from any thread
        │                    │           │
    backend.submit(spec)     │           ▼
        │ emit               │        frontier ──▶ starts ──▶ backend.submit(spec)   (does not block)
        ▼                    │           │
     frontier ──▶ Owed ──────┘           └──────▶ events ──▶ sinks

One lock guards the frontier. A body runs outside of it; sinks are called inside, so that all see one order.
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Literal, TypeAlias

from rivers._events.audience import Audience
from rivers._events.event import RunFinished, RunStarted
from rivers._events.sink import EventSink
from rivers._executor.backend import ExecutorBackend, Run
from rivers._executor.backends import Backends
from rivers._executor.endings import interrupted, of_the_first_body, raised_interrupt, refused, untold
from rivers._executor.intake import Intake
from rivers._executor.interrupts import Interrupts
from rivers._executor.local import LocalQueue
from rivers._executor.pump import Pump
from rivers._executor.recovery import end_run_in_stores, recover_result
from rivers._executor.shortfalls import shortfalls
from rivers._plan.frontier import Frontier
from rivers._plan.plan import Plan
from rivers._plan.refs import Refs
from rivers._plan.specify import Specifier
from rivers._plan.unit import Owed, Unit
from rivers.exceptions import RiversError
from rivers.protocol.result import Ending, LogRecord, StepEvent, StepResult, StepStarted
from rivers.protocol.spec import LogSettings, StepSpec

__all__ = ["RunLoop", "Status"]

Status: TypeAlias = Literal["running", "success", "failure", "cancelled"]


class RunLoop:
    """One run of a plan; `run` returns when it is over, `cancel` ends it early from any thread.

    `backends` carry out `plan.executors`, in the same order, and are handed to `release` in the end. `grace` is how
    many seconds a cancelled body gets.
    """

    def __init__(
        self,
        plan: Plan,
        backends: Sequence[ExecutorBackend],
        *,
        run_id: str,
        key: bytes,
        random: Callable[[], float],
        sinks: Sequence[EventSink] = (),
        configs: Mapping[str, str] | None = None,
        tags: dict[str, str] | None = None,
        job: str | None = None,
        log_level: int = 20,
        grace: float = 10.0,
        folders: tuple[str, ...] = (),
        release: Callable[[Sequence[ExecutorBackend]], None] | None = None,
    ) -> None:
        self.plan = plan
        self.run_id = run_id
        self.status: Status = "running"
        self.errors: dict[str, BaseException] = {}
        self._audience = Audience(run_id, sinks)
        self._backends = Backends(plan, backends, self._audience)
        self._job = job
        self._tags = tags or {}
        self._grace = grace
        self._folders = folders
        self._release = release
        self._key = key
        self._lock = threading.RLock()
        self._local = LocalQueue()
        self._hungry: list[SimpleQueue[Unit | None]] = []
        self._thread = 0
        self._begun = self._cancelled_early = False
        self._waits_until = math.inf
        self._pump: Pump | None = None
        if not all(can.blocking for can in self._backends.can):
            self._pump = Pump(f"rivers-run-{run_id[:8]}", self._pumped, self._patience, self._local.wake)
        self._interrupts = Interrupts(self._wake)
        self._intake = Intake(self._take, self._taken, self._pump, self._interrupts, bool(sinks))
        self.frontier = Frontier(plan, run_id, self._backends.places, random=random, observed=bool(sinks), grace=grace)
        in_plan = {node.index for step in plan.steps for node in (step.inner or (step.node,))}
        self._refs = Refs(key)
        self._specifier = Specifier(
            run_id,
            self._refs,
            self._backends.closures,
            configs=configs or {},
            tags=tags,
            logs=LogSettings(level=log_level, capture=bool(sinks)),
            in_run=in_plan.__contains__,
        )

    def run(self) -> None:
        """Run to the end: every step has ended, every backend is closed.

        Raises:
            GraphValidationError: preflight found problems; nothing was started.
            KeyboardInterrupt: Ctrl-C, after everything was cancelled and told.
        """
        try:
            self._backends.preflight(self._specifier, self._pump.start() if self._pump is not None else self._take)
            if self._pump is not None:
                self._pump.settle()  # so that RunStarted comes after it
            with self._interrupts:
                self._run_all()
        finally:
            if self._pump is not None:
                self._pump.stop()
            if self._release is not None:
                self._release(self._backends.all)
        self._audience.complain()
        self._interrupts.raise_if_any()

    def _run_all(self) -> None:
        try:
            self._backends.open(self._open)
            self._thread = threading.get_ident()
            self._begin()
            self._work()
        except KeyboardInterrupt:
            self._interrupts.note()
        finally:
            self._backends.close()
            if self._pump is not None:
                self._pump.stop()
            self._finish()

    def cancel(self) -> None:
        """End the run: nothing more is started, what runs is asked to stop. Returns at once; safe from any thread."""
        with self._lock:
            if self._begun:
                self._apply(self.frontier.cancel(time.monotonic(), time.time()))
            else:
                self._cancelled_early = True
        self._wake()

    # ── the calling thread ──

    def _work(self) -> None:
        """Run local steps until the run is over; wait for them, for time and for the pump in between."""
        frontier = self.frontier
        while not frontier.over:
            if self._interrupts.pending or self._pump is not None:
                self._heed()
            unit = self._next_local()
            if unit is not None:
                self._run_local(unit)

    def _heed(self) -> None:
        """What ends the run from outside: Ctrl-C, or a bug in the pump."""
        if self._pump is not None and self._pump.bug is not None:
            raise self._pump.bug
        if self._interrupts.pending:
            self.cancel()

    def _next_local(self) -> Unit | None:
        unit = self._local.next()
        if unit is None and not self.frontier.over:
            if self._pump is None:
                self._tick()
            if not self._local.wait(self._patience()):
                self._tick()
        return unit

    def _patience(self) -> float | None:
        """Seconds until there is something to do by the clock; None when only an event can bring it."""
        with self._lock:
            due = self.frontier.next_due
            self._waits_until = math.inf if due is None else due
        return None if due is None else max(0.0, due - time.monotonic())

    def _run_local(self, unit: Unit) -> None:
        if self.frontier.running.get(unit.attempt_id) is not unit:
            return
        if self.frontier.cancelling:  # it was given a place, but has not begun
            self._take(interrupted(unit))
            return
        try:
            spec = self._spec(unit)
        except RiversError as error:
            self._take(refused(unit, error))
            return
        attempt_id = unit.attempt_id
        end: Callable[[Unit], StepResult] = interrupted
        try:
            self._interrupts.enter_body()
            self._backends[unit.step.placed].submit(spec)
            end = untold
        except KeyboardInterrupt:
            self._interrupts.note()
        except Exception as error:  # noqa: BLE001 - a backend by strangers may raise anything, and no attempt is lost for it
            end = partial(refused, error=error)
        finally:
            self._interrupts.leave_body()
        if self.frontier.running.get(attempt_id) is unit:  # the backend has not told its end; a retry has another id
            self._take(end(unit))

    def _spec(self, unit: Unit) -> StepSpec:
        live = bool(unit.step.streams) and self._backends.can[unit.step.placed].streams
        return self._specifier.spec(unit, self.frontier.groups, live)

    def _next_item(self, attempt_id: str, parameter: str, n: int) -> str | None:
        """A live stream's n-th mapping key; runs local instances meanwhile, as their consumer has their place."""
        if threading.get_ident() != self._thread:
            return self._next_item_elsewhere(attempt_id, parameter, n)
        while True:
            self._interrupts.shield()
            try:
                with self._lock:
                    state = self.frontier.item(attempt_id, parameter, n)
                    if state.known:
                        return state.item(parameter)
                    feeders = self.frontier.feeders(attempt_id, parameter)
                    lent = self._local.of(feeders) or self.frontier.lend(attempt_id, feeders)
                    if lent is not None:
                        self._local.first(lent)  # should Ctrl-C come now, it is not lost
                    else:
                        self._hungry.append(self._local.incoming)
                if lent is None:
                    self._wait_for_item(parameter)
            finally:
                self._interrupts.unshield()
            if lent is not None and self._local.next() is lent:
                self._run_local(lent)

    def _wait_for_item(self, parameter: str) -> None:
        if self._pump is None and self.frontier.next_due is None:
            raise RiversError(f"the stream {parameter!r} waits for an instance that nothing runs", run_id=self.run_id)
        if not self._local.wait(self._patience()):
            self._tick()
        self._heed()

    def _next_item_elsewhere(self, attempt_id: str, parameter: str, n: int) -> str | None:
        """The same for a consumer in a thread of its backend."""
        changed: SimpleQueue[Unit | None] = SimpleQueue()
        while True:
            with self._lock:
                state = self.frontier.item(attempt_id, parameter, n)
                if state.known:
                    return state.item(parameter)
                self._hungry.append(changed)
            changed.get()  # ends: the instances do, and so does the run

    # ── the pump ──

    def _pumped(self, event: StepEvent | None) -> None:
        if event is not None:
            self._take(event)
        self._tick()
        if self.frontier.over:
            self._local.wake()

    def _wake(self) -> None:
        """Let both threads look again; callable from a signal handler."""
        self._local.wake()
        if self._pump is not None:
            self._pump.wake()

    # ── what happened, and what is owed for it ──

    def _taken(self) -> None:
        """An event came straight from a backend: the calling thread may have waited for it."""
        if self.frontier.over or (self._pump is not None and self._pump.bug is not None):
            self._local.wake()

    def _take(self, event: StepEvent) -> None:
        if type(event) is StepResult:
            result: StepResult = event
            if result.ending is not Ending.SUCCEEDED:
                result = self._recover(result)
            with self._lock:
                unit = self.frontier.running.get(result.attempt_id)
                if not self.frontier.cancelling and raised_interrupt(unit, result):
                    self._interrupts.note()
                if self._interrupts.pending:  # so that what depends on it counts as cancelled, too
                    self._apply(self.frontier.cancel(time.monotonic(), time.time()))
                self._apply(self.frontier.ended(result, time.monotonic(), time.time()))
        elif type(event) is StepStarted:
            with self._lock:
                self._apply(self.frontier.started(event.attempt_id, event.worker, time.monotonic(), time.time()))
        elif isinstance(event, LogRecord):
            with self._lock:
                unit = self.frontier.running.get(event.attempt_id)
                if unit is None:
                    self._audience.warn(event.message)
                else:
                    self._audience.log(event, unit.key, unit.charged + 1)

    def _recover(self, result: StepResult) -> StepResult:
        """What is committed is successful, whatever became of its worker afterwards."""
        with self._lock:
            unit = self.frontier.running.get(result.attempt_id)
        if unit is None or of_the_first_body(unit, result):
            return result
        return recover_result(self.run_id, unit, result, self._audience) or result

    def _tick(self) -> None:
        silent: list[StepResult] = []
        with self._lock:
            due = self.frontier.next_due
            now = time.monotonic()
            if due is not None and due <= now:
                owed = self.frontier.due(now, time.time())
                silent = owed.silent
                self._apply(owed)
        for result in silent:
            self._take(result)

    def _apply(self, owed: Owed) -> None:
        self._intake.applying = True
        for event in owed.events:
            self._audience.emit(event)
        for attempt_id, grace in owed.stops:
            unit = self.frontier.running.get(attempt_id)
            if unit is not None:
                self._backends.stop(unit, grace)
        for unit in owed.starts:
            if self._backends.can[unit.step.placed].blocking:
                self._local.put(unit)
            else:
                self._submit(unit)
        if self._pump is not None and self.frontier.next_due is not None and self.frontier.next_due < self._waits_until:
            self._pump.wake()
        for queue in self._hungry:
            queue.put(None)
        self._hungry.clear()
        self._intake.applying = False

    def _submit(self, unit: Unit) -> None:
        """Hand an attempt to a backend that does not block; what that raises is the attempt's end."""
        try:
            self._backends[unit.step.placed].submit(self._spec(unit))
        except Exception as error:  # noqa: BLE001 - a backend by strangers may raise anything, and no attempt is lost for it
            assert self._pump is not None
            self._pump.put(refused(unit, error))

    # ── begin and end ──

    def _open(self, placed: int, backend: ExecutorBackend) -> None:
        self._interrupts.enter_body()  # it may take long, and Ctrl-C ends it
        try:
            backend.open(self._run_for(), self._intake.emit_for(self._backends.can[placed]))
        finally:
            self._interrupts.leave_body()

    def _begin(self) -> None:
        with self._lock:
            self._begun = True
            self._audience.emit(
                RunStarted(run_id=self.run_id, time=time.time(), job=self._job, steps=len(self.plan), tags=self._tags)
            )
            for shortfall in shortfalls(self.plan, self._backends.can):
                self._audience.warn(shortfall)
            change = self.frontier.cancel if self._cancelled_early else self.frontier.begin
            self._apply(change(time.monotonic(), time.time()))

    def _run_for(self) -> Run:
        return Run(
            run_id=self.run_id,
            local=self._refs.local,
            next_item=self._next_item,
            keep_error=self._keep_error,
            grace=self._grace,
            key=self._key,
            folders=self._folders,
        )

    def _keep_error(self, attempt_id: str, error: BaseException) -> None:
        unit = self.frontier.running.get(attempt_id)
        if unit is not None:
            self.errors[unit.key] = error

    def _finish(self) -> None:
        end_run_in_stores(self.run_id, self.plan, self._audience)
        with self._lock:
            ended = {report.state.value for report in self.frontier.reports.values()}
            if self.frontier.over and ended <= {"succeeded"}:
                self.status = "success"
            else:
                self.status = "cancelled" if self.frontier.cancelling or self._interrupts.pending else "failure"
            if self._begun:
                self._audience.emit(RunFinished(run_id=self.run_id, time=time.time(), status=self.status))
