"""Call the hooks of a run in a thread of their own, so that they can neither fail nor hang the run.

run loop ── event ──▶ queue ──▶ thread ── HookContext ──▶ hook, one after another
   │                              └─ raises, or takes too long ──▶ RunWarning
   └── finish, before RunFinished: waits for the queue, up to a deadline
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from traceback import extract_tb
from typing import Any

import msgspec
from pydantic import BaseModel

from rivers._definitions.hook import Hook, HookContext
from rivers._definitions.job import Job
from rivers._events.event import Event, StepFailed, StepSucceeded
from rivers._io.context import InputContext
from rivers._plan.plan import Plan, Step
from rivers._plan.report import StepReport, StepState
from rivers._record.redact import Redactor
from rivers._repository.errors import make_exception
from rivers._runner.own_frames import skip_own_frames
from rivers.protocol.exception_text import describe_exception, type_name
from rivers.protocol.result import OutputRecord

__all__ = ["HookRunner", "prepare_hooks"]

CALL_DEADLINE = 30.0
"""Seconds that one call of a hook may take; then it is given up, and the hook is not called again in this run."""
FINISH_DEADLINE = 60.0
"""Seconds that the end of a run waits for all hooks that are not done."""

End = StepSucceeded | StepFailed


@dataclass(slots=True)
class _Call:
    hook: Hook
    event: End
    step: Step
    started: float = 0.0


class HookRunner:
    """The hooks of one run.

    A hook that stands at several places is called once for a step: those of the asset come first, then the job's, then
    the repository's.
    """

    def __init__(
        self,
        plan: Plan,
        hooks: Sequence[Hook],
        redactor: Redactor,
        *,
        configs: Mapping[str, str],
        tags: Mapping[str, str],
        job: str | None,
    ) -> None:
        self._plan = plan
        self._steps = {step.key: step for step in plan.steps}
        self._shared = tuple(hooks)
        self._redactor = redactor
        self._configs = configs
        self._tags = tags
        self._job = job
        self._warn: Callable[[str, str], None] = lambda message, step: None
        self._errors: Mapping[str, BaseException] = {}
        self._calls: deque[_Call] = deque()
        self._current: _Call | None = None
        self._stuck: set[Hook] = set()
        self._is_closed = False
        self._problems: list[tuple[str, str]] = []
        # Guards all of the above; notified by each call that ends.
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        # Those of the caller, as a hook may look for its logger or its span there.
        self._variables = contextvars.copy_context()

    def begin(self, warn: Callable[[str, str], None], errors: Mapping[str, BaseException]) -> None:
        """Take the function that warns of a problem at a step, and the live exceptions of bodies by step."""
        self._warn, self._errors = warn, errors

    def __call__(self, event: Event) -> None:
        """Queue the hooks that the event is for; returns at once."""
        if not isinstance(event, StepSucceeded | StepFailed):
            return
        # A mapping key follows in brackets, which no name contains.
        step = self._steps[event.step.partition("[")[0]]
        hook_type = "success" if isinstance(event, StepSucceeded) else "failure"
        own = getattr(step.node.owner, "hooks", ())
        # A dict keeps the order, and each hook once.
        found = dict.fromkeys(hook for hook in (*own, *self._shared) if hook.hook_type == hook_type)
        if not found:
            return
        with self._changed:
            self._calls.extend(_Call(hook, event, step) for hook in found)
            self._give_up_if_stuck()
            if self._thread is None:
                self._start()
        self._report()

    def finish(self) -> None:
        """Wait until all hooks were called, or a deadline has passed, and call none from then on."""
        end = time.monotonic() + FINISH_DEADLINE
        with self._changed:
            try:
                self._wait(end)
            finally:
                self._close()
        self._report()

    def _report(self) -> None:
        """Warn of problems; without the lock, as the run loop calls this object with its own lock held."""
        while self._problems:
            self._warn(*self._problems.pop(0))

    # ── with the lock held ──

    def _wait(self, end: float) -> None:
        while self._thread is not None and (self._calls or self._current is not None):
            now = time.monotonic()
            if now >= end:
                return
            due = self._current.started + CALL_DEADLINE if self._current is not None else end
            self._changed.wait(max(0.0, min(end, due) - now) + 0.001)
            self._give_up_if_stuck()

    def _start(self) -> None:
        # A daemon: a hook that hangs must not keep the process from its end.
        self._thread = threading.Thread(
            target=self._variables.copy().run, args=(self._work,), name="rivers-hooks", daemon=True
        )
        self._thread.start()

    def _give_up_if_stuck(self) -> None:
        call = self._current
        if call is None or time.monotonic() < call.started + CALL_DEADLINE:
            return
        self._stuck.add(call.hook)
        # The next step would wait for it as long again.
        dropped = [other for other in self._calls if other.hook is call.hook]
        self._calls = deque(other for other in self._calls if other.hook is not call.hook)
        rest = f" ({len(dropped)} further calls are left out)" if dropped else ""
        self._add(call, f"has not returned within {CALL_DEADLINE:g} s and is not called again in this run{rest}")
        # The thread that runs it ends with its call; another one goes on.
        self._current = self._thread = None
        self._start()

    def _close(self) -> None:
        self._is_closed = True
        call = self._current
        if call is not None:
            waited = time.monotonic() - call.started
            self._add(call, f"had not returned after {waited:.0f} s, when the run ended")
        names = sorted({f"{other.hook.name!r}" for other in self._calls})
        if names:
            message = f"{len(self._calls)} calls of hooks were left out as the run ended: {', '.join(names)}"
            self._problems.append((message, ""))
        self._calls.clear()
        self._current = None
        self._changed.notify_all()

    def _add(self, call: _Call, problem: str) -> None:
        text = f"the {call.hook.hook_type} hook {call.hook.name!r} of step {call.event.step!r} {problem}"
        self._problems.append((self._redactor.text(text), call.event.step))

    # ── the thread ──

    def _work(self) -> None:
        me = threading.current_thread()
        while True:
            with self._changed:
                if self._thread is not me or self._is_closed or not self._calls:
                    # The next event starts another thread.
                    if self._thread is me:
                        self._thread = None
                    self._changed.notify_all()
                    return
                call = self._calls.popleft()
                call.started = time.monotonic()
                if call.hook in self._stuck:
                    continue
                self._current = call
                # The end of the run waits for this call's own deadline from now on.
                self._changed.notify_all()
            problem = self._run(call)
            with self._changed:
                if problem is not None and self._current is call:
                    self._add(call, problem)
            # Before the call counts as done, since the end of the run waits for it, and its last event comes after.
            self._report()
            with self._changed:
                if self._current is call:
                    self._current = None
                    self._changed.notify_all()

    def _run(self, call: _Call) -> str | None:
        """Call a hook and return its problem, if any."""
        try:
            result = call.hook(self._context(call))
            if inspect.isawaitable(result):
                asyncio.run(_wait_for(result))
        # A hook is the user's code: also a SystemExit of it is only reported.
        except BaseException as error:  # noqa: BLE001
            frames = extract_tb(skip_own_frames(error.__traceback__))
            where = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
            return f"raised {describe_exception(error)}{where}"
        return None

    def _context(self, call: _Call) -> HookContext[Any]:
        event, step, hook = self._redact(call.event), call.step, call.hook
        failure = event.failure if isinstance(event, StepFailed) else None
        is_success = isinstance(event, StepSucceeded)
        kind = self._plan.executors[step.executor_index].kind
        return HookContext(
            step.node.owner.name,
            hook.hook_type,
            run_id=event.run_id,
            error=failure.summary if failure is not None else None,
            metadata=_metadata(event.outputs) if isinstance(event, StepSucceeded) else None,
            config=_config(hook, self._configs.get(step.node.definition.name)),
            step_key=event.step,
            job_name=self._job,
            hook_name=hook.name,
            tags=self._tags,
            assets=step.assets,
            executor=kind,
            worker=event.worker,
            attempts=event.attempt,
            timings=event.timings,
            failure=failure,
            exception=self._exception(event, kind) if isinstance(event, StepFailed) else None,
            partition=step.node.partition,
            load_output=(lambda: _load(step, call.event)) if is_success else None,
        )

    def _redact(self, event: End) -> End:
        if not self._redactor:
            return event
        return msgspec.json.decode(self._redactor.line(msgspec.json.encode(event)), type=StepSucceeded | StepFailed)

    def _exception(self, event: StepFailed, kind: str) -> BaseException:
        live = self._errors.get(event.step)
        # An earlier attempt may have raised, and the last one was stopped from outside.
        if live is not None and type_name(type(live)) == event.failure.type:
            return live
        report = StepReport(
            event.step, StepState.FAILED, kind, event.attempt, event.timings, event.worker, (event.failure,)
        )
        return make_exception(report, event.run_id, None, [])


def prepare_hooks(
    plan: Plan,
    job: Job | None,
    hooks: Sequence[Hook],
    redactor: Callable[[], Redactor],
    configs: Mapping[str, str],
    tags: Mapping[str, str],
) -> HookRunner | None:
    """Return the runner of a run's hooks, None where neither its assets nor its job nor its repository has one.

    `hooks` are the repository's; `redactor` is called only if there are any.
    """
    shared = (*(job.hooks if job is not None else ()), *hooks)
    if not shared and not any(getattr(step.node.owner, "hooks", ()) for step in plan.steps):
        return None
    return HookRunner(plan, shared, redactor(), configs=configs, tags=tags, job=job.name if job is not None else None)


async def _wait_for(result: Any) -> None:
    await result


def _metadata(outputs: Sequence[OutputRecord]) -> dict[str, Any] | None:
    found = {output.name: msgspec.json.decode(output.metadata) for output in outputs if output.metadata is not None}
    # As the body attached it, where there is no name to choose by.
    if len(outputs) == 1:
        return next(iter(found.values()), None)
    return found or None


def _config(hook: Hook, text: str | None) -> Any:
    model = hook.config_model
    if model is not None and issubclass(model, BaseModel):
        return model.model_validate_json(text or "{}")
    return msgspec.json.decode(text) if text is not None else {}


def _load(step: Step, event: End) -> Any:
    """Load the stored value of a step; a dict by output name for several."""
    if not isinstance(event, StepSucceeded):
        return None
    stored = {output.name: output for output in step.node.outputs}
    reader, partition = step.node.owner.name, step.node.partition
    found: dict[str, Any] = {}
    for record in event.outputs:
        output = stored[record.name]

        # Of this run: a later one may have stored another value before the hook is called.
        def load(key: str, handler: Any = output.io_handler, metadata: Any = output.metadata) -> Any:
            return handler.load_input(InputContext(key, reader, metadata, run_id=event.run_id, partition=partition))

        if record.map_keys is None:
            found[record.name] = load(record.key)
        else:
            found[record.name] = [load(f"{record.key}[{key}]") for key in record.map_keys]
    return next(iter(found.values()), None) if len(stored) == 1 else found
