"""The run loop: carry out a plan with backends, and report how it ended.

    calling thread                     pump thread (only with backends that do not block)
    ──────────────                     ─────────────────────────────────────────────────
    local queue ◀── starts ──┐         inbox ◀── events of those backends, from any thread
        │                    │           │
    backend.submit(spec)     │           ▼
        │ emit               │        frontier ──▶ starts ──▶ backend.submit(spec)   (does not block)
        ▼                    │           │
     frontier ──▶ Effects ──────┘           └──────▶ events ──▶ sinks

One lock guards the frontier (`RunState`). A body runs outside of it; sinks are called inside, so that all of them
see one order.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, TypeAlias

from rivers._events.dispatcher import EventDispatcher
from rivers._events.event import RunEnding, RunFinished, RunStarted
from rivers._executor.backend import ExecutorBackend, Run
from rivers._executor.backends import Backends
from rivers._executor.live_streams import LiveStreams
from rivers._executor.missing_results import cancelled_result, no_result, refused_result
from rivers._executor.recovery import end_run_in_stores, suspend_run_in_stores
from rivers._executor.run_options import RunOptions
from rivers._executor.run_state import RunState
from rivers._executor.shortfalls import find_shortfalls
from rivers._plan.plan import Plan
from rivers._plan.refs import Refs
from rivers._plan.specify import Specifier
from rivers._plan.unit import Unit
from rivers._runner.capture.log_levels import log_settings
from rivers.exceptions import ResumeError, RiversError
from rivers.protocol.exception_text import describe_exception
from rivers.protocol.result import StepResult

__all__ = ["RunLoop", "Status"]

Status: TypeAlias = Literal["running", "success", "failure", "cancelled"]


class RunLoop:
    """One run of a plan: `run` returns when it is over, `cancel` ends it early from any thread.

    `backends` carry out `plan.executors`, in the same order; in the end `release` is called with them. `errors` are the
    live exceptions of bodies that ran in this process, by step.
    """

    def __init__(
        self,
        plan: Plan,
        backends: Sequence[ExecutorBackend],
        options: RunOptions,
        release: Callable[[Sequence[ExecutorBackend]], None] = lambda backends: None,
    ) -> None:
        self.plan = plan
        self.run_id = options.run_id
        self.status: Status = "running"
        self.errors: dict[str, BaseException] = {}
        self._options = options
        self._release = release
        self._refs = Refs(options.key)
        self._dispatcher = EventDispatcher(options.run_id, options.sinks, options.journal)
        self._is_recorded = options.journal is not None
        self._backends = Backends(plan, backends, self._dispatcher)
        self._specifier = _specifier(plan, self._backends, self._refs, options)
        self._state = RunState(plan, self._backends, self._specifier, options, self._dispatcher)
        self._streams = LiveStreams(self._state, self._run_local, self._check_interrupts)
        self._interrupts = self._state.interrupts
        self.frontier = self._state.frontier
        if options.hooks is not None:
            options.hooks.begin(self._warn, self.errors)

    @property
    def reused(self) -> set[str]:
        """The keys of units whose values another run has made."""
        own = f"{self.run_id}-"
        known = self._options.restored.items()
        return {key for key, unit in known if unit.attempt_id is not None and not unit.attempt_id.startswith(own)}

    def run(self) -> None:
        """Run until every step has ended and every backend is closed.

        Raises:
            GraphValidationError: preflight found problems; nothing was started.
            KeyboardInterrupt: Ctrl-C, after everything was cancelled and reported.
        """
        try:
            self._preflight()
            with self._interrupts:
                self._run_all()
        finally:
            if self._state.pump is not None:
                self._state.pump.stop()
            self._backends.abandon()
            self._release(self._backends.all)
        self._dispatcher.warn_of_broken_sinks()
        self._interrupts.raise_if_any()

    def cancel(self) -> None:
        """Start nothing more and ask what runs to stop; returns at once, from any thread."""
        self._state.cancel()
        try:
            self._backends.cancel_preflight()
        except Exception as error:  # noqa: BLE001 - a third party's backend may raise anything
            self._warn(f"cancelling preflight raised {describe_exception(error)}", "")

    def _preflight(self) -> None:
        """Ask the backends what would fail; what they report meanwhile is emitted before RunStarted."""
        pump = self._state.pump
        if pump is None:
            self._backends.preflight(self._specifier, self._state.handle)
            return
        pump.start()
        self._backends.preflight(self._specifier, pump.put)
        pump.flush()

    def _run_all(self) -> None:
        state = self._state
        try:
            if self._options.private is not None:
                self._options.private.make(self._options.key)
            self._backends.open(self._open)
            self._compare()
            self._streams.begin()
            self._begin()
            self._work()
        except KeyboardInterrupt:
            self._interrupts.note()
        finally:
            # Backends report while they close; the pump handles that before RunFinished, the last event of a run.
            self._backends.close()
            if state.pump is not None:
                state.pump.stop()
            self._finish_hooks()
            self._finish()
            # One that never began has changed nothing: a later controller may still adopt what runs.
            if self._options.private is not None and state.begun:
                self._options.private.remove()

    # ── the steps of blocking backends, in the calling thread ──

    def _work(self) -> None:
        """Run local steps until the run is over; in between wait for them, for the clock and for the pump."""
        frontier, state = self.frontier, self._state
        while not frontier.over:
            # The first test spares runs without a pump a call per step.
            if self._interrupts.pending or state.pump is not None:
                self._check_interrupts()
            unit = state.local.pop()
            if unit is not None:
                self._run_local(unit)
            elif not frontier.over:
                if state.pump is None:
                    state.tick()
                if not state.local.wait(state.seconds_to_wait()):
                    state.tick()

    def _check_interrupts(self) -> None:
        """Cancel the run after Ctrl-C; raise what the pump's thread has raised, which is a bug."""
        if self._state.pump is not None and self._state.pump.bug is not None:
            raise self._state.pump.bug
        if self._interrupts.pending:
            self.cancel()

    def _run_local(self, unit: Unit) -> None:
        state, attempt_id = self._state, unit.attempt_id
        if self.frontier.running.get(attempt_id) is not unit:
            return
        # It was given a slot, but has not begun.
        if self.frontier.cancelling:
            state.handle(cancelled_result(unit))
            return
        try:
            spec = state.spec_of(unit)
        except RiversError as error:
            state.handle(refused_result(unit, error))
            return
        end: Callable[[Unit], StepResult] = cancelled_result
        try:
            # Inside the `try`: Ctrl-C may come between any two instructions from here on.
            self._interrupts.enter_body()
            self._backends[unit.step.executor_index].submit(spec)
            end = no_result
        except KeyboardInterrupt:
            self._interrupts.note()
        except Exception as error:  # noqa: BLE001 - a third party's backend may raise anything, and no attempt is lost for it
            end = partial(refused_result, error=error)
        finally:
            self._interrupts.leave_body()
        # Still running: the backend has reported no result. A retry of the unit would have another attempt id.
        if self.frontier.running.get(attempt_id) is unit:
            state.handle(end(unit))

    # ── begin and end ──

    def _open(self, placed: int, backend: ExecutorBackend) -> None:
        options = self._options
        run = Run(
            run_id=self.run_id,
            local=self._refs.local,
            next_item=self._streams.next_item,
            keep_error=self._keep_error,
            grace=options.grace,
            key=options.key,
            folders=options.folders,
            epoch=options.epoch,
            folder=options.private.path if options.private is not None else None,
            open_attempts=self._state.open_attempts,
        )
        # Opening may take long (it connects, it starts processes), so Ctrl-C interrupts it as it does a body.
        self._interrupts.enter_body()
        try:
            backend.open(run, self._state.router.emit_for(self._backends.can[placed]))
        finally:
            self._interrupts.leave_body()

    def _compare(self) -> None:
        """Read what is stored, so that units end as unchanged that need not run."""
        if self._options.make_reuse is None:
            return
        # A bucket may take long, so Ctrl-C interrupts it as it does a body.
        self._interrupts.enter_body()
        try:
            self.frontier.compare(self._options.make_reuse(lambda message: self._warn(message, "")))
        finally:
            self._interrupts.leave_body()

    def _begin(self) -> None:
        options, steps = self._options, len(self.plan)
        with self._state.lock:
            self._dispatcher.emit(
                RunStarted(
                    run_id=self.run_id,
                    time=time.time(),
                    job=options.job,
                    steps=steps,
                    tags=options.tags or {},
                    epoch=options.epoch,
                    partition=self.plan.partition,
                )
            )
            # Attempt ids would be given again if a later controller did not find this epoch in the record.
            if options.epoch and not self._dispatcher.has_journal:
                raise ResumeError("the record of the run cannot be written", run_id=self.run_id)
            self._is_recorded = self._dispatcher.has_journal
            for step, note in options.notes.items():
                self._dispatcher.warn(note, step or None)
            for shortfall in find_shortfalls(self.plan, self._backends.can):
                self._dispatcher.warn(shortfall)
            self._state.begin()

    def _keep_error(self, attempt_id: str, error: BaseException) -> None:
        unit = self.frontier.running.get(attempt_id)
        if unit is not None:
            self.errors[unit.key] = error

    def _warn(self, message: str, step: str) -> None:
        with self._state.lock:
            self._dispatcher.warn(message, step or None)

    def _finish_hooks(self) -> None:
        """Wait for the hooks, whose warnings come before RunFinished, the last event of a run."""
        if self._options.hooks is None:
            return
        try:
            # Ctrl-C ends the wait.
            self._interrupts.enter_body()
            self._options.hooks.finish()
        except KeyboardInterrupt:
            self._interrupts.note()
        finally:
            self._interrupts.leave_body()

    def _finish(self) -> None:
        with self._state.lock:
            ended = {report.state.value for report in self.frontier.reports.values()}
            if self.frontier.over and ended <= {"succeeded", "unchanged"}:
                status: Status = "success"
            else:
                status = "cancelled" if self.frontier.cancelling or self._interrupts.pending else "failure"
        self._leave_stores(status)
        with self._state.lock:
            self.status = status
            if self._state.begun:
                self._dispatcher.emit(RunFinished(run_id=self.run_id, time=time.time(), status=status))

    def _leave_stores(self, status: Status) -> None:
        """End the run in its stores, or keep what it has committed there if a later process may resume it."""
        # A record that broke in the middle would not say that the run has ended, and who resumes it would run it again.
        is_open = status != "success" or not self._dispatcher.has_journal
        # An attempt that may still run must not commit once the run has reported that it did not.
        if self._is_recorded and is_open and not self._state.has_given_up:
            suspend_run_in_stores(self.run_id, self.plan, self._dispatcher)
            return
        if self._is_recorded and self._state.begun:
            with self._state.lock:
                self._dispatcher.note(RunEnding(run_id=self.run_id, time=time.time(), status=status))
        end_run_in_stores(self.run_id, self.plan, self._dispatcher)


def _specifier(plan: Plan, backends: Backends, refs: Refs, options: RunOptions) -> Specifier:
    in_plan = {node.index for step in plan.steps for node in (step.inner or (step.node,))}
    return Specifier(
        options.run_id,
        refs,
        backends.closures,
        configs=options.configs,
        tags=options.tags,
        logs=log_settings(bool(options.sinks)),
        in_run=in_plan.__contains__,
        epoch=options.epoch,
    )
