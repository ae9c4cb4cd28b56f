"""One attempt: its clock, how its body is called, and the result that comes of it. What every runner does alike."""

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
from rivers._runner.inputs import LoadFailedError, Stream
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

__all__ = ["Attempt", "StepInterrupted", "arguments_in_order", "context_of", "failed", "invoke", "succeeded"]


class StepInterrupted(KeyboardInterrupt):
    """Raised in a body to stop it; no `Exception`, so that a body does not take it for one of its own."""

    def __str__(self) -> str:
        return "stopped"


class Attempt:
    """One attempt's clock, and whether it may be stopped just now.

    `began`, `loaded`, `called` are when it began, when its inputs were loaded, when its body had returned. `open` is
    True while inputs are loaded or the body runs. `emitting` is True while an event is being emitted: an interrupt that
    comes then is `due` after it. Once it was raised the attempt is `interrupted`, whatever its body makes of it.
    """

    __slots__ = ("began", "called", "due", "emitting", "interrupted", "loaded", "open", "spec", "thread")

    def __init__(self, spec: StepSpec) -> None:
        self.spec = spec
        self.thread = threading.get_ident()
        self.open = self.emitting = self.due = self.interrupted = False
        self.loaded = self.called = 0.0
        self.began = time.perf_counter()

    def timings(self) -> Timings:
        """How long each phase took, the last one until now."""
        now = time.perf_counter()
        loaded = self.loaded or now
        called = self.called or now
        return Timings(load=loaded - self.began, run=called - loaded, store=now - called)

    def check_stored(self, stopped: bool, streams: Sequence[Stream]) -> None:
        """Raise where nothing may be stored: the body ran too long, was stopped, or a stream it read broke."""
        timeout = self.spec.timeout
        if timeout is not None and self.called - self.loaded > timeout:
            raise OverdueError
        if stopped:
            raise StoppedError("its body returned before it could be stopped")
        for stream in streams:
            if stream.broken is not None:
                raise stream.broken


# ── the call ──


def context_of(
    spec: StepSpec, callee: Callee | None, arguments: dict[str, Any]
) -> AssetExecutionContext[Any] | TaskExecutionContext[Any] | None:
    """The context object, put among the arguments; None where the body takes none."""
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


def arguments_in_order(callee: Callee, arguments: dict[str, Any]) -> list[Any]:
    """Take out what is given for positional-only parameters: context first, up to the first one left at its default."""
    if not callee.positional:
        return []
    names = (callee.context, *callee.positional) if callee.context is not None else callee.positional
    return [arguments.pop(name) for name in names if name in arguments]


def invoke(callee: Callee, positional: list[Any], arguments: dict[str, Any]) -> Any:
    """Call the body; a generator or another iterator runs to its end here, within the step's own context."""
    assert callee.function is not None
    return list_iterators(callee.function(*positional, **arguments))


# ── the end ──


def succeeded(attempt: Attempt, outputs: tuple[OutputRecord, ...], worker: str) -> StepResult:
    """The result of an attempt whose outputs are committed."""
    return StepResult(
        attempt_id=attempt.spec.attempt_id,
        ending=Ending.SUCCEEDED,
        outputs=outputs,
        timings=attempt.timings(),
        worker=worker,
    )


def failed(
    attempt: Attempt, error: BaseException, worker: str, keep_error: Callable[[str, BaseException], None] | None
) -> StepResult:
    """The result of an attempt that raised this; a controller in the same process is given the error itself."""
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
            BaseException.with_traceback(error, skip_own_frames(error.__traceback__))  # whatever its __setattr__ does
        add_hint(error)
        evidence = Evidence(timed_out=True, detail=detail) if reason is FailureReason.TIMEOUT else None
        failure = make_failure(error, reason, transient=transient, evidence=evidence)
        if keep_error is not None:
            keep_error(spec.attempt_id, error)
    return StepResult(
        attempt_id=spec.attempt_id, ending=ending, failure=failure, timings=attempt.timings(), worker=worker
    )


def _cancelled(error: BaseException, interrupted: bool) -> Failure:
    """Describe a cancelled attempt; the cause says where its body was, with a traceback."""
    evidence = Evidence(cancelled=True, detail=error.detail if isinstance(error, StoppedError) else None)
    if interrupted or isinstance(error, StoppedError):
        cause = error.__cause__ if isinstance(error, StoppedError) else error
        error = StepCancelledError("the body was stopped, and nothing was stored")
        error.__cause__ = cause
    return make_failure(error, FailureReason.CANCELLED, evidence=evidence)


def _judge(error: BaseException, attempt: Attempt) -> tuple[BaseException, FailureReason, bool]:
    """What to report, why, and whether another attempt may help. Only what the body raised is `error`."""
    if isinstance(error, OverdueError):
        ran = attempt.called - attempt.loaded
        limit = attempt.spec.timeout
        overdue = StepTimeoutError(f"ran {ran:.3f} s, longer than its timeout of {limit} s; nothing was stored")
        overdue.__cause__ = error.__cause__
        return overdue, FailureReason.TIMEOUT, True
    if isinstance(error, LoadFailedError | StoreFailedError | ResourceSetupError) and error.__cause__ is not None:
        cause = error.__cause__
        if error.message not in getattr(cause, "__notes__", ()):  # steps side by side share a setup that failed
            cause.add_note(error.message)
        return cause, FailureReason.INFRASTRUCTURE, True
    if isinstance(error, InputLoadError | OutputCommitError):
        return error, FailureReason.INFRASTRUCTURE, error.retryable
    if isinstance(error, RefResolutionError) and not attempt.loaded:
        return error, FailureReason.INFRASTRUCTURE, False
    if isinstance(error, MemoryError):
        return error, FailureReason.OUT_OF_MEMORY, True
    return error, FailureReason.ERROR, True
