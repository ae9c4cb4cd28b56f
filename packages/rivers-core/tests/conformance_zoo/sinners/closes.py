"""Backends that do not end with the run."""

from __future__ import annotations

import threading
import time
from functools import partial

from sinner import sinner
from zoo_backend import ZooAttempt, ZooBackend

from rivers.protocol import Evidence, LogRecord, StepResult
from rivers.spi import Run, Sink
from sinners.leftovers import LEFT


@sinner("cancels nothing when it is closed", "close-in-flight-results")
class CloseCancelsNothing(ZooBackend):
    def close(self, deadline: float) -> None:
        LEFT.extend(partial(attempt.stop, 0) for attempt in self.attempts.values())
        self.attempts = {}


@sinner("waits for the bodies when it is closed", "close-in-flight")
class CloseWaits(ZooBackend):
    def close(self, deadline: float) -> None:
        for attempt in self.attempts.values():
            attempt.thread.join()
        super().close(deadline)


@sinner("is late when it is closed", "close-in-flight", only=True)
class LateClose(ZooBackend):
    """Takes 7.5 s longer than it may, if anything runs."""

    def close(self, deadline: float) -> None:
        is_late = any(not attempt.is_over for attempt in self.attempts.values())
        super().close(deadline)
        if is_late:
            time.sleep(deadline + 2.5)


@sinner("forgets the results of what it cancels when it is closed", "close-in-flight-results", only=True)
class CloseForgetsResults(ZooBackend):
    is_closing = False

    def open(self, run: Run, emit: Sink) -> None:
        self.is_closing = False
        super().open(run, emit)

    def finish(self, attempt: ZooAttempt, result: StepResult | None, evidence: Evidence) -> None:
        if not self.is_closing:
            super().finish(attempt, result, evidence)

    def close(self, deadline: float) -> None:
        self.is_closing = True
        super().close(deadline)


@sinner("raises when it is closed twice", "close-twice", only=True)
class SecondCloseRaises(ZooBackend):
    def close(self, deadline: float) -> None:
        super().close(deadline)
        del self.attempts


@sinner("calls the sink after close", "no-event-after-close", only=True)
class LateEvent(ZooBackend):
    def close(self, deadline: float) -> None:
        super().close(deadline)
        threading.Thread(target=self.report_late, daemon=True).start()

    def report_late(self) -> None:
        time.sleep(0.1)
        self.emit(LogRecord(attempt_id="", message="closed", level=20))


@sinner("cannot be closed if it was not opened", "close-without-open", only=True)
class CloseNeedsOpen(ZooBackend):
    def close(self, deadline: float) -> None:
        assert self.emit
        super().close(deadline)
