"""Who blocks the event loop: a watchdog beside it, that names the task which does not give it back."""

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

__all__ = ["LoopWatch", "where"]

LIMIT = 1.0
"""Seconds that a task may hold the loop before it is named (faults.md A3)."""
PERIOD = 0.5
"""Seconds between two looks, while anything runs."""

STOP_DEADLINE = 5.0
"""Seconds for the end of the watchdog: it waits for nothing but whom it tells."""


class LoopWatch:
    """Looks after one loop from a thread of its own; sleeps while `busy` says that nothing runs.

    `blocked(task, seconds)` is called in that thread, again and again, for a task that has held the loop for at least
    that long. A busy loop is not a blocked one: only a task that is found at work twice within one turn counts.
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
        self._over = False
        self._changed = threading.Event()
        self._thread = threading.Thread(target=self._work, name="rivers-async-watch", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def wake(self) -> None:
        """Something runs again; to be called where `asleep` says so."""
        self._changed.set()

    def stop(self) -> None:
        """End the thread and wait for it."""
        self._over = True
        self._changed.set()
        self._thread.join(STOP_DEADLINE)

    def _work(self) -> None:
        holder: asyncio.Task[Any] | None = None
        since = 0.0
        while not self._over:
            if self._turned:
                holder = None
                self._turned = False
                with contextlib.suppress(RuntimeError):  # the loop is closed, and so will be this thread
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
        while self._turned and not self._over and not self._busy():
            self._changed.wait()
            self._changed.clear()
        self.asleep = False


def where(thread: int) -> str:
    """Where the body that runs in a thread is, as `file:line in function`, and what it waits in."""
    frame = sys._current_frames().get(thread)
    stack: list[FrameType] = []
    while frame is not None:
        stack.append(frame)
        frame = frame.f_back
    if not stack:
        return "at an unknown place"
    bodys = [*dropwhile(lambda frame: is_own_frame(frame.f_code.co_filename), reversed(stack))]
    places = dict.fromkeys(_place(frame) for frame in (*bodys[:1], stack[0]))
    return f"at {', in '.join(places)}"


def _place(frame: FrameType) -> str:
    return f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
