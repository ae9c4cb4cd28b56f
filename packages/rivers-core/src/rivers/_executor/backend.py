"""The SPI: what carries an `Executor` out. A page of signatures.

    core                                        backend
    ────                                        ───────
    observe(emit) ──────────────────────────▶   report what preflight waits for, by emit(LogRecord)
    preflight(specs) ───────────────────────▶   problems, found before anything starts
    open(run, emit) ────────────────────────▶   get ready
    submit(spec) ───────────────────────────▶   run one attempt somewhere
            emit(StepStarted) ◀──────────────   it has begun
            emit(LogRecord)   ◀──────────────   … live, where it can
            emit(StepResult)  ◀──────────────   how it ended: exactly once per submit
    cancel(attempt_id, grace) ──────────────▶   end it: ask, then after `grace` seconds kill
    close(deadline) ────────────────────────▶   the run is over: nothing of it is left
    shutdown(deadline) ─────────────────────▶   nothing at all is left: the repository closes

Core owns order, retries, backoff, timeouts' policy and state; a backend gets one attempt run and says how it ended.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Generic, Literal, TypeAlias

from typing_extensions import TypeVar

from rivers._definitions.executor import Executor
from rivers._io.base import Reach
from rivers.exceptions import Problem
from rivers.protocol.result import StepEvent
from rivers.protocol.spec import Compute, StepSpec

__all__ = ["Capabilities", "ExecutorBackend", "Run", "Sink"]

Sink: TypeAlias = Callable[[StepEvent], None]
"""Where a backend reports; safe to call from any thread, never blocks for long, never raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a backend can do; core plans and warns accordingly.

    `blocking`: submit() runs the step in the calling thread and returns when it has ended.
    `isolation`: what a crash of the body takes with it.
    `timeout`: `kill` ends an overdue body, `cooperative` only an async one, `none` notices when the body returns.
    `closures`: `local` passes live objects, `pickled` ships cloudpickles, `none` refuses what has no module scope.
    `reach`: how far from the controller the body runs; IO handlers must reach as far.
    `streams`: a `collect_stream` consumer can be fed while it runs.
    `provisions`: honours `Compute`; `compute` is what a step gets there that asks for nothing.
    `grace`: seconds that a cancelled body gets there, in place of the run's.
    `max_sync`, `max_async`: places for sync and for async steps; None is no limit. `max_steps`: places that both share,
    instead of those two.
    `warm`: the backend may be opened again for a later run, with what it keeps ready in between; `shutdown` lets go of
    that.
    `reentrant`: its methods may be called from within `emit`, in the thread that reports, which saves a hop between
    threads.
    `awaits`: what holds for async steps, where that differs.
    """

    blocking: bool = False
    isolation: Literal["none", "process", "container"] = "process"
    timeout: Literal["none", "cooperative", "kill"] = "kill"
    closures: Literal["local", "pickled", "none"] = "none"
    reach: Reach = Reach.MACHINE
    live_logs: bool = True
    streams: bool = False
    provisions: bool = False
    compute: Compute | None = None
    grace: float | None = None
    max_sync: int | None = None
    max_async: int | None = None
    max_steps: int | None = None
    warm: bool = False
    reentrant: bool = False
    awaits: Capabilities | None = None

    def of(self, is_async: bool) -> Capabilities:
        """What holds for a sync or for an async step."""
        return self.awaits if is_async and self.awaits is not None else self


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What a backend is told about the run it is opened for.

    `local` holds the live objects behind `LocalRef`s, for backends that share this process. `next_item(attempt_id,
    parameter, n)` gives the n-th mapping key of a live stream, waiting for it, or None at the stream's end, and raises
    StepCancelledError when an instance has failed; for backends with `streams`.
    `keep_error(attempt_id, error)` takes a body's live exception, for backends in this process.
    `grace` is how many seconds a cancelled body gets to end by itself. `key` signs pickled refs of this run.
    `folders` hold values for as long as this process lives: where something of the backend survives the process's kill,
    it removes them.
    """

    run_id: str
    local: Mapping[str, Any] = field(default_factory=dict)
    next_item: Callable[[str, str, int], str | None] | None = None
    keep_error: Callable[[str, BaseException], None] | None = None
    grace: float = 10.0
    key: bytes = b""
    folders: tuple[str, ...] = ()


ExecutorT = TypeVar("ExecutorT", bound=Executor, default=Executor)


class ExecutorBackend(ABC, Generic[ExecutorT]):
    """One executor's carrier, made from the user's `Executor` value, which is its `executor`.

    It serves one run at a time: made anew for each, or, with `Capabilities.warm`, opened again when its run is over.

    Registered under the entry-point group `rivers.executors`, with the executor's kind as the name. Subclass
    `ExecutorBackend[YourExecutor]` for the value's type.
    """

    executor_type: ClassVar[type[Executor]]
    """The class of the values this backend carries out; its default value is `executor_type()`."""

    def __init__(self, executor: ExecutorT) -> None:
        self.executor = executor

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """What this backend can do, known before `open`."""

    def observe(self, emit: Sink) -> None:
        """Take the callback for warnings of the `preflight` that follows; by default none are reported.

        A `LogRecord` without an attempt becomes a `RunWarning`; it comes before `RunStarted`.
        """

    def preflight(self, specs: Iterable[StepSpec]) -> Sequence[Problem]:
        """Find what would fail, before anything starts; starts nothing itself."""
        return ()

    @abstractmethod
    def open(self, run: Run, emit: Sink) -> None:
        """Get ready for the steps of one run; raise to refuse the run."""

    @abstractmethod
    def submit(self, spec: StepSpec) -> None:
        """Run one attempt and report by `emit`; raise nothing for what the attempt itself does."""

    @abstractmethod
    def cancel(self, attempt_id: str, grace: float) -> None:
        """End an attempt: ask it to stop, kill it after `grace` seconds. Its `ended` event still comes, once.

        Returns at once. Nothing happens for an attempt that was never submitted or is over.
        """

    @abstractmethod
    def close(self, deadline: float) -> None:
        """Leave nothing of the run behind: processes, threads, files, sockets. Takes at most `deadline` seconds.

        Called once for each `open`, also when that raised or was interrupted half-way. With `Capabilities.warm`,
        workers that hold nothing of the run may stay.
        """

    def shutdown(self, deadline: float) -> None:
        """Let go of what stays between runs, within `deadline` seconds; the repository closes. Never during a run."""
