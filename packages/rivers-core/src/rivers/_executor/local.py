"""The calling thread's own work: units of backends that block, in the order they were given a place."""

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
    """Filled from any thread, emptied by one; `wake` ends its waiting."""

    __slots__ = ("_ready", "incoming")

    def __init__(self) -> None:
        self.incoming: SimpleQueue[Unit | None] = SimpleQueue()
        self._ready: deque[Unit] = deque()

    def put(self, unit: Unit) -> None:
        """Let this unit run when its turn comes."""
        self.incoming.put(unit)

    def wake(self) -> None:
        """Let the waiting thread look again; callable from a signal handler, as SimpleQueue.put is reentrant."""
        self.incoming.put(None)

    def first(self, unit: Unit) -> None:
        """Put a unit before all others; only in the emptying thread, like what follows."""
        self._ready.appendleft(unit)

    def next(self) -> Unit | None:
        """The next unit, if there is one now."""
        if not self._ready:
            self._gather()
        return self._ready.popleft() if self._ready else None

    def wait(self, timeout: float | None) -> bool:
        """Wait until a unit comes or somebody wakes this thread; False after `timeout` seconds, or 1."""
        try:
            unit = self.incoming.get(timeout=LONGEST_WAIT if timeout is None else min(timeout, LONGEST_WAIT))
        except Empty:
            return False
        if unit is not None:
            self._ready.append(unit)
        return True

    def of(self, steps: Container[Step]) -> Unit | None:
        """The first unit that belongs to one of these steps, out of its turn."""
        self._gather()
        for position, unit in enumerate(self._ready):
            if unit.step in steps:
                del self._ready[position]
                return unit
        return None

    def _gather(self) -> None:
        while not self.incoming.empty():  # reliable, as only this thread empties it
            unit = self.incoming.get_nowait()
            if unit is not None:
                self._ready.append(unit)
