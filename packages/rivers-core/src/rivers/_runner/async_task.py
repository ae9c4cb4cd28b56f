"""One of many async steps on a loop, and the tasks that its body creates."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar

from rivers._runner.attempt import RunningAttempt
from rivers._runner.capture.step_output import StepOutput
from rivers._runner.event_loop.loop import OverdueError, StoppedError
from rivers._telemetry.worker import enter_trace

__all__ = ["AsyncStep", "step_task_factory", "wait_uncancelled"]

FutureT = TypeVar("FutureT", bound=asyncio.Future[Any])


class AsyncStep:
    """An attempt on the loop: its task, the tasks that its body created, and the reason to end it, if there is one."""

    __slots__ = ("attempt", "named", "output", "reason", "task", "tasks", "timer")

    task: asyncio.Task[None]

    def __init__(self, attempt: RunningAttempt, output: StepOutput | None) -> None:
        self.attempt = attempt
        self.output = output
        self.tasks: set[asyncio.Task[Any]] = set()
        self.reason: StoppedError | OverdueError | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.named = False

    def enter(self) -> None:
        """Assign tasks, output and spans of this context to this step from here on."""
        _step.set(self)
        if self.output is not None:
            self.output.enter()
        if self.attempt.spec.trace_context is not None:
            enter_trace(self.attempt.spec.trace_context)

    def leave(self) -> None:
        """Release the step at the end of its task, as task, context and step refer to each other."""
        _step.set(None)

    def set_timer(self, timer: asyncio.TimerHandle | None) -> None:
        """Replace the pending timer."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = timer


_step: contextvars.ContextVar[AsyncStep | None] = contextvars.ContextVar("rivers_async_step", default=None)


def step_task_factory(
    loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any
) -> asyncio.Task[Any]:
    """Create a task and record it with the step whose body creates it."""
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
    context = options.get("context")
    step = _step.get() if context is None else context.get(_step)
    if (
        step is not None
        and step.task.get_loop() is loop
        # The loop itself closes an abandoned generator.
        and type(coroutine).__name__ != "async_generator_athrow"
    ):
        step.tasks.add(task)
        task.add_done_callback(step.tasks.discard)
    return task


async def wait_uncancelled(
    futures: Collection[FutureT], seconds: float | None = None
) -> tuple[set[FutureT], set[FutureT]]:
    """Wait for futures even if this task is cancelled; return those that are done and those that are not."""
    ends = None if seconds is None else time.monotonic() + seconds
    while True:
        try:
            return await asyncio.wait(futures, timeout=None if ends is None else max(0.0, ends - time.monotonic()))
        except asyncio.CancelledError:
            continue
