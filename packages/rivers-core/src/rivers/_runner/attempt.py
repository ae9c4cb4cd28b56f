"""One attempt at a step: its clock, the call of its body, and its result, for every kind of runner."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from rivers._definitions.context import AssetExecutionContext, TaskExecutionContext
from rivers._runner.callee import Callee
from rivers._runner.event_loop.loop import OverdueError, StoppedError
from rivers._runner.failures import make_failure
from rivers._runner.hints import add_hint
from rivers._runner.inputs import LoadFailedError, ValueStream
from rivers._runner.iterators import list_iterators
from rivers._runner.outputs import StoreFailedError
from rivers._runner.own_frames import is_full_traceback_wanted, skip_own_frames
from rivers._runner.resources import ResourceSetupError
from rivers.exceptions import (
    InputLoadError,
    OutputCommitError,
    RefResolutionError,
    StepCancelledError,
    StepTimeoutError,
)
from rivers.protocol.failure import Evidence, Failure, FailureReason
from rivers.protocol.result import Ending, OutputRecord, StepResult, Timings
from rivers.protocol.spec import NodeKind, StepSpec

__all__ = [
    "RunningAttempt",
    "StepInterrupted",
    "call_body",
    "failed_result",
    "make_context",
    "succeeded_result",
    "take_positional",
]


class StepInterrupted(KeyboardInterrupt):
    """Raised in a body to stop it; no `Exception`, as bodies catch those."""

    def __str__(self) -> str:
        return "stopped"


class RunningAttempt:
    """The clock of an attempt that runs, and whether an interrupt may be raised in it now.

    `began`, `loaded` and `called` are the times of `time.perf_counter` when it began, had loaded its inputs and had
    called its body; 0.0 until then. It is `interruptible` while it loads inputs or runs its body. An interrupt that
    arrives while it is `emitting` an event is `interrupt_due` until the event is complete. Once one was raised the
    attempt is `interrupted`, even if its body catches it. Its body has `returned` if it did not raise.
    """

    __slots__ = (
        "began",
        "called",
        "emitting",
        "interrupt_due",
        "interrupted",
        "interruptible",
        "loaded",
        "returned",
        "spec",
        "thread",
    )

    def __init__(self, spec: StepSpec) -> None:
        self.spec = spec
        self.thread = threading.get_ident()
        self.interruptible = self.emitting = self.interrupt_due = self.interrupted = self.returned = False
        self.loaded = self.called = 0.0
        self.began = time.perf_counter()

    def timings(self) -> Timings:
        """Return the seconds that each phase took, the last one up to now. Nothing is stored of a body that raised."""
        now = time.perf_counter()
        loaded = self.loaded or now
        called = self.called or now
        return Timings(load=loaded - self.began, run=called - loaded, store=now - called if self.returned else 0.0)

    def check_stored(self, stopped: bool, streams: Sequence[ValueStream]) -> None:
        """Check that the outputs may be stored.

        Raises:
            OverdueError: the body ran longer than its timeout.
            StoppedError: it was `stopped`.
            StepCancelledError: a stream that it read broke.
        """
        self.returned = True
        timeout = self.spec.timeout
        if timeout is not None and self.called - self.loaded > timeout:
            raise OverdueError
        if stopped:
            raise StoppedError("its body returned before it could be stopped")
        for stream in streams:
            if stream.broken is not None:
                raise stream.broken


def make_context(
    spec: StepSpec, callee: Callee | None, arguments: dict[str, Any]
) -> AssetExecutionContext[Any] | TaskExecutionContext[Any] | None:
    """Add the context object to the arguments and return it; None if the body takes none."""
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
            spec.step,
            spec.tags,
            spec.metadata,
            config=config,
            run_id=spec.run_id,
            attempt=spec.attempt,
            partition=spec.partition,
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
            partition=spec.partition,
        )
    arguments[callee.context] = context
    return context


def take_positional(callee: Callee, arguments: dict[str, Any]) -> list[Any]:
    """Remove the positional-only arguments and return them in order: the context first, up to the first default."""
    if not callee.positional:
        return []
    names = (callee.context, *callee.positional) if callee.context is not None else callee.positional
    return [arguments.pop(name) for name in names if name in arguments]


def call_body(callee: Callee, positional: list[Any], arguments: dict[str, Any]) -> Any:
    """Call the body; run a generator or another iterator to its end, within the step's own context."""
    assert callee.function is not None
    return list_iterators(callee.function(*positional, **arguments))


def succeeded_result(attempt: RunningAttempt, outputs: tuple[OutputRecord, ...], worker: str) -> StepResult:
    """Return the result of an attempt whose outputs are committed."""
    return StepResult(
        attempt_id=attempt.spec.attempt_id,
        ending=Ending.SUCCEEDED,
        outputs=outputs,
        timings=attempt.timings(),
        worker=worker,
    )


def failed_result(
    attempt: RunningAttempt, error: BaseException, worker: str, keep_error: Callable[[str, BaseException], None] | None
) -> StepResult:
    """Return the result of an attempt that raised `error`; `keep_error` takes the exception itself, in this process."""
    spec = attempt.spec
    ending = Ending.FAILED
    failure: Failure | None = None
    if attempt.interrupted or isinstance(error, StoppedError | StepCancelledError | KeyboardInterrupt):
        ending = Ending.CANCELLED
        failure = _cancelled(error, attempt.interrupted)
    else:
        detail = error.detail if isinstance(error, OverdueError) else None
        error, reason, transient = _judge(error, attempt)
        if not is_full_traceback_wanted():
            # Whatever its __setattr__ does.
            BaseException.with_traceback(error, skip_own_frames(error.__traceback__))
        add_hint(error)
        evidence = Evidence(timed_out=True, detail=detail) if reason is FailureReason.TIMEOUT else None
        failure = make_failure(error, reason, transient=transient, evidence=evidence)
        if keep_error is not None:
            keep_error(spec.attempt_id, error)
    return StepResult(
        attempt_id=spec.attempt_id, ending=ending, failure=failure, timings=attempt.timings(), worker=worker
    )


def _cancelled(error: BaseException, interrupted: bool) -> Failure:
    """Return the failure of a cancelled attempt; its traceback says where the body was."""
    evidence = Evidence(cancelled=True, detail=error.detail if isinstance(error, StoppedError) else None)
    if interrupted or isinstance(error, StoppedError):
        cause = error.__cause__ if isinstance(error, StoppedError) else error
        error = StepCancelledError("the body was stopped, and nothing was stored")
        error.__cause__ = cause
    return make_failure(error, FailureReason.CANCELLED, evidence=evidence)


def _judge(error: BaseException, attempt: RunningAttempt) -> tuple[BaseException, FailureReason, bool]:
    """Return the exception to report, its reason, and whether another attempt may succeed."""
    if isinstance(error, OverdueError):
        ran = attempt.called - attempt.loaded
        limit = attempt.spec.timeout
        overdue = StepTimeoutError(f"ran {ran:.3f} s, longer than its timeout of {limit} s; nothing was stored")
        overdue.__cause__ = error.__cause__
        return overdue, FailureReason.TIMEOUT, True
    if isinstance(error, LoadFailedError | StoreFailedError | ResourceSetupError) and error.__cause__ is not None:
        cause = error.__cause__
        # Concurrent steps share one failed setup.
        if error.message not in getattr(cause, "__notes__", ()):
            cause.add_note(error.message)
        return cause, FailureReason.INFRASTRUCTURE, True
    if isinstance(error, InputLoadError | OutputCommitError):
        return error, FailureReason.INFRASTRUCTURE, error.retryable
    if isinstance(error, RefResolutionError) and not attempt.loaded:
        return error, FailureReason.INFRASTRUCTURE, False
    if isinstance(error, MemoryError):
        return error, FailureReason.OUT_OF_MEMORY, True
    return error, FailureReason.ERROR, True
