"""The recording sink of the kit: every event with its time, and waits with a deadline."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable

from rivers.protocol import LogRecord, StepEvent, StepResult, StepStarted

__all__ = ["RecordingSink"]


class RecordingSink:
    """The events that a backend has emitted, in their order; callable from any thread, as a sink is."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events: list[tuple[float, StepEvent]] = []
        self._closed: int | None = None
        self._ended: set[str] = set()

    def __call__(self, event: StepEvent) -> None:
        """Record an event."""
        with self._changed:
            self._events.append((time.monotonic(), event))
            if isinstance(event, StepResult):
                self._ended.add(event.attempt_id)
            self._changed.notify_all()

    def mark_closed(self) -> None:
        """Note that the backend's `close` has returned: every later event is late."""
        with self._changed:
            self._closed = len(self._events)

    @property
    def late(self) -> list[StepEvent]:
        """The events that came after `close` had returned."""
        with self._changed:
            return [] if self._closed is None else [event for _, event in self._events[self._closed :]]

    def events(self, attempt_id: str | None = None) -> list[StepEvent]:
        """Return all events, or those with an attempt id."""
        with self._changed:
            return [event for _, event in self._events if attempt_id is None or event.attempt_id == attempt_id]

    def results(self, attempt_id: str) -> list[StepResult]:
        """Return the results that were reported for an attempt; there should be one."""
        return [event for event in self.events(attempt_id) if isinstance(event, StepResult)]

    def has_result(self, attempt_id: str) -> bool:
        """Return whether an attempt has ended."""
        return attempt_id in self._ended

    def starts(self, attempt_id: str) -> list[StepStarted]:
        """Return the starts that were reported for an attempt."""
        return [event for event in self.events(attempt_id) if isinstance(event, StepStarted)]

    def logs(self, attempt_id: str) -> list[LogRecord]:
        """Return the log records of an attempt."""
        return [event for event in self.events(attempt_id) if isinstance(event, LogRecord)]

    def texts(self, attempt_id: str) -> list[str]:
        """Return the messages of an attempt's log records."""
        return [record.message for record in self.logs(attempt_id)]

    def wait_for(self, condition: Callable[[], object], within: float) -> bool:
        """Wait until the condition holds; return False if it does not within this many seconds."""
        until = time.monotonic() + within
        while not condition():
            with self._changed:
                left = until - time.monotonic()
                # Conditions read other things than events, too, hence the short wait.
                if left <= 0:
                    return bool(condition())
                self._changed.wait(min(left, 0.1))
        return True

    def describe(self, attempt_id: str) -> str:
        """Describe what came for an attempt on one line, such as `StepStarted, 2 LogRecords`."""
        counts = Counter(type(event).__name__ for event in self.events(attempt_id))
        words = [name if count == 1 else f"{count} {name}s" for name, count in counts.items()]
        return ", ".join(words) or "no event"
