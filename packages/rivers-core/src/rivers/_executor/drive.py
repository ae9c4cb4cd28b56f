"""The run loop: carries out what the frontier owes, and tells it what happened.

    calling thread                     pump thread (only with backends that do not block)
    ──────────────                     ─────────────────────────────────────────────────
    local queue ◀── starts ──┐         inbox ◀── events of those backends, from any thread
        │                    │           │
    backend.submit(spec)     │           ▼
        │ sink               │        frontier ──▶ starts ──▶ backend.submit(spec)   (does not block)
        ▼                    │           │
     frontier ──▶ Owed ──────┘           └──────▶ events ──▶ sinks

One lock guards the frontier. A body runs outside of it; sinks are called inside, so that all see one order.
"""

from __future__ import annotations

import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Literal, TypeAlias

from rivers._events.event import Event, RunFinished, RunStarted, RunWarning, StepLog
from rivers._events.sink import EventSink
from rivers._executor.backend import Capabilities, ExecutorBackend, Run
from rivers._executor.interrupts import Interrupts
from rivers._executor.recovery import recovered
from rivers._plan.frontier import Frontier
from rivers._plan.plan import Plan
from rivers._plan.refs import Refs
from rivers._plan.specify import Specifier
from rivers._plan.unit import Owed, Place, Unit
from rivers.exceptions import GraphValidationError, Problem, RiversError, StepCancelledError
from rivers.protocol.failure import Failure, FailureReason
from rivers.protocol.result import Ending, LogRecord, StepEvent, StepResult, StepStarted
from rivers.protocol.spec import LogSettings

__all__ = ["RunLoop", "Status"]

Status: TypeAlias = Literal["running", "success", "failure", "cancelled"]
CLOSE_DEADLINE = 20.0
"""Seconds that a backend gets to leave nothing behind."""
_STOP = object()
_WAKE = object()


class RunLoop:
    """One run of a plan; `run` returns when it is over, `cancel` ends it early from any thread.

    `backends` carry out `plan.executors`, in the same order. `grace` is how many seconds a cancelled body gets.
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
    ) -> None:
        self.plan = plan
        self.run_id = run_id
        self.status: Status = "running"
        self.errors: dict[str, BaseException] = {}
        self._backends = backends
        self._can = [backend.capabilities for backend in backends]
        self._sinks = list(sinks)
        self._job = job
        self._tags = tags or {}
        self._grace = grace
        self._key = key
        self._lock = threading.RLock()
        self._local: SimpleQueue[Unit | None] = SimpleQueue()
        self._aside: deque[Unit] = deque()
        self._inbox: SimpleQueue[Any] = SimpleQueue()
        self._pump: threading.Thread | None = None
        self._interrupts = Interrupts(self._wake)
        places = [
            Place(executor.kind, can.max_sync, can.max_async, can.blocking, can.streams)
            for executor, can in zip(plan.executors, self._can, strict=True)
        ]
        self.frontier = Frontier(plan, run_id, places, random=random, observed=bool(sinks), grace=grace)
        in_plan = {node.index for step in plan.steps for node in (step.inner or (step.node,))}
        self._refs = Refs(key)
        self._specifier = Specifier(
            run_id,
            self._refs,
            {index: can.closures for index, can in enumerate(self._can)},
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
        self._preflight()
        opened: list[ExecutorBackend] = []
        try:
            for index, backend in enumerate(self._backends):
                backend.open(self._run_for(), self._sink_for(self._can[index]))
                opened.append(backend)
            with self._interrupts:
                self._tell(
                    RunStarted(
                        run_id=self.run_id, time=time.time(), job=self._job, steps=len(self.plan), tags=self._tags
                    )
                )
                self._start_pump()
                self._apply(self.frontier.begin(time.monotonic(), time.time()))
                self._work()
        finally:
            self._stop_pump()
            for backend in opened:
                self._close(backend)
            self._finish()
        self._interrupts.raise_if_any()

    def cancel(self) -> None:
        """End the run: nothing more is started, what runs is asked to stop. Returns at once; safe from any thread."""
        with self._lock:
            self._apply(self.frontier.cancel(time.monotonic(), time.time()))
        self._wake()

    # ── the calling thread ──

    def _work(self) -> None:
        """Run local steps until the run is over; wait for them, for time and for the pump in between."""
        frontier = self.frontier
        while not frontier.over:
            if self._interrupts.pending:
                self.cancel()
            unit = self._next_local()
            if unit is not None:
                self._run_local(unit)

    def _next_local(self) -> Unit | None:
        if self._aside:
            return self._aside.popleft()
        try:
            return self._local.get_nowait()
        except Empty:
            pass  # nothing is ready; wait for it below
        if self.frontier.over:
            return None
        if self._pump is None and self.frontier.next_due is not None:
            self._tick()
        try:
            return self._local.get(timeout=self._patience())
        except Empty:
            self._tick()
            return None

    def _patience(self) -> float | None:
        """Seconds until there is something to do by the clock; None when only an event can bring it."""
        due = self.frontier.next_due
        return None if due is None else max(0.0, due - time.monotonic())

    def _run_local(self, unit: Unit) -> None:
        if self.frontier.running.get(unit.attempt_id) is not unit:
            return
        step = unit.step
        try:
            spec = self._specifier.spec(
                unit, self.frontier.groups, bool(step.streams) and self._can[step.placed].streams
            )
        except RiversError as error:
            self._take(_refused(unit, error))
            return
        try:
            self._interrupts.enter_body()
            self._backends[step.placed].submit(spec)
        except KeyboardInterrupt:
            self._interrupts.note()
            if self.frontier.running.get(unit.attempt_id) is unit:  # it came before the backend could tell
                self._take(StepResult(attempt_id=unit.attempt_id, ending=Ending.CANCELLED))
        finally:
            self._interrupts.leave_body()

    def _next_item(self, attempt_id: str, parameter: str, n: int) -> str | None:
        """A live stream's n-th mapping key; runs local instances meanwhile, as their consumer has their place."""
        while True:
            with self._lock:
                state = self.frontier.item(attempt_id, parameter, n)
                if state.key is not None or state.ended:
                    return state.key
                if state.broken is not None:
                    raise StepCancelledError(f"the stream {parameter!r} ended early: {state.broken} did not succeed")
                self._interrupts.shield()
                unit = self.frontier.lend(attempt_id, parameter)
            self._interrupts.unshield()
            if unit is not None:
                self._run_local(unit)
                continue
            if self._pump is None and self.frontier.next_due is None:
                raise RiversError(
                    f"the stream {parameter!r} waits for an instance that nothing runs", run_id=self.run_id
                )
            try:
                other = self._local.get(timeout=self._patience())
                if other is not None:
                    self._aside.append(other)
            except Empty:
                self._tick()
            if self._interrupts.pending:
                self.cancel()

    # ── the pump ──

    def _start_pump(self) -> None:
        if not all(can.blocking for can in self._can):
            self._pump = threading.Thread(target=self._pump_events, name=f"rivers-run-{self.run_id[:8]}", daemon=True)
            self._pump.start()

    def _stop_pump(self) -> None:
        if self._pump is not None:
            self._inbox.put(_STOP)
            self._pump.join(CLOSE_DEADLINE)
            self._pump = None

    def _pump_events(self) -> None:
        while True:
            try:
                event = self._inbox.get(timeout=self._patience())
            except Empty:
                event = _WAKE
            if event is _STOP:
                return
            if event is not _WAKE:
                self._take(event)
            self._tick()
            if self.frontier.over:
                self._local.put(None)

    def _wake(self) -> None:
        """Let both threads look again; callable from a signal handler, as SimpleQueue.put is reentrant."""
        self._local.put(None)
        self._inbox.put(_WAKE)

    # ── what happened, and what is owed for it ──

    def _sink_for(self, can: Capabilities) -> Callable[[StepEvent], None]:
        return self._take_here if can.blocking else self._inbox.put

    def _take_here(self, event: StepEvent) -> None:
        self._interrupts.shield()
        try:
            self._take(event)
        finally:
            self._interrupts.unshield()

    def _take(self, event: StepEvent) -> None:
        if type(event) is StepResult:
            result: StepResult = event
            if result.ending is not Ending.SUCCEEDED:
                result = self._recovered(result)
            with self._lock:
                self._apply(self.frontier.ended(result, time.monotonic(), time.time()))
        elif type(event) is StepStarted:
            if self._sinks or self._pump is not None:
                with self._lock:
                    self._apply(self.frontier.started(event.attempt_id, event.worker, time.monotonic(), time.time()))
        elif isinstance(event, LogRecord):
            with self._lock:
                self._log(event)

    def _recovered(self, result: StepResult) -> StepResult:
        """What is committed is successful, whatever became of its worker afterwards."""
        with self._lock:
            unit = self.frontier.running.get(result.attempt_id)
        if unit is None:
            return result
        try:
            return recovered(self.run_id, unit, result) or result
        except Exception as error:  # noqa: BLE001 - a store that cannot be asked leaves the attempt failed, as it was reported
            self._warn(f"could not ask whether {unit.key!r} was committed: {type(error).__name__}: {error}", unit.key)
            return result

    def _tick(self) -> None:
        with self._lock:
            due = self.frontier.next_due
            now = time.monotonic()
            if due is not None and due <= now:
                self._apply(self.frontier.due(now, time.time()))

    def _apply(self, owed: Owed) -> None:
        for event in owed.events:
            self._tell(event)
        for attempt_id, grace in owed.stops:
            unit = self.frontier.running.get(attempt_id)
            if unit is not None:
                self._backends[unit.step.placed].cancel(attempt_id, grace)
        for unit in owed.starts:
            if self._can[unit.step.placed].blocking:
                self._local.put(unit)
            else:
                self._submit(unit)
        if self._pump is not None and self.frontier.next_due is not None:
            self._inbox.put(_WAKE)

    def _submit(self, unit: Unit) -> None:
        """Hand an attempt to a backend that does not block; what that raises is the attempt's end."""
        try:
            live = bool(unit.step.streams) and self._can[unit.step.placed].streams
            self._backends[unit.step.placed].submit(self._specifier.spec(unit, self.frontier.groups, live))
        except Exception as error:  # noqa: BLE001 - a backend by strangers may raise anything, and no attempt is lost for it
            self._inbox.put(_refused(unit, error))

    # ── telling ──

    def _log(self, record: LogRecord) -> None:
        unit = self.frontier.running.get(record.attempt_id)
        if unit is None:
            self._warn(record.message)
            return
        self._tell(
            StepLog(
                run_id=self.run_id,
                time=record.time or time.time(),
                step=unit.key,
                attempt=unit.charged + 1,
                message=record.message,
                level=record.level,
                logger=record.logger,
                stream=record.stream,
            )
        )

    def _warn(self, message: str, step: str | None = None) -> None:
        self._tell(RunWarning(run_id=self.run_id, time=time.time(), message=message, step=step))

    def _tell(self, event: Event) -> None:
        for sink in tuple(self._sinks):
            try:
                sink(event)
            except Exception as error:  # noqa: BLE001 - a sink is the user's code, and a run does not fail for it
                self._sinks.remove(sink)
                warnings.warn(
                    f"the event sink {sink!r} raised {type(error).__name__}: {error}; the run goes on without it",
                    RuntimeWarning,
                    stacklevel=2,
                )

    # ── begin and end ──

    def _run_for(self) -> Run:
        return Run(
            run_id=self.run_id,
            local=self._refs.local,
            next_item=self._next_item,
            keep_error=self.errors.__setitem__,
            grace=self._grace,
            key=self._key,
        )

    def _preflight(self) -> None:
        """Ask the backends that share nothing with this process what would fail, with the specs they would get."""
        problems: list[Problem] = []
        for index, backend in enumerate(self._backends):
            if self._can[index].blocking:
                continue
            specs = []
            for step in self.plan.steps:
                if step.placed == index:
                    try:
                        specs.append(self._specifier.spec(Unit(step, step.key, None, 0.0), {}, False))
                    except RiversError as error:
                        hint = f" ({error.hint})" if error.hint else ""
                        problems.append(Problem(error.message + hint, step.key, step.node.definition.where))
            problems.extend(backend.preflight(specs))
        if problems:
            raise GraphValidationError(problems)

    def _close(self, backend: ExecutorBackend) -> None:
        try:
            backend.close(CLOSE_DEADLINE)
        except Exception as error:  # noqa: BLE001 - the others are closed all the same
            self._warn(f"closing the executor {backend.executor!r} raised {type(error).__name__}: {error}")

    def _finish(self) -> None:
        handlers = {id(o.io_handler): o.io_handler for step in self.plan.steps for o in step.node.outputs}
        for handler in handlers.values():
            try:
                handler.end_run(self.run_id)
            except Exception as error:  # noqa: BLE001 - the run is over; what is left is swept by a later one
                self._warn(f"{type(handler).__name__}.end_run raised {type(error).__name__}: {error}")
        states = {report.state.value for report in self.frontier.reports.values()}
        if self.frontier.cancelling or not self.frontier.over:
            self.status = "cancelled"
        else:
            self.status = "failure" if states - {"succeeded"} else "success"
        self._tell(RunFinished(run_id=self.run_id, time=time.time(), status=self.status))


def _refused(unit: Unit, error: Exception) -> StepResult:
    """The end of an attempt that could not even be handed over."""
    hint = getattr(error, "hint", None)
    failure = Failure(
        reason=FailureReason.INFRASTRUCTURE,
        type=f"{type(error).__module__}.{type(error).__qualname__}",
        message=str(getattr(error, "message", error)) + (f" ({hint})" if hint else ""),
        transient=not isinstance(error, RiversError),
    )
    return StepResult(attempt_id=unit.attempt_id, ending=Ending.FAILED, failure=failure)
