"""The runner: one StepSpec, here and now.

    StepSpec ──▶ resolve ──▶ load ──▶ call ──▶ check ──▶ store ──▶ StepResult
                 refs        inputs   body     hints     all or nothing

It knows neither plan nor repository: in a pod, in a process and in this thread it is the same code.
"""

from __future__ import annotations

import contextvars
import logging
import os
import time
import types
from collections.abc import Callable, Mapping
from typing import Any

import msgspec

from rivers._definitions.bash import run_bash
from rivers._definitions.context import AssetExecutionContext, TaskExecutionContext
from rivers._runner.callee import Callee
from rivers._runner.capture import Capture, StepOutput
from rivers._runner.failures import failure_of
from rivers._runner.inner import run_inner
from rivers._runner.inputs import Inputs, LoadFailedError, Stream
from rivers._runner.loop import BodyLoop, OverdueError, StoppedError, collected
from rivers._runner.outputs import StoreFailedError, checked, store
from rivers._runner.refs import Resolver
from rivers._runner.resources import Resources, ResourceSetupError
from rivers._runner.surroundings import Surroundings
from rivers.exceptions import (
    ExecutionError,
    InputLoadError,
    OutputCommitError,
    RefResolutionError,
    StepCancelledError,
    StepTimeoutError,
)
from rivers.protocol.failure import Evidence, Failure, FailureReason
from rivers.protocol.ref import Ref
from rivers.protocol.result import Ending, LogRecord, OutputRecord, StepEvent, StepResult, StepStarted, Timings
from rivers.protocol.spec import NodeKind, StepSpec

__all__ = ["Runner"]


class Runner:
    """Runs specs one after another in this thread; a worker has one for as long as it lives, and closes it.

    `emit` is told when an attempt starts and what it prints; `local` and `next_item` are the run's (see `spi.Run`);
    `keep_error` is given the live exception of a failed attempt, for a controller in the same process. `pickle_key` is
    the run's key where pickled functions are allowed, `allowed` limits the modules that refs may import. With `guard`,
    for the main thread only, what a body changes in the process is put back after it, and the rest when it closes.
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
    ) -> None:
        self._emit = emit
        self._keep_error = keep_error
        self._grace = grace
        self.worker = worker or f"pid {os.getpid()}"
        self._resolver = Resolver(local, allowed=allowed, pickle_key=pickle_key)
        self._resources = Resources(self._resolver)
        # Every attempt starts from the context variables of this moment, also one that runs inside another's stream.
        self._context_vars = contextvars.copy_context()
        self._inputs = Inputs(self._resolver, self._resources, self._outside(next_item) if next_item else None)
        self._callees: dict[Ref, Callee] = {}
        self._loop: BodyLoop | None = None
        self._capturing = False
        self._stopped: set[str] = set()
        self._running: set[str] = set()
        self._processes: dict[str, Callable[[], None]] = {}
        self._before = Surroundings() if guard else None

    def run_step(self, spec: StepSpec) -> StepResult:
        """Run one attempt to its end; what the body raises is in the result, only KeyboardInterrupt is raised on."""
        self._emit(StepStarted(attempt_id=spec.attempt_id, worker=self.worker, time=time.time()))
        self._running.add(spec.attempt_id)
        attempt = _Attempt(spec)
        output = self._listen(spec)
        scope = self._context_vars.copy()
        if output is not None:
            scope.run(output.enter)
        try:
            return self._result(attempt, scope.run(self._run, attempt))
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a body may raise anything, and all of it is the attempt's result
            return self._failed(attempt, error)
        finally:
            self._running.discard(spec.attempt_id)
            if output is not None:
                output.finish()

    def stop(self, attempt_id: str) -> None:
        """Ask an attempt to stop, from any thread; a sync body is stopped when it returns, before it stores."""
        self._stopped.add(attempt_id)
        kill = self._processes.get(attempt_id)
        if kill is not None:
            kill()
        if self._loop is not None and attempt_id in self._running:
            self._loop.stop()

    def close(self) -> list[str]:
        """Tear down resources, the loop and the capture; returns what went wrong, one line each."""
        problems = self._resources.close()
        if self._loop is not None:
            problems += self._loop.close()
            self._loop = None
        if self._capturing:
            self._capturing = False
            Capture.remove()
        if self._before is not None:
            problems += [f"after the run: {change}" for change in self._before.restore()]
        return problems

    # ── the phases ──

    def _run(self, attempt: _Attempt) -> tuple[OutputRecord, ...]:
        spec = attempt.spec
        if spec.attempt_id in self._stopped:
            raise StoppedError
        callee = self._callee(spec)
        arguments, streams = self._inputs.load(spec, callee.hints if callee is not None else {})
        context = self._context(spec, callee, arguments)
        attempt.loaded = time.perf_counter()
        before = Surroundings() if self._before is not None else None
        try:
            if spec.inner:
                value = run_inner(spec, self._inputs, self._callee_of, self._call_inner)
            else:
                value = self._call(spec, callee, arguments)
        finally:
            attempt.called = time.perf_counter()
            self._tidy(spec, before)
        self._still_wanted(attempt, streams)
        outputs = checked(spec, callee, value)
        extra, version = (context.output_metadata, context.data_version) if context is not None else (None, None)
        return store(spec, callee, outputs, self._resolver, extra, version)

    def _tidy(self, spec: StepSpec, before: Surroundings | None) -> None:
        """Tell what the body left behind, and put back what it changed."""
        left = self._loop.told() if self._loop is not None else []
        if before is not None:
            left += before.restore()
        for message in left:
            self._emit(
                LogRecord(
                    attempt_id=spec.attempt_id,
                    message=f"after the step: {message}",
                    level=logging.WARNING,
                    logger="rivers",
                    time=time.time(),
                )
            )

    def _outside(self, next_item: Callable[[str, str, int], str | None]) -> Callable[[str, str, int], str | None]:
        """What a run does while a stream's consumer waits, other steps among it, is none of the consumer's."""
        return lambda attempt_id, parameter, n: self._context_vars.copy().run(next_item, attempt_id, parameter, n)

    def _still_wanted(self, attempt: _Attempt, streams: list[Stream]) -> None:
        """Nothing is stored for a body that ran too long, whose run was cancelled or whose stream broke."""
        spec = attempt.spec
        if spec.timeout is not None and attempt.called - attempt.loaded > spec.timeout:
            raise OverdueError
        if spec.attempt_id in self._stopped:
            raise StoppedError
        for stream in streams:
            if stream.broken is not None:
                raise stream.broken

    def _callee(self, spec: StepSpec) -> Callee | None:
        return None if spec.node is NodeKind.BASH or spec.inner else self._callee_of(spec.function)

    def _callee_of(self, ref: Ref) -> Callee:
        found = self._callees.get(ref)
        if found is None:
            found = self._callees[ref] = Callee(self._resolver.resolve(ref))
        return found

    def _context(
        self, spec: StepSpec, callee: Callee | None, arguments: dict[str, Any]
    ) -> AssetExecutionContext[Any] | TaskExecutionContext[Any] | None:
        if callee is None or callee.context is None:
            return None
        config: Any = None
        if callee.config_model is not None:
            config = callee.config_model.model_validate_json(spec.config or "{}")
        elif spec.config is not None:
            config = msgspec.json.decode(spec.config)
        context: AssetExecutionContext[Any] | TaskExecutionContext[Any]
        if spec.node is NodeKind.TASK:
            context = TaskExecutionContext(
                spec.step, spec.tags, spec.metadata, config=config, run_id=spec.run_id, attempt=spec.attempt
            )
        else:
            context = AssetExecutionContext(
                spec.step,
                spec.tags,
                spec.kinds,
                spec.group,
                spec.code_version,
                spec.metadata,
                config=config,
                run_id=spec.run_id,
                attempt=spec.attempt,
            )
        arguments[callee.context] = context
        return context

    def _call(self, spec: StepSpec, callee: Callee | None, arguments: dict[str, Any]) -> Any:
        if callee is None:
            return self._bash(spec, arguments)
        scope = contextvars.copy_context()
        positional = [arguments.pop(name) for name in _positional(callee, arguments)]
        value = scope.run(_invoke, callee, positional, arguments)
        return self._awaited(value, scope, spec.timeout)

    def _call_inner(self, callee: Callee | None, spec: StepSpec, arguments: dict[str, Any]) -> Any:
        return self._call(spec, callee, arguments)

    def _awaited(self, value: Any, scope: contextvars.Context, timeout: float | None) -> Any:
        """Run what a body handed over to be awaited, also where a plain wrapper hides an async function."""
        if type(value) is types.AsyncGeneratorType:
            value = collected(value)
        if type(value) is not types.CoroutineType:
            return value
        if self._loop is None:
            self._loop = BodyLoop(self._grace)
        return self._loop.run(value, scope, timeout)

    def _bash(self, spec: StepSpec, arguments: dict[str, Any]) -> str:
        command, env, cwd = arguments.pop("command"), arguments.pop("env"), arguments.pop("cwd")
        variables = {name: str(value) for name, value in arguments.items()}

        def started(kill: Callable[[], None]) -> None:
            self._processes[spec.attempt_id] = kill
            if spec.attempt_id in self._stopped:  # it came while the command was being started
                kill()

        try:
            return run_bash(command, env, cwd, variables, spec.timeout, started)
        except TimeoutError:
            raise OverdueError from None
        except ExecutionError:
            if spec.attempt_id in self._stopped:
                raise StoppedError from None
            raise
        finally:
            self._processes.pop(spec.attempt_id, None)

    # ── the end ──

    def _listen(self, spec: StepSpec) -> StepOutput | None:
        if not spec.logs.capture:
            return None
        if not self._capturing:
            self._capturing = True
            Capture.install(spec.logs.level)
        return StepOutput(spec.attempt_id, spec.logs.level, self._emit)

    def _result(self, attempt: _Attempt, outputs: tuple[OutputRecord, ...]) -> StepResult:
        return StepResult(
            attempt_id=attempt.spec.attempt_id,
            ending=Ending.SUCCEEDED,
            outputs=outputs,
            timings=attempt.timings(),
            worker=self.worker,
        )

    def _failed(self, attempt: _Attempt, error: BaseException) -> StepResult:
        spec = attempt.spec
        ending = Ending.FAILED
        failure: Failure | None = None
        if isinstance(error, StoppedError | StepCancelledError):
            ending = Ending.CANCELLED
        else:
            error, reason, transient = _judge(error, spec, attempt)
            evidence = Evidence(timed_out=True) if reason is FailureReason.TIMEOUT else None
            failure = failure_of(error, reason, transient=transient, evidence=evidence)
            if self._keep_error is not None:
                self._keep_error(spec.attempt_id, error)
        return StepResult(
            attempt_id=spec.attempt_id, ending=ending, failure=failure, timings=attempt.timings(), worker=self.worker
        )


class _Attempt:
    """The clock of one attempt: when it began, when its inputs were loaded, when its body had returned."""

    __slots__ = ("began", "called", "loaded", "spec")

    def __init__(self, spec: StepSpec) -> None:
        self.spec = spec
        self.loaded = self.called = 0.0
        self.began = time.perf_counter()

    def timings(self) -> Timings:
        now = time.perf_counter()
        loaded = self.loaded or now
        called = self.called or now
        return Timings(load=loaded - self.began, run=called - loaded, store=now - called)


def _invoke(callee: Callee, positional: list[Any], arguments: dict[str, Any]) -> Any:
    assert callee.function is not None
    value = callee.function(*positional, **arguments)
    # A generator's body runs here, within the step's own context.
    return list(value) if type(value) is types.GeneratorType else value


def _positional(callee: Callee, arguments: dict[str, Any]) -> tuple[str, ...]:
    """The positional-only parameters that are given, context first, up to the first one left at its default."""
    if not callee.positional:
        return ()
    names = (callee.context, *callee.positional) if callee.context is not None else callee.positional
    return tuple(name for name in names if name in arguments)


def _judge(error: BaseException, spec: StepSpec, attempt: _Attempt) -> tuple[BaseException, FailureReason, bool]:
    """What to report, why, and whether another attempt may help. Only what the body raised is `error`."""
    if isinstance(error, OverdueError):
        ran = attempt.called - attempt.loaded
        overdue = StepTimeoutError(f"ran {ran:.3f} s, longer than its timeout of {spec.timeout} s; nothing was stored")
        return overdue, FailureReason.TIMEOUT, True
    if isinstance(error, LoadFailedError | StoreFailedError) and error.__cause__ is not None:
        error.__cause__.add_note(error.message)
        return error.__cause__, FailureReason.INFRASTRUCTURE, True
    if isinstance(error, InputLoadError | OutputCommitError):
        return error, FailureReason.INFRASTRUCTURE, error.retryable
    if isinstance(error, ResourceSetupError) and error.__cause__ is not None:
        error.__cause__.add_note(error.message)
        return error.__cause__, FailureReason.INFRASTRUCTURE, True
    if isinstance(error, RefResolutionError) and not attempt.loaded:
        return error, FailureReason.INFRASTRUCTURE, False
    if isinstance(error, MemoryError):
        return error, FailureReason.OUT_OF_MEMORY, True
    return error, FailureReason.ERROR, True
