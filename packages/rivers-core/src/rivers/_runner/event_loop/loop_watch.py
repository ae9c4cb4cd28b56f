"""Watch an event loop from another thread and report the task that blocks it."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import threading
import time
from collections.abc import Callable
from itertools import dropwhile
from types import FrameType
from typing import Any

from rivers._runner.own_frames import is_own_frame

__all__ = ["LoopWatch", "describe_position"]

LIMIT = 1.0
"""Seconds that a task may hold the loop before it is reported."""
PERIOD = 0.5
"""Seconds between two checks while anything runs."""

STOP_DEADLINE = 5.0
"""Seconds to wait for the end of the watchdog, which may be in the middle of a report."""


class LoopWatch:
    """A watchdog thread for one loop, which sleeps while `busy()` is false.

    It calls `blocked(task, seconds)` in its thread, repeatedly, for a task that has held the loop for that long. A busy
    loop is not blocked: only a task that is found running twice within one turn of the loop counts.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        busy: Callable[[], bool],
        blocked: Callable[[asyncio.Task[Any], float], None],
    ) -> None:
        self.asleep = False
        self._loop = loop
        self._busy = busy
        self._blocked = blocked
        self._turned = True
        self._finished = False
        self._changed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="rivers-async-watch", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Resume, as something runs again; called if `asleep` is true."""
        self._changed.set()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._finished = True
        self._changed.set()
        self._thread.join(STOP_DEADLINE)

    def _work(self) -> None:
        holder: asyncio.Task[Any] | None = None
        since = 0.0
        while not self._finished:
            if self._turned:
                holder = None
                self._turned = False
                # The loop is closed, and this thread about to end.
                with contextlib.suppress(RuntimeError):
                    self._loop.call_soon_threadsafe(self._turn)
            else:
                found, now = asyncio.current_task(self._loop), time.monotonic()
                if found is not holder:
                    holder, since = found, now
                elif holder is not None and now - since >= LIMIT:
                    self._blocked(holder, now - since)
            self._rest()

    def _turn(self) -> None:
        self._turned = True

    def _rest(self) -> None:
        if self._changed.wait(PERIOD):
            self._changed.clear()
        self.asleep = True
        while self._turned and not self._finished and not self._busy():
            self._changed.wait()
            self._changed.clear()
        self.asleep = False


def describe_position(thread: int) -> str:
    """Return where the body in a thread is, as `file:line in function`, and the function it waits in."""
    frame = sys._current_frames().get(thread)
    stack: list[FrameType] = []
    while frame is not None:
        stack.append(frame)
        frame = frame.f_back
    if not stack:
        return "at an unknown place"
    bodys = [*dropwhile(lambda frame: is_own_frame(frame.f_code.co_filename), reversed(stack))]
    places = dict.fromkeys(_describe_frame(frame) for frame in (*bodys[:1], stack[0]))
    return f"at {', in '.join(places)}"


def _describe_frame(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
