"""Queue the units of blocking backends for the calling thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from queue import Empty, SimpleQueue

from rivers._plan.plan import Step
from rivers._plan.unit import Unit

__all__ = ["LocalQueue"]

LONGEST_WAIT = 1.0
"""Seconds. Python runs a signal's handler between two instructions of the main thread: a Ctrl-C that hits it on its way
into a wait is only noticed when that wait is over."""


class LocalQueue:
    """A queue of units in the order they got a slot: any thread adds, one removes; `wake` ends its waiting."""

    __slots__ = ("_ready", "incoming")

    def __init__(self) -> None:
        self.incoming: SimpleQueue[Unit | None] = SimpleQueue()
        self._ready: deque[Unit] = deque()

    def put(self, unit: Unit) -> None:
        """Add a unit; callable from any thread."""
        self.incoming.put(unit)

    def wake(self) -> None:
        """Wake the waiting thread; callable from a signal handler, as SimpleQueue.put is reentrant."""
        self.incoming.put(None)

    def put_first(self, unit: Unit) -> None:
        """Add a unit before all others; this and the following methods are for the removing thread alone."""
        self._ready.appendleft(unit)

    def pop(self) -> Unit | None:
        """Remove and return the next unit, or None when there is none now."""
        if not self._ready:
            self._gather()
        return self._ready.popleft() if self._ready else None

    def wait(self, timeout: float | None) -> bool:
        """Wait for a unit or a `wake`; return False after `timeout` seconds, at most `LONGEST_WAIT`."""
        try:
            unit = self.incoming.get(timeout=LONGEST_WAIT if timeout is None else min(timeout, LONGEST_WAIT))
        except Empty:
            return False
        if unit is not None:
            self._ready.append(unit)
        return True

    def pop_of(self, steps: Container[Step]) -> Unit | None:
        """Remove and return the first unit of one of these steps, out of its turn."""
        self._gather()
        for position, unit in enumerate(self._ready):
            if unit.step in steps:
                del self._ready[position]
                return unit
        return None

    def _gather(self) -> None:
        # `empty` is reliable here, as only this thread removes.
        while not self.incoming.empty():
            unit = self.incoming.get_nowait()
            if unit is not None:
                self._ready.append(unit)
