"""An executor that ends steps by script: in any order, late, twice or never. For tests, without a single process.

    script = Script({"load": [Attempt.fail, Attempt.succeed], "slow": Attempt.hold})
    handle = repository.submit(executor=ScriptedExecutor(script))
    script.attempt("slow").succeed()          # waits until core has submitted it, then ends it
    assert handle.wait(10).success

Who writes an executor sees here how core treats a backend; who writes assets tests what a run makes of crashes, lost
machines and timeouts that cannot be had at will.
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
"""What a scripted backend can do unless its script says otherwise: any number of steps at once, closures, any store."""


class Attempt:
    """One attempt that core has submitted; it ends when, how and as often as you say, from any thread.

    Its methods are what a `Script` is made of. `cancelled` is set once core has asked for its end, and `grace` is then
    the seconds it was given.
    """

    def __init__(self, spec: StepSpec, run: Run, emit: Sink) -> None:
        self.spec = spec
        self.cancelled = threading.Event()
        self.grace: float | None = None
        self._run = run
        self._emit = emit
        self._started = False

    def report(self, event: StepEvent) -> None:
        """Send an event as it is, also one that makes no sense."""
        self._emit(event)

    def start(self) -> None:
        """Report that the attempt has reached its worker; the endings do it themselves, once."""
        if not self._started:
            self._started = True
            self.report(StepStarted(attempt_id=self.spec.attempt_id, worker=WORKER, time=time.time()))

    def hold(self) -> None:
        """Start and go on, until somebody ends it."""
        self.start()

    def ignore(self) -> None:
        """Do nothing: never start, or do not react to a cancel."""

    def log(self, message: str, level: int = 20) -> None:
        """Report a log record of the body."""
        self.report(LogRecord(attempt_id=self.spec.attempt_id, message=message, level=level, logger=WORKER))

    def succeed(self, map_keys: Iterable[str] = ()) -> None:
        """End as a success that claims its outputs; `map_keys` are those of a task that others are mapped over.

        Nothing is stored: what loads these outputs will miss them. `run` stores what the body returns.
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
        """End before the body began, as when a worker goes away too early."""
        self.end(Ending.NOT_STARTED)

    def run(self) -> None:
        """Run the body for real, in the thread that calls, and report its end."""
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
        """Run the body for real in a thread of its own, as `submit` may not block."""
        threading.Thread(target=self.run, name=f"rivers-scripted-{self.spec.step}", daemon=True).start()

    def end(self, ending: Ending, *, outputs: tuple[OutputRecord, ...] = (), failure: Failure | None = None) -> None:
        """Report an end as it is."""
        self.report(
            StepResult(attempt_id=self.spec.attempt_id, ending=ending, outputs=outputs, failure=failure, worker=WORKER)
        )

    def __repr__(self) -> str:
        return f"<Attempt {self.spec.attempt} of {self.spec.step!r}>"


Act: TypeAlias = Callable[[Attempt], None]
"""What becomes of an attempt when core submits it: a method of `Attempt`, or a function of your own that may raise."""


class Script:
    """What a scripted backend does, and what core asked of it.

    `acts` says for each step (`orders`, `graph/task`, `graph/task[key]`) what happens when it is submitted; a list has
    an act for each submit, of which the last holds for all further ones. A single act is for all steps; what is not
    named succeeds. `on_cancel` is what an attempt does when core asks for its end. `capabilities` are the backend's,
    `problems` what its preflight finds once it has reported the `warnings`; `on_open` and `on_close` are called then
    and may wait or raise.

    `attempts` are the submits in order, `calls` everything that core called, as words: `("submit", "orders")`.
    """

    def __init__(
        self,
        acts: Act | Mapping[str, Act | Sequence[Act]] | None = None,
        *,
        on_cancel: Act = Attempt.cancel,
        capabilities: Capabilities = HERE,
        problems: Sequence[Problem] = (),
        warnings: Sequence[str] = (),
        on_open: Callable[[], None] | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        self.acts = acts
        self.on_cancel = on_cancel
        self.capabilities = capabilities
        self.problems = problems
        self.warnings = warnings
        self.on_open = on_open
        self.on_close = on_close
        self.attempts: list[Attempt] = []
        self.calls: list[tuple[str, ...]] = []
        self._changed = threading.Condition()

    def attempt(self, step: str, number: int = 1, timeout: float = 10.0) -> Attempt:
        """Wait until core has submitted this step for the `number`-th time, and return that attempt.

        Raises:
            TimeoutError: it has not after `timeout` seconds; says what was submitted.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: len(self._of(step)) >= number, timeout):
                seen = ", ".join(repr(attempt) for attempt in self.attempts) or "nothing"
                raise TimeoutError(f"submit {number} of {step!r} has not come within {timeout} s; seen: {seen}")
            return self._of(step)[number - 1]

    @property
    def submitted(self) -> list[str]:
        """The steps that core has submitted, in order, each as often as it was."""
        return [attempt.spec.step for attempt in self.attempts]

    def note(self, *call: str) -> None:
        """Write down a call of core's."""
        with self._changed:
            self.calls.append(call)

    def perform(self, attempt: Attempt) -> None:
        """Write down a submit, then do what the script says."""
        with self._changed:
            self.calls.append(("submit", attempt.spec.step))
            self.attempts.append(attempt)
            act = self._act(attempt.spec.step)
            self._changed.notify_all()
        act(attempt)

    def _of(self, step: str) -> list[Attempt]:
        return [attempt for attempt in self.attempts if attempt.spec.step == step]

    def _act(self, step: str) -> Act:
        if callable(self.acts):
            return self.acts
        acts = self.acts or {}
        act = acts.get(step) or acts.get(step.partition("[")[0]) or Attempt.succeed
        if callable(act):
            return act
        return act[min(len(self._of(step)), len(act)) - 1]


@dataclass(frozen=True, repr=False)
class ScriptedExecutor(Executor):
    """The executor that ends steps by script; two are equal when they have the same script. Without one all succeed."""

    kind = "scripted"

    script: Script | None = None


class ScriptedBackend(ExecutorBackend):
    """Carries out a `ScriptedExecutor`: writes down what core asks, and reports what the script says."""

    executor_type = ScriptedExecutor

    def __init__(self, executor: Executor) -> None:
        super().__init__(executor)
        self.script = (executor.script if isinstance(executor, ScriptedExecutor) else None) or Script()
        self._attempts: dict[str, Attempt] = {}

    @property
    def capabilities(self) -> Capabilities:
        """Those of the script."""
        return self.script.capabilities

    def observe(self, emit: Sink) -> None:
        """Keep the callback for the script's warnings."""
        self._emit = emit

    def preflight(self, specs: Iterable[StepSpec]) -> Sequence[Problem]:
        """Report the script's warnings, and find its problems."""
        self.script.note("preflight")
        for warning in self.script.warnings:
            self._emit(warning_record(warning))
        return self.script.problems

    def open(self, run: Run, emit: Sink) -> None:
        """Note it, and do what the script says."""
        self.script.note("open")
        self._run, self._emit = run, emit
        if self.script.on_open is not None:
            self.script.on_open()

    def submit(self, spec: StepSpec) -> None:
        """Note it, and do what the script says for this step."""
        attempt = self._attempts[spec.attempt_id] = Attempt(spec, self._run, self._emit)
        self.script.perform(attempt)

    def cancel(self, attempt_id: str, grace: float) -> None:
        """Note it, and do what the script says; nothing for what was never submitted."""
        attempt = self._attempts.get(attempt_id)
        if attempt is None:
            return
        self.script.note("cancel", attempt.spec.step)
        attempt.grace = grace
        attempt.cancelled.set()
        self.script.on_cancel(attempt)

    def close(self, deadline: float) -> None:
        """Note it, and do what the script says."""
        self.script.note("close")
        if self.script.on_close is not None:
            self.script.on_close()
