"""Run one StepSpec in this thread.

    StepSpec ──▶ resolve ──▶ load ──▶ call ──▶ check ──▶ store ──▶ StepResult
                 refs        inputs   body     hints     all or nothing

It knows neither plan nor repository. The same code runs in a pod, in a worker process and in this thread.
"""

from __future__ import annotations

import contextvars
import os
import threading
import time
import types
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from rivers._definitions.bash import run_bash
from rivers._runner.attempt import (
    RunningAttempt,
    StepInterrupted,
    call_body,
    failed_result,
    make_context,
    succeeded_result,
    take_positional,
)
from rivers._runner.callee import Callee
from rivers._runner.capture.log_levels import AppliedLevels
from rivers._runner.capture.step_output import StepOutput, outside
from rivers._runner.capture.streams import Capture
from rivers._runner.event_loop.loop import BodyLoop, OverdueError, StoppedError, collect_items
from rivers._runner.inner import run_inner
from rivers._runner.inputs import Inputs
from rivers._runner.iterators import list_iterators
from rivers._runner.outputs import check_outputs, store
from rivers._runner.process_snapshot import ProcessSnapshot
from rivers._runner.refs import Resolver
from rivers._runner.resources import Resources
from rivers._runner.results import warning_record
from rivers._runner.step_context import StepContexts
from rivers._telemetry.worker import enter_trace, export_spans, prepare_export
from rivers.exceptions import ExecutionError
from rivers.protocol.ref import Ref
from rivers.protocol.result import OutputRecord, StepEvent, StepResult, StepStarted
from rivers.protocol.spec import NodeKind, StepSpec
from rivers_process.exit import end_forked_child

__all__ = ["Runner"]


class Runner:
    """A runner for specs, one after another in this thread.

    It calls `emit` with StepStarted and with log records. `local` and `next_item` belong to the run (see `spi.Run`).
    `keep_error` receives the exception of a failed attempt, for a controller in the same process. `pickle_key` is the
    key of the run if pickled functions are allowed, and `allowed` limits the modules that refs may import. A cancelled
    async body has `grace` seconds to end.

    With `guard`, which needs the main thread, changes that a body makes to the process are restored after it. With
    `owns_process`, for a process that runs nothing else, output of native code and child processes on fd 1 and 2
    belongs to the running attempt; a thread of its own reads it.
    """

    def __init__(
        self,
        emit: Callable[[StepEvent], None],
        *,
        local: Mapping[str, Any] | None = None,
        next_item: Callable[[str, str, int], str | None] | None = None,
        keep_error: Callable[[str, BaseException], None] | None = None,
        worker: str | None = None,
        grace: float = 10.0,
        allowed: tuple[str, ...] = (),
        pickle_key: bytes = b"",
        guard: bool = False,
        owns_process: bool = False,
    ) -> None:
        self._emit = outside(emit)
        self._keep_error = keep_error
        self._grace = grace
        self._pid = os.getpid()
        self.worker = worker or f"pid {self._pid}"
        self._resolver = Resolver(local, allowed=allowed, pickle_key=pickle_key)
        self._resources = Resources(self._resolver)
        # Every attempt starts from the context variables of now, even one that runs while another reads its stream.
        self._contexts = StepContexts()
        self._inputs = Inputs(self._resolver, self._resources, self._in_run_context(next_item) if next_item else None)
        self._callees: dict[Ref, Callee] = {}
        self._loop: BodyLoop | None = None
        self._capturing = False
        self._levels = AppliedLevels()
        self._owns_process = owns_process
        self._stopped: set[str] = set()
        self._running: set[str] = set()
        self._current: RunningAttempt | None = None
        self._processes: dict[str, Callable[[], None]] = {}
        self._before = ProcessSnapshot() if guard else None
        self._last: ProcessSnapshot | None = None
        self._setups = 0

    def run_step(self, spec: StepSpec) -> StepResult:
        """Run one attempt to its end and return its result, also if its body raises.

        Raises:
            KeyboardInterrupt: the body raised it, and no `stop` caused it.
        """
        attempt = RunningAttempt(spec)
        outer, self._current = self._current, attempt
        self._emit_whole(StepStarted(attempt_id=spec.attempt_id, worker=self.worker, time=time.time()))
        self._running.add(spec.attempt_id)
        output = self._open_output(spec)
        scope = self._contexts.new()
        if output is not None:
            scope.run(Capture.begin, output)
        if spec.trace_context is not None:
            scope.run(enter_trace, spec.trace_context)
        try:
            return succeeded_result(attempt, scope.run(self._run, attempt), self.worker)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and not attempt.interrupted:
                raise
            return failed_result(attempt, error, self.worker, self._keep_error)
        finally:
            self._running.discard(spec.attempt_id)
            self._current = outer
            if spec.trace_context is not None and self._owns_process:
                export_spans()
            if output is not None:
                Capture.end(output)

    def look_up(self, ref: Ref) -> object:
        """Resolve a ref as an attempt would, without running anything, to check that this worker has the code.

        Raises:
            RefResolutionError: it cannot be resolved here.
        """
        return self._resolver.resolve(ref)

    def check(self, spec: StepSpec) -> None:
        """Check a spec's commands and constants as an attempt would, without running anything.

        Raises:
            RefResolutionError: this worker is limited to some modules, and none of their definitions has them.
        """
        self._resolver.check(spec)

    def stop(self, attempt_id: str, *, interrupt: bool = True) -> None:
        """Ask an attempt to stop, from any thread; nothing is stored unless it has begun to store.

        An async body is cancelled and a command is killed. A sync body runs until it returns. Called in the thread that
        runs the body, as by a signal handler in a worker's main thread, this raises KeyboardInterrupt once, while
        inputs are loaded or the body runs (also an async one that does not await). `run_step` then returns a cancelled
        result that names the position.

        With `interrupt=False` it never raises, for backends that run steps in the calling thread: there core may call
        it in the middle of its own work.
        """
        self._stopped.add(attempt_id)
        kill = self._processes.get(attempt_id)
        if kill is not None:
            kill()
        if self._loop is not None and attempt_id in self._running:
            self._loop.stop()
        current = self._current
        if (
            interrupt
            and current is not None
            and current.spec.attempt_id == attempt_id
            and current.thread == threading.get_ident()
        ):
            self._interrupt(current)

    def close(self) -> list[str]:
        """Tear down resources, the loop and the capture; return the problems, one line each."""
        problems = self._resources.close()
        if self._loop is not None:
            problems += self._loop.close()
            self._loop = None
        if self._capturing:
            self._capturing = False
            Capture.remove()
        self._levels.undo()
        if self._before is not None:
            problems += [f"after the run: {change}" for change in self._before.restore()]
        return problems

    def _emit_whole(self, event: StepEvent) -> None:
        """Emit an event without interruption; an interrupt that arrives meanwhile is raised afterwards."""
        attempt = self._current
        if attempt is None or attempt.thread != threading.get_ident():
            self._emit(event)
            return
        attempt.emitting = True
        try:
            self._emit(event)
        finally:
            attempt.emitting = False
        if attempt.interrupt_due:
            self._interrupt(attempt)

    def _interrupt(self, attempt: RunningAttempt) -> None:
        """Raise StepInterrupted in the inputs or the body of an attempt of this thread, and nowhere else."""
        attempt.interrupt_due = attempt.emitting
        if attempt.emitting or attempt.interrupted:
            return
        if attempt.interruptible or (self._loop is not None and self._loop.is_in_body()):
            attempt.interrupted = True
            raise StepInterrupted

    def _run(self, attempt: RunningAttempt) -> tuple[OutputRecord, ...]:
        spec = attempt.spec
        attempt.interruptible = True
        try:
            self._check_stopped(spec)
            self._resolver.check(spec)
            callee = self._callee(spec)
            arguments, streams = self._inputs.load(spec, callee.hints if callee is not None else {})
            context = make_context(spec, callee, arguments)
            # An import for this step may have changed them.
            self._apply_levels(spec)
            if spec.trace_context is not None and self._owns_process:
                prepare_export()
            attempt.loaded = time.perf_counter()
            value = self._call_guarded(attempt, callee, arguments)
        finally:
            attempt.interruptible = False
        attempt.check_stored(spec.attempt_id in self._stopped, streams)
        outputs = check_outputs(spec, callee, value)
        extra, version = (context.output_metadata, context.data_version) if context is not None else (None, None)
        return store(spec, callee, outputs, self._resolver, extra, version)

    def _call_guarded(self, attempt: RunningAttempt, callee: Callee | None, arguments: dict[str, Any]) -> Any:
        """Call the body; report and restore what it changed, also if it raises."""
        spec = attempt.spec
        guarded = self._before is not None and (callee is None or callee.can_change_process)
        before = self._snapshot() if guarded else None
        try:
            if spec.inner:
                return run_inner(spec, self._inputs, self._callee_of, self._call_inner)
            return self._call(spec, callee, arguments)
        except BaseException as error:
            self._end_child(error)
            raise
        finally:
            self._end_child(None)
            attempt.interruptible = False
            attempt.called = time.perf_counter()
            self._restore_process(spec, before)

    def _end_child(self, error: BaseException | None) -> None:
        """End this process if it is a child that the body forked: an attempt has one result."""
        if os.getpid() != self._pid:
            end_forked_child(error)

    def _snapshot(self) -> ProcessSnapshot:
        # A resource's setup may change the process for the whole run. While a body reads a stream, other steps run
        # inside it, and take snapshots of their own.
        last, self._last = self._last, None
        if last is None or self._resources.setups != self._setups:
            self._setups = self._resources.setups
            return ProcessSnapshot()
        last.renew()
        return last

    def _check_stopped(self, spec: StepSpec) -> None:
        if spec.attempt_id in self._stopped:
            raise StoppedError

    def _restore_process(self, spec: StepSpec, before: ProcessSnapshot | None) -> None:
        """Report what the body left behind, and restore what it changed."""
        left = self._loop.drain_warnings() if self._loop is not None else []
        if before is not None:
            changes = before.restore()
            self._last = None if changes else before
            left += changes
        for message in left:
            self._emit_whole(warning_record(f"after the step: {message}", spec.attempt_id))

    def _in_run_context(
        self, next_item: Callable[[str, str, int], str | None]
    ) -> Callable[[str, str, int], str | None]:
        """Return `next_item` so that steps which run meanwhile do not see the context of the stream's consumer."""

        def next_here(attempt_id: str, parameter: str, n: int) -> str | None:
            if os.getpid() != self._pid:
                raise ExecutionError(
                    f"the stream {parameter!r} was read in a forked child of its step",
                    hint="read it in the step's own process, and hand the items over",
                )
            return self._contexts.new().run(next_item, attempt_id, parameter, n)

        return next_here

    def _callee(self, spec: StepSpec) -> Callee | None:
        return None if spec.node is NodeKind.BASH or spec.inner else self._callee_of(spec.function)

    def _callee_of(self, ref: Ref) -> Callee:
        found = self._callees.get(ref)
        if found is None:
            found = self._callees[ref] = Callee(self._resolver.resolve(ref))
        return found

    def _call(self, spec: StepSpec, callee: Callee | None, arguments: dict[str, Any]) -> Any:
        if callee is None:
            return self._call_uninterrupted(self._bash, spec, arguments)
        scope = contextvars.copy_context()
        positional = take_positional(callee, arguments)
        value = scope.run(call_body, callee, positional, arguments)
        # A returned coroutine is awaited, also from a plain wrapper around an async function.
        if type(value) is types.AsyncGeneratorType:
            value = collect_items(value)
        if type(value) is types.CoroutineType:
            return scope.run(list_iterators, self._call_uninterrupted(self._await, spec, value, scope))
        return value

    def _call_inner(self, callee: Callee | None, spec: StepSpec, arguments: dict[str, Any]) -> Any:
        self._check_stopped(spec)
        return self._call(spec, callee, arguments)

    def _call_uninterrupted(self, run: Callable[..., Any], spec: StepSpec, *arguments: Any) -> Any:
        """Run what has a way of its own to be stopped, without interrupts."""
        attempt = self._current
        assert attempt is not None
        attempt.interruptible = False
        value = run(spec, *arguments)
        attempt.interruptible = True
        return value

    def _await(self, spec: StepSpec, body: Coroutine[Any, Any, Any], scope: contextvars.Context) -> Any:
        if self._loop is None:
            self._loop = BodyLoop(self._grace)
        return self._loop.run(body, scope, spec.timeout, stopped=lambda: spec.attempt_id in self._stopped)

    def _bash(self, spec: StepSpec, arguments: dict[str, Any]) -> str:
        command, env, cwd = arguments.pop("command"), arguments.pop("env"), arguments.pop("cwd")
        variables = {name: str(value) for name, value in arguments.items()}
        if spec.partition is not None:
            variables.setdefault("RIVERS_PARTITION", spec.partition)

        def started(kill: Callable[[], None]) -> None:
            self._processes[spec.attempt_id] = kill
            # The stop came while the command was starting.
            if spec.attempt_id in self._stopped:
                kill()

        try:
            return run_bash(command, env, cwd, variables, spec.timeout, started)
        except TimeoutError:
            raise OverdueError(f"in the command {command!r:.200}") from None
        except ExecutionError:
            if spec.attempt_id in self._stopped:
                raise StoppedError(f"in the command {command!r:.200}") from None
            raise
        finally:
            self._processes.pop(spec.attempt_id, None)

    def _open_output(self, spec: StepSpec) -> StepOutput | None:
        self._apply_levels(spec)
        if not spec.logs.capture:
            return None
        if not self._capturing:
            self._capturing = True
            Capture.install(spec.logs.level, owns_process=self._owns_process)
        return StepOutput(spec.attempt_id, spec.logs.level, self._emit_whole)

    def _apply_levels(self, spec: StepSpec) -> None:
        if self._owns_process and spec.logs.loggers:
            self._levels.apply(spec.logs.loggers)
