"""An executor for tests that ends steps by script: in any order, late, twice or never.

    script = Script({"load": [Attempt.fail, Attempt.succeed], "slow": Attempt.hold})
    handle = repository.submit(executor=ScriptedExecutor(script))
    script.attempt("slow").succeed()          # waits until core has submitted it, then ends it
    assert handle.wait(10).success

Authors of executors see how core treats a backend; authors of assets test runs with crashes, lost machines and
timeouts, which cannot be had at will.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from rivers._definitions.executor import Executor
from rivers.exceptions import Problem
from rivers.protocol import (
    Ending,
    Evidence,
    Failure,
    FailureReason,
    LogRecord,
    OutputMode,
    OutputRecord,
    StepEvent,
    StepResult,
    StepSpec,
    StepStarted,
)
from rivers.spi import Capabilities, ExecutorBackend, Reach, Run, Runner, Sink, warning_record

__all__ = ["Act", "Attempt", "Script", "ScriptedBackend", "ScriptedExecutor"]

WORKER = "scripted"
HERE = Capabilities(isolation="none", closures="local", reach=Reach.PROCESS, streams=True)
"""The default capabilities of a scripted backend: any number of steps at once, closures, any store."""


class Attempt:
    """One attempt that core has submitted; its methods end it, from any thread.

    A `Script` is made of these methods. `cancelled` is set once core has cancelled it, and `grace` then holds the
    seconds that it was given.
    """

    def __init__(self, spec: StepSpec, run: Run, emit: Sink) -> None:
        self.spec = spec
        self.cancelled = threading.Event()
        self.grace: float | None = None
        self._run = run
        self._emit = emit
        self._started = False

    def report(self, event: StepEvent) -> None:
        """Emit any event, also one that makes no sense."""
        self._emit(event)

    def start(self) -> None:
        """Report StepStarted, once; the methods that end the attempt do it themselves."""
        if not self._started:
            self._started = True
            self.report(StepStarted(attempt_id=self.spec.attempt_id, worker=WORKER, time=time.time()))

    def hold(self) -> None:
        """Start, and go on until another method ends it."""
        self.start()

    def ignore(self) -> None:
        """Do nothing: never start, or ignore a cancel."""

    def log(self, message: str, level: int = 20) -> None:
        """Report a log record of the body."""
        self.report(LogRecord(attempt_id=self.spec.attempt_id, message=message, level=level, logger=WORKER))

    def succeed(self, map_keys: Iterable[str] = ()) -> None:
        """End as a success with all outputs; `map_keys` are those of a task that others are mapped over.

        Nothing is stored, so that a step which loads these outputs fails; `run` stores the values of the body.
        """
        self.start()
        outputs = tuple(
            OutputRecord(
                name=output.name,
                key=output.key,
                map_keys=tuple(map_keys) if output.mode is OutputMode.DYNAMIC else None,
            )
            for output in self.spec.outputs
        )
        self.end(Ending.SUCCEEDED, outputs=outputs)

    def fail(
        self,
        reason: FailureReason = FailureReason.ERROR,
        message: str = "it failed by script",
        *,
        exception: str = "RuntimeError",
        transient: bool = True,
        evidence: Evidence | None = None,
    ) -> None:
        """End as a failure; `exception` is the qualified name of its type."""
        self.start()
        failure = Failure(reason=reason, type=exception, message=message, transient=transient, evidence=evidence)
        self.end(Ending.FAILED, failure=failure)

    def cancel(self) -> None:
        """End as cancelled."""
        self.end(Ending.CANCELLED)

    def not_started(self) -> None:
        """End before the body began, as when a worker is lost too early."""
        self.end(Ending.NOT_STARTED)

    def run(self) -> None:
        """Run the body for real, in the calling thread, and report its result."""
        self._started = True
        runner = Runner(
            self._emit,
            local=self._run.local,
            next_item=self._run.next_item,
            keep_error=self._run.keep_error,
            worker=WORKER,
            grace=self._run.grace,
            pickle_key=self._run.key,
        )
        try:
            result = runner.run_step(self.spec)
        finally:
            runner.close()
        self.report(result)

    def run_aside(self) -> None:
        """Run the body for real in a thread of its own, since `submit` may not block."""
        threading.Thread(target=self.run, name=f"rivers-scripted-{self.spec.step}", daemon=True).start()

    def end(self, ending: Ending, *, outputs: tuple[OutputRecord, ...] = (), failure: Failure | None = None) -> None:
        """Report a result with this ending."""
        self.report(
            StepResult(attempt_id=self.spec.attempt_id, ending=ending, outputs=outputs, failure=failure, worker=WORKER)
        )

    def __repr__(self) -> str:
        return f"<Attempt {self.spec.attempt} of {self.spec.step!r}>"


Act: TypeAlias = Callable[[Attempt], None]
"""The action for a submitted attempt: a method of `Attempt`, or a function of your own, which may raise."""


class Script:
    """The script of a backend, and the record of the calls that core made.

    `acts` holds the act of each step (`orders`, `graph/task`, `graph/task[key]`) for when it is submitted; a list has
    one act per submit, and its last one is used for all further submits. A single act is for all steps; steps that are
    not named succeed. `on_cancel` is the act for a cancel. `capabilities` are the backend's; its preflight reports the
    `warnings` and returns the `problems`. `preflight`, `cancel_preflight`, `open` and `close` call the function that is
    given for them, which may wait or raise.

    `attempts` are the submits and adopts in order, `calls` all calls of core, as words: `("submit", "orders")`.
    """

    def __init__(
        self,
        acts: Act | Mapping[str, Act | Sequence[Act]] | None = None,
        *,
        on_cancel: Act = Attempt.cancel,
        capabilities: Capabilities = HERE,
        problems: Sequence[Problem] = (),
        warnings: Sequence[str] = (),
        on_preflight: Callable[[], object] | None = None,
        on_cancel_preflight: Callable[[], object] | None = None,
        on_open: Callable[[], None] | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.acts = acts
        self.on_cancel = on_cancel
        self.capabilities = capabilities
        self.problems = problems
        self.warnings = warnings
        self.on_preflight = on_preflight
        self.on_cancel_preflight = on_cancel_preflight
        self.on_open = on_open
        self.on_close = on_close
        self.attempts: list[Attempt] = []
        self.calls: list[tuple[str, ...]] = []
        self._changed = threading.Condition()

    def attempt(self, step: str, number: int = 1, timeout: float = 10.0) -> Attempt:
        """Wait until core has submitted this step for the `number`-th time, and return that attempt.

        Raises:
            TimeoutError: it has not within `timeout` seconds; the text lists what was submitted.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._of(step)) >= number, timeout):
                seen = ", ".join(repr(attempt) for attempt in self.attempts) or "nothing"
                raise TimeoutError(f"submit {number} of {step!r} has not come within {timeout} s; seen: {seen}")
            return self._of(step)[number - 1]

    @property
    def submitted(self) -> list[str]:
        """The submitted steps in order, each as often as it was submitted."""
        return [attempt.spec.step for attempt in self.attempts]

    def note(self, *call: str) -> None:
        """Record a call of core."""
        with self._changed:
            self.calls.append(call)

    def perform(self, attempt: Attempt, call: str = "submit") -> None:
        """Record a submit, or an adopt, and perform its act."""
        with self._changed:
            self.calls.append((call, attempt.spec.step))
            self.attempts.append(attempt)
            act = self._act(attempt.spec.step)
            self._changed.notify_all()
        # Without the lock: an act may wait for another attempt, or end this one and so call back into core.
        act(attempt)

    def _of(self, step: str) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.spec.step == step]

    def _act(self, step: str) -> Act:
        # A mapping is no callable, so that one act and a mapping of acts are distinguished without a type of their own.
        if callable(self.acts):
            return self.acts
        acts = self.acts or {}
        act = acts.get(step) or acts.get(step.partition("[")[0]) or Attempt.succeed
        if callable(act):
            return act
        return act[min(len(self._of(step)), len(act)) - 1]


@dataclass(frozen=True, repr=False)
class ScriptedExecutor(Executor):
    """An executor that ends steps by a script; equal when the script is. Without a script all steps succeed."""

    kind = "scripted"

    script: Script | None = None


class ScriptedBackend(ExecutorBackend):
    """The backend of a `ScriptedExecutor`: records core's calls and reports by the script."""

    executor_type = ScriptedExecutor
    spi_version = (1, 1)

    def __init__(self, executor: Executor) -> None:
        super().__init__(executor)
        self.script = (executor.script if isinstance(executor, ScriptedExecutor) else None) or Script()
        self._attempts: dict[str, Attempt] = {}

    @property
    def capabilities(self) -> Capabilities:
        """The capabilities of the script."""
        return self.script.capabilities

    def observe(self, emit: Sink) -> None:
        """Keep the callback for the script's warnings."""
        self._emit = emit

    def preflight(self, specs: Iterable[StepSpec]) -> Sequence[Problem]:
        """Report the warnings of the script, call its `on_preflight`, and return its problems."""
        self.script.note("preflight")
        for warning in self.script.warnings:
            self._emit(warning_record(warning))
        if self.script.on_preflight is not None:
            self.script.on_preflight()
        return self.script.problems

    def cancel_preflight(self) -> None:
        """Record the call, and call `on_cancel_preflight` of the script."""
        self.script.note("cancel_preflight")
        if self.script.on_cancel_preflight is not None:
            self.script.on_cancel_preflight()

    def abandon(self, deadline: float) -> None:
        """Record the call."""
        self.script.note("abandon")

    def open(self, run: Run, emit: Sink) -> None:
        """Record the call, and call `on_open` of the script."""
        self.script.note("open")
        self._run, self._emit = run, emit
        if self.script.on_open is not None:
            self.script.on_open()

    def submit(self, spec: StepSpec) -> None:
        """Record the call, and perform the act of this step."""
        attempt = self._attempts[spec.attempt_id] = Attempt(spec, self._run, self._emit)
        self.script.perform(attempt)

    def adopt(self, spec: StepSpec) -> None:
        """Record the call, and perform the act of this step; for scripts whose capabilities say `adopts`."""
        attempt = self._attempts[spec.attempt_id] = Attempt(spec, self._run, self._emit)
        self.script.perform(attempt, "adopt")

    def cancel(self, attempt_id: str, grace: float) -> None:
        """Record the call, and perform `on_cancel`; do nothing for what was never submitted."""
        attempt = self._attempts.get(attempt_id)
        if attempt is None:
            return
        self.script.note("cancel", attempt.spec.step)
        attempt.grace = grace
        attempt.cancelled.set()
        self.script.on_cancel(attempt)

    def close(self, deadline: float) -> None:
        """Record the call, and call `on_close` of the script."""
        self.script.note("close")
        if self.script.on_close is not None:
            self.script.on_close()
