"""One async step among many on a loop, and the tasks that its body makes: they are told by their context."""

from __future__ import annotations

import asyncio
import contextvars
import time
from collections.abc import Collection, Coroutine
from typing import Any, TypeVar

from rivers._runner.attempt import Attempt
from rivers._runner.capture.step_output import StepOutput
from rivers._runner.event_loop.loop import OverdueError, StoppedError

__all__ = ["AsyncStep", "filed", "settled"]

FutureT = TypeVar("FutureT", bound=asyncio.Future[Any])


class AsyncStep:
    """One attempt on the loop: its task, the tasks that its body made, and why it is to end, once it is."""

    __slots__ = ("attempt", "named", "output", "reason", "task", "tasks", "timer")

    task: asyncio.Task[None]

    def __init__(self, attempt: Attempt, output: StepOutput | None) -> None:
        self.attempt = attempt
        self.output = output
        self.tasks: set[asyncio.Task[Any]] = set()
        self.reason: StoppedError | OverdueError | None = None
        self.timer: asyncio.TimerHandle | None = None
        self.named = False

    def enter(self) -> None:
        """From here on, in this context, tasks and texts belong to this step."""
        _step.set(self)
        if self.output is not None:
            self.output.enter()

    def leave(self) -> None:
        """At its task's end: else task, context and step hold each other."""
        _step.set(None)

    def next_by_the_clock(self, timer: asyncio.TimerHandle | None) -> None:
        """Replace what is to happen by the clock."""
        if self.timer is not None:
            self.timer.cancel()
        self.timer = timer


_step: contextvars.ContextVar[AsyncStep | None] = contextvars.ContextVar("rivers_async_step", default=None)


def filed(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any], **options: Any) -> asyncio.Task[Any]:
    """A task factory: what a body makes is filed under its step."""
    task: asyncio.Task[Any] = asyncio.Task(coroutine, loop=loop, **options)
    context = options.get("context")
    step = _step.get() if context is None else context.get(_step)
    if (
        step is not None
        and step.task.get_loop() is loop
        and type(coroutine).__name__ != "async_generator_athrow"  # the loop closes a generator that nobody holds
    ):
        step.tasks.add(task)
        task.add_done_callback(step.tasks.discard)
    return task


async def settled(futures: Collection[FutureT], seconds: float | None = None) -> tuple[set[FutureT], set[FutureT]]:
    """Wait for these, whoever cancels this task meanwhile; returns those that are done and those that are not."""
    ends = None if seconds is None else time.monotonic() + seconds
    while True:
        try:
            return await asyncio.wait(futures, timeout=None if ends is None else max(0.0, ends - time.monotonic()))
        except asyncio.CancelledError:
            continue
