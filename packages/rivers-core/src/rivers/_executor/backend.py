"""The SPI: the interface of the backends that carry out an `Executor`.

    core                                        backend
    ────                                        ───────
    observe(emit) ──────────────────────────▶   report what preflight waits for, by emit(LogRecord)
    preflight(specs) ───────────────────────▶   problems, before anything starts
    cancel_preflight() ─────────────────────▶   the run was cancelled: return from it soon
    abandon(deadline) ──────────────────────▶   the run does not go on: release what preflight has prepared
    open(run, emit) ────────────────────────▶   get ready for a run
    submit(spec) ───────────────────────────▶   run one attempt somewhere
    adopt(spec) ────────────────────────────▶   go on with one that an earlier controller of the run has submitted
            emit(StepStarted) ◀──────────────   the attempt has begun
            emit(LogRecord)   ◀──────────────   live, where the backend can
            emit(StepResult)  ◀──────────────   the result, exactly once per submit or adopt
    cancel(attempt_id, grace) ──────────────▶   ask it to stop, kill it after `grace` seconds
    close(deadline) ────────────────────────▶   the run is over: release what belongs to it
    shutdown(deadline) ─────────────────────▶   the repository closes: release everything

Core decides on order, retries, backoff and timeouts, and keeps the state; a backend runs one attempt somewhere and
reports its result.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, TypeAlias

from typing_extensions import TypeVar

from rivers._definitions.executor import Executor
from rivers._io.base import Reach
from rivers._plan.unit import OpenAttempt
from rivers.exceptions import Problem
from rivers.protocol.result import StepEvent
from rivers.protocol.spec import Compute, StepSpec

__all__ = ["SPI_VERSION", "Capabilities", "ExecutorBackend", "OpenAttempt", "Run", "Sink"]

SPI_VERSION = (1, 1)
"""The version of this interface: a new minor adds to it, a new major changes or removes something."""

Sink: TypeAlias = Callable[[StepEvent], None]
"""The callback for a backend's events: callable from any thread, never blocks for long, never raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """The capabilities of a backend, by which core plans and warns.

    `blocking`: submit() runs the step in the calling thread and returns when it has ended.
    `isolation`: the extent of a crash: the controller, the worker's process or its container.
    `timeout`: `kill` ends an overdue body, `cooperative` only an async one, `none` notices when the body returns.
    `closures`: `local` passes live objects, `pickled` ships cloudpickles, `none` refuses what has no module scope.
    `reach`: the distance of the body from the controller; IO handlers must reach as far.
    `streams`: a `collect_stream` consumer can be fed while it runs.
    `provisions`: honours `Compute`; `compute` is the default of a step that asks for nothing.
    `grace`: seconds that a cancelled body gets, in place of the run's.
    `max_sync`, `max_async`: slots for sync and for async steps; None is no limit. `max_steps`: slots that both share,
    instead of those two.
    `warm`: the backend may be opened again for a later run, and keeps workers ready in between, until `shutdown`.
    `adopts`: `adopt` goes on with attempts of an earlier controller of the run; for backends that do not block.
    `reentrant`: its methods may be called from within `emit`, in the thread that reports; it saves a switch of threads.
    `awaits`: the capabilities for async steps, where they differ.
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
    adopts: bool = False
    reentrant: bool = False
    awaits: Capabilities | None = None

    def of(self, is_async: bool) -> Capabilities:
        """Return the capabilities for a sync or for an async step."""
        return self.awaits if is_async and self.awaits is not None else self


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """The run that a backend is opened for.

    `local` holds the live objects behind `LocalRef`s, for backends that share this process. `next_item(attempt_id,
    parameter, n)` waits for the n-th mapping key of a live stream and returns it, or None at the stream's end; it
    raises StepCancelledError when an instance has failed; for backends with `streams`. `keep_error(attempt_id, error)`
    takes a body's live exception, for backends in this process. `grace` is how many seconds a cancelled body gets to
    end by itself. `key` signs pickled refs of this run. `folders` hold values for as long as this process lives; a
    backend with a process that survives this one's kill removes them there.

    `epoch` counts the controllers that have carried out the run before. `folder`, of a durable run, is one that only
    this user can read, for what a later controller needs to reach the run's workers; it is deleted with the run's end.
    `open_attempts` are those of earlier controllers, on any executor, that will be adopted; nobody waits for any other.
    """

    run_id: str
    local: Mapping[str, Any] = field(default_factory=dict)
    next_item: Callable[[str, str, int], str | None] | None = None
    keep_error: Callable[[str, BaseException], None] | None = None
    grace: float = 10.0
    key: bytes = b""
    folders: tuple[str, ...] = ()
    epoch: int = 0
    folder: Path | None = None
    open_attempts: Mapping[str, OpenAttempt] = field(default_factory=dict)


ExecutorT = TypeVar("ExecutorT", bound=Executor, default=Executor)


class ExecutorBackend(ABC, Generic[ExecutorT]):
    """The backend of one `Executor` value of the user's, its `executor`.

    It serves one run at a time: each run gets a new one or, with `Capabilities.warm`, one whose run is over.

    Registered under the entry-point group `rivers.executors`, with the executor's kind as the name. Subclass
    `ExecutorBackend[YourExecutor]` for the value's type.
    """

    executor_type: ClassVar[type[Executor]]
    """The class of the values this backend carries out; its default value is `executor_type()`."""

    # Not SPI_VERSION: a package that says nothing was made for the first version, whatever is installed later.
    spi_version: ClassVar[tuple[int, int]] = (1, 0)
    """The version of the SPI that this backend is made for; core refuses another major and a later minor.

    Write it as numbers. `SPI_VERSION` would be the version of any rivers-core that happens to be installed.
    """

    def __init__(self, executor: ExecutorT) -> None:
        self.executor = executor

    @property
    @abstractmethod
    def capabilities(self) -> Capabilities:
        """The capabilities of this backend, known before `open`."""

    def observe(self, emit: Sink) -> None:
        """Take the callback for warnings of the `preflight` that follows; by default none are reported.

        A `LogRecord` without an attempt becomes a `RunWarning`; it comes before `RunStarted`.
        """

    def preflight(self, specs: Iterable[StepSpec]) -> Sequence[Problem]:
        """Return the problems by which these specs would fail; start none of them.

        What it has prepared for the run is used by the `open` that follows, or released by `abandon`. A spec's
        `attempt_id` is the one of the step's first attempt, unless the step is mapped.
        """
        return ()

    def cancel_preflight(self) -> None:
        """End a `preflight` that waits, from another thread; return at once. By default it goes on to its end."""

    def abandon(self, deadline: float) -> None:
        """Release what `preflight` has prepared, within `deadline` seconds: no `open` follows. By default, nothing."""

    @abstractmethod
    def open(self, run: Run, emit: Sink) -> None:
        """Get ready for the steps of one run; raise to refuse the run."""

    @abstractmethod
    def submit(self, spec: StepSpec) -> None:
        """Run one attempt and report by `emit`; raise nothing for what the attempt itself does."""

    def adopt(self, spec: StepSpec) -> None:
        """Go on with an attempt that an earlier controller of the run has submitted, and report as after `submit`.

        The attempt is in `Run.open_attempts`; only a backend with `Capabilities.adopts` is called. Report the log
        records as `StreamRecord` and leave out those up to `OpenAttempt.seq`; a StepStarted that is recorded already
        changes nothing. Report NOT_STARTED where nothing of the attempt is left: another one is submitted then, which
        does not count as a retry, unless its outputs are committed.
        """
        raise NotImplementedError

    @abstractmethod
    def cancel(self, attempt_id: str, grace: float) -> None:
        """Ask an attempt to stop and kill it after `grace` seconds; its StepResult still comes, once.

        Return at once. Do nothing for an attempt that was never submitted or is over.
        """

    @abstractmethod
    def close(self, deadline: float) -> None:
        """Release what belongs to the run, within `deadline` seconds: processes, threads, files, sockets.

        It is called once for each `open`, also when that raised or was interrupted half-way. With `Capabilities.warm`,
        workers that hold nothing of the run may stay.
        """

    def shutdown(self, deadline: float) -> None:
        """Release what stays between runs, within `deadline` seconds; it is never called during a run."""
