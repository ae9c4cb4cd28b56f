"""Run many async steps concurrently, each as a task of one event loop in a thread of its own.

    any thread              the loop's thread                                    pool
    ──────────              ─────────────────                                    ────
    submit ──┐
    stop ────┴─▶ inbox ────▶ StepStarted, and a task for each spec
        one wake-up for many   load ─────────────── remote values ─────────────▶ IO handlers, setup()
                               call   with its timeout
                               sweep  background tasks that the body has left
                               store ────────────── remote values ─────────────▶ IO handlers
                             StepResult

A body that does not await delays all the others: `LoopWatch` reports it.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
import types
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from rivers._io.base import Reach
from rivers._runner.async_task import AsyncStep, step_task_factory, wait_uncancelled
from rivers._runner.attempt import (
    RunningAttempt,
    call_body,
    failed_result,
    make_context,
    succeeded_result,
    take_positional,
)
from rivers._runner.callee import Callee
from rivers._runner.capture.step_output import StepOutput, outside
from rivers._runner.capture.streams import Capture
from rivers._runner.event_loop.loop import (
    ABANDON,
    CANCEL_AGAIN,
    OverdueError,
    StoppedError,
    collect_items,
    describe_abandoned,
    retrieve_exception,
    unexpected_cancellation,
)
from rivers._runner.event_loop.loop_thread import LoopThread
from rivers._runner.inputs import Inputs, ValueStream
from rivers._runner.iterators import list_iterators
from rivers._runner.outputs import check_outputs, store
from rivers._runner.refs import Resolver
from rivers._runner.resources import Resources
from rivers._runner.results import warning_record
from rivers._runner.step_context import StepContexts
from rivers.protocol.ref import Ref
from rivers.protocol.result import OutputRecord, StepEvent, StepResult, StepStarted
from rivers.protocol.spec import CollectInput, GroupInput, PartitionsInput, ResourceInput, StepSpec, StoredInput
from rivers_process.exit import end_forked_child

__all__ = ["AsyncRunner"]

T = TypeVar("T")

AT_ONCE = 500
"""Steps begun in one turn of the loop, so that running steps have their turns in between."""


class AsyncRunner:
    """A runner for the async steps of one run, all at once, in this process.

    The first `submit` starts the loop and its threads, which call `emit`: once with StepStarted, with each log record,
    and once with StepResult for each attempt. `local` holds the objects behind LocalRefs. `keep_error` receives the
    exception of a failed attempt. A cancelled body has `grace` seconds at most: after half of them it is cancelled
    again, and after four fifths abandoned.

    A timeout and a stop reach a body at its next await. A body that never awaits cannot be ended: a warning names it,
    and its timeout takes effect when it yields to the loop.
    """

    def __init__(
        self,
        emit: Callable[[StepEvent], None],
        *,
        local: Mapping[str, Any] | None = None,
        keep_error: Callable[[str, BaseException], None] | None = None,
        worker: str | None = None,
        grace: float = 10.0,
    ) -> None:
        self._pid = os.getpid()
        self.worker = worker or f"pid {self._pid}"
        self._emit = outside(emit)
        self._keep_error = keep_error
        self._grace = grace
        self._resolver = Resolver(local)
        self._resources = Resources(self._resolver)
        self._setups: dict[str, asyncio.Future[Any]] = {}
        self._inputs = Inputs(self._resolver, self._resources, None)
        self._callees: dict[Ref, Callee] = {}
        self._remote: dict[Ref, bool] = {}
        self._contexts = StepContexts()
        self._capturing = False
        self._inbox: deque[StepSpec | str] = deque()
        self._woken = False
        self._running: dict[str, AsyncStep] = {}
        self._abandoned: set[asyncio.Task[Any]] = set()
        self._lock = threading.Lock()
        self._thread: LoopThread | None = None
        self._closed = False

    def submit(self, spec: StepSpec) -> None:
        """Start an attempt and return at once; safe from any thread.

        Raises:
            RuntimeError: the runner is closed.
        """
        if self._thread is None or self._closed:
            with self._lock:
                if self._closed:
                    raise RuntimeError(f"attempt {spec.attempt_id!r} was submitted to a runner that is closed")
                if self._thread is None:
                    self._thread = LoopThread(step_task_factory, lambda: bool(self._running), self._blocked)
        self._inbox.append(spec)
        self._wake(self._thread)

    def stop(self, attempt_id: str) -> None:
        """Cancel an attempt that waits or runs, from any thread; does nothing if it has ended or is unknown.

        An attempt that stores its outputs already runs to its end.
        """
        if self._thread is not None:
            self._inbox.append(attempt_id)
            with contextlib.suppress(RuntimeError):  # the loop is closed: nothing runs
                self._wake(self._thread)

    def close(self, deadline: float) -> list[str]:
        """Cancel all attempts, tear down resources, end the threads; return the problems, one line each.

        Takes about `deadline` seconds at most. An attempt that has not ended by then is reported as cancelled.
        """
        with self._lock:
            if self._closed:
                return []
            self._closed = True
        problems: list[str] = []
        if self._thread is not None:
            self._grace = min(self._grace, deadline / 5)
            problems += self._thread.close(self._finish, self._grace, deadline)
            self._cancel_rest()
        problems += self._resources.close()
        if self._capturing:
            self._capturing = False
            Capture.remove()
        return problems

    def _cancel_rest(self) -> None:
        """Report the attempts that have not ended as cancelled; if their body yields later, nothing is stored."""
        waiting, self._inbox = self._inbox, deque()
        for step in [*self._running.values()]:
            step.reason = StoppedError()
            self._emit_result(step, failed_result(step.attempt, step.reason, self.worker, None))
        for given in waiting:
            if not isinstance(given, str):
                self._emit(failed_result(RunningAttempt(given), StoppedError(), self.worker, None))
        self._emit = lambda event: None

    @property
    def _loop(self) -> asyncio.AbstractEventLoop:
        assert self._thread is not None
        return self._thread.loop

    def _wake(self, thread: LoopThread) -> None:
        """Have the loop read the inbox, once for all that arrives until then."""
        if not self._woken:
            self._woken = True
            thread.loop.call_soon_threadsafe(self._drain_inbox)

    def _drain_inbox(self) -> None:
        self._woken = False
        for _ in range(min(len(self._inbox), AT_ONCE)):
            given = self._inbox.popleft()
            if not isinstance(given, str):
                self._begin(given)
            elif given in self._running:
                self._end(self._running[given], StoppedError())
        if self._inbox and not self._woken:
            self._woken = True
            self._loop.call_soon(self._drain_inbox)
        if self._thread is not None and self._thread.watch.asleep:
            self._thread.watch.wake()

    def _begin(self, spec: StepSpec) -> None:
        attempt = RunningAttempt(spec)
        self._emit(StepStarted(attempt_id=spec.attempt_id, worker=self.worker, time=time.time()))
        step = self._running[spec.attempt_id] = AsyncStep(attempt, self._open_output(spec))
        scope = self._contexts.new()
        scope.run(step.enter)
        step.task = asyncio.Task(self._run(step), loop=self._loop, name=spec.step, context=scope)

    def _open_output(self, spec: StepSpec) -> StepOutput | None:
        if not spec.logs.capture:
            return None
        if not self._capturing:
            self._capturing = True
            Capture.install(spec.logs.level)
        return StepOutput(spec.attempt_id, spec.logs.level, self._emit)

    async def _run(self, step: AsyncStep) -> None:
        attempt = step.attempt
        try:
            result = succeeded_result(attempt, await self._outputs(step), self.worker)
        except BaseException as error:  # noqa: BLE001 - a body may raise anything, and none of it may end the loop
            if self._running.get(attempt.spec.attempt_id) is not step:
                return  # it was abandoned, and is now being garbage-collected
            result = failed_result(attempt, error, self.worker, self._keep_error)
        self._emit_result(step, result)
        step.leave()

    async def _outputs(self, step: AsyncStep) -> tuple[OutputRecord, ...]:
        spec, attempt = step.attempt.spec, step.attempt
        callee = self._callee_of(spec.function)
        try:
            attempt.interruptible = True
            if step.reason is not None:
                raise step.reason
            arguments, streams = await self._load(spec, callee)
            context = make_context(spec, callee, arguments)
            attempt.loaded = time.perf_counter()
            value = await self._value(step, callee, arguments)
        except GeneratorExit:  # of an abandoned task whose loop is closed
            raise
        except BaseException as error:
            if os.getpid() != self._pid:  # the body forked, and this is the child: the attempt has one result
                end_forked_child(error)
            if step.reason is not None:
                raise step.reason from error  # its traceback says where the body was
            if isinstance(error, asyncio.CancelledError):
                raise unexpected_cancellation() from error
            raise
        finally:
            if os.getpid() != self._pid:
                end_forked_child(None)
            attempt.interruptible = False
            step.set_timer(None)
            if step.tasks and self._running.get(spec.attempt_id) is step:
                await self._sweep(step)
            if attempt.loaded:
                attempt.called = time.perf_counter()
        attempt.check_stored(step.reason is not None, streams)
        outputs = check_outputs(spec, callee, value)
        extra, version = (context.output_metadata, context.data_version) if context is not None else (None, None)
        given = (spec, callee, outputs, self._resolver, extra, version)
        for declared in spec.outputs:
            if self._is_remote(declared.io_handler):
                return await self._stored(*given)
        return store(*given)

    async def _load(self, spec: StepSpec, callee: Callee) -> tuple[dict[str, Any], list[ValueStream]]:
        remote = False
        for given in spec.inputs:
            if isinstance(given, ResourceInput):
                if not self._resources.is_ready(given.name):
                    await self._set_up(given)
            elif isinstance(given, StoredInput | CollectInput | GroupInput | PartitionsInput):
                remote = remote or self._is_remote(given.io_handler)
        if remote:
            return await self._in_pool(self._inputs.load, spec, callee.hints)
        return self._inputs.load(spec, callee.hints)

    async def _value(self, step: AsyncStep, callee: Callee, arguments: dict[str, Any]) -> Any:
        timeout = step.attempt.spec.timeout
        if timeout is not None:
            step.set_timer(self._loop.call_later(timeout, self._end, step, OverdueError()))
        value = call_body(callee, take_positional(callee, arguments), arguments)
        if type(value) is types.AsyncGeneratorType:
            value = collect_items(value)
        if type(value) is types.CoroutineType:
            value = list_iterators(await value)
            if step.task.cancelling():
                await asyncio.sleep(0)  # let a pending cancellation arrive here and not while values are stored
        return value

    async def _set_up(self, given: ResourceInput) -> None:
        """Set a resource up once for all steps that wait for it, even if one of them is cancelled."""
        setup = self._setups.get(given.name)
        if setup is None:
            setup = self._setups[given.name] = self._in_pool(self._resources.get, given.name, given.ref)
            setup.add_done_callback(lambda _: self._setups.pop(given.name))
        await asyncio.wait([setup])
        error = setup.exception()
        if error is not None:
            raise error.with_traceback(None)  # it would grow with each step that raises it

    async def _stored(self, *given: Any) -> tuple[OutputRecord, ...]:
        storing = self._in_pool(store, *given)
        await wait_uncancelled([storing])
        return storing.result()

    def _in_pool(self, function: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:
        assert self._thread is not None
        future = self._thread.in_pool(function, *arguments)
        future.add_done_callback(retrieve_exception)  # its waiter may have been cancelled
        return future

    def _callee_of(self, ref: Ref) -> Callee:
        found = self._callees.get(ref)
        if found is None:
            found = self._callees[ref] = Callee(self._resolver.resolve(ref))
        return found

    def _is_remote(self, ref: Ref) -> bool:
        """Return whether a handler may block for long; for the others a thread costs more than the call."""
        remote = self._remote.get(ref)
        if remote is None:
            remote = self._remote[ref] = self._resolver.resolve(ref).reach >= Reach.ANYWHERE
        return remote

    def _emit_result(self, step: AsyncStep, result: StepResult) -> None:
        """Emit the result of a step unless it has one already."""
        if self._running.pop(result.attempt_id, None) is not None:
            if step.output is not None:
                step.output.finish()
            self._emit(result)

    def _warn(self, step: AsyncStep, message: str) -> None:
        self._emit(warning_record(message, step.attempt.spec.attempt_id))

    def _end(self, step: AsyncStep, reason: StoppedError | OverdueError) -> None:
        again = step.reason is not None
        if again and not self._closed:
            return  # a second cancel, such as core's own for a timeout, would cut short the body's cleaning up
        step.reason = step.reason or reason
        # Else it has not begun, and will look, or its body is over.
        if step.attempt.interruptible:
            if not again:
                step.task.cancel()
            step.set_timer(self._loop.call_later(self._grace * CANCEL_AGAIN, self._end_again, step))

    def _end_again(self, step: AsyncStep) -> None:
        if step.attempt.interruptible:
            step.task.cancel()
            step.set_timer(self._loop.call_later(self._grace * (ABANDON - CANCEL_AGAIN), self._abandon, step))

    def _abandon(self, step: AsyncStep) -> None:
        attempt = step.attempt
        if not attempt.interruptible or step.reason is None:
            return
        step.reason.detail = describe_abandoned(step.task)
        self._warn(step, f"after the step: the async body {step.reason.detail}")
        for task in step.tasks:
            task.cancel()
        self._abandoned.add(step.task)
        if attempt.loaded:
            attempt.called = time.perf_counter()
        self._emit_result(step, failed_result(attempt, step.reason, self.worker, self._keep_error))

    async def _sweep(self, step: AsyncStep) -> None:
        """Cancel and await the background tasks that the body left."""
        left = [task for task in step.tasks if not task.done()]
        if not left:
            return
        for task in left:
            task.cancel()
        done, stuck = await wait_uncancelled(left, self._grace)
        for task in done:
            retrieve_exception(task)
        self._abandoned |= stuck
        names = ", ".join(sorted(task.get_name() for task in left))
        self._warn(step, f"after the step: the async body left background tasks, which were cancelled: {names}")

    async def _finish(self) -> set[asyncio.Task[Any]]:
        """Cancel all that runs or waits in the inbox; return the abandoned tasks."""
        while self._inbox:
            self._drain_inbox()
        for step in [*self._running.values()]:
            self._end(step, StoppedError())
        tasks = [step.task for step in self._running.values()]
        if tasks:
            await asyncio.wait(tasks, timeout=self._grace)
        for step in [*self._running.values()]:
            self._abandon(step)
        return self._abandoned

    def _blocked(self, task: asyncio.Task[Any], seconds: float) -> None:
        """Report a task that blocks the loop; called in the watchdog's thread."""
        assert self._thread is not None
        for step in [*self._running.values()]:
            # A body that has returned cannot await any more: then it is the value that takes long to be stored.
            if (task is step.task or task in step.tasks) and step.attempt.interruptible and not step.named:
                step.named = True
                self._warn(
                    step,
                    f"the step has blocked the event loop, and all other async steps with it, for more than "
                    f"{seconds:.1f} s, {self._thread.position()}; await there, or make the body a plain function",
                )
