"""Backends that lose, double, mix up or delay events."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Iterable, Sequence
from multiprocessing.connection import Connection
from typing import Any

from msgspec.structs import replace
from sinner import sinner
from zoo_backend import ZooAttempt, ZooBackend
from zoo_worker import Task, work

from rivers.exceptions import Problem
from rivers.protocol import Ending, Evidence, LogRecord, StepEvent, StepResult, StepSpec, StepStarted
from rivers.spi import Run, Sink


@sinner("loses the start", "event-order")
class NoStart(ZooBackend):
    def forward(self, attempt: ZooAttempt, event: StepEvent) -> None:
        if not isinstance(event, StepStarted):
            self.emit(event)


@sinner("starts twice", "event-order", only=True)
class TwoStarts(ZooBackend):
    def forward(self, attempt: ZooAttempt, event: StepEvent) -> None:
        self.emit(event)
        if isinstance(event, StepStarted):
            self.emit(event)


@sinner("reports logs after the result", "event-order")
class LogsLast(ZooBackend):
    def forward(self, attempt: ZooAttempt, event: StepEvent) -> None:
        self.emit(event)
        attempt.last = event  # type: ignore[attr-defined]

    def finish(self, attempt: ZooAttempt, result: StepResult | None, evidence: Evidence) -> None:
        super().finish(attempt, result, evidence)
        last = getattr(attempt, "last", None)
        if isinstance(last, LogRecord):
            self.emit(last)


@sinner("ends twice", "one-result")
class TwoEnds(ZooBackend):
    def finish(self, attempt: ZooAttempt, result: StepResult | None, evidence: Evidence) -> None:
        super().finish(attempt, result, evidence)
        super().finish(attempt, result, evidence)


@sinner("reports an error twice", "one-result", only=True)
class TwoErrors(ZooBackend):
    def finish(self, attempt: ZooAttempt, result: StepResult | None, evidence: Evidence) -> None:
        super().finish(attempt, result, evidence)
        if result is not None and result.ending is Ending.FAILED and attempt.stores_nothing:
            super().finish(attempt, result, evidence)


@sinner("never ends what has raised", "one-result")
class NoEnd(ZooBackend):
    def finish(self, attempt: ZooAttempt, result: StepResult | None, evidence: Evidence) -> None:
        if result is None or result.ending is not Ending.FAILED:
            super().finish(attempt, result, evidence)


@sinner("mixes two attempts' logs", "own-attempt")
class MixedLogs(ZooBackend):
    def forward(self, attempt: ZooAttempt, event: StepEvent) -> None:
        if isinstance(event, LogRecord):
            event = replace(event, attempt_id=next(reversed(self.attempts)))
        self.emit(event)


@sinner("invents an attempt", "own-attempt", only=True)
class InventedAttempt(ZooBackend):
    def forward(self, attempt: ZooAttempt, event: StepEvent) -> None:
        self.emit(event)
        if isinstance(event, StepStarted) and attempt.stores_nothing:
            self.emit(LogRecord(attempt_id=f"{event.attempt_id}-0", message="ready"))


class HeldLogs(ZooBackend):
    """Holds the logs of an attempt back, from the one with the number `held_from`."""

    held_from = 0

    def forward(self, attempt: ZooAttempt, event: StepEvent) -> None:
        attempt.logs = getattr(attempt, "logs", 0) + isinstance(event, LogRecord)  # type: ignore[attr-defined]
        if isinstance(event, LogRecord) and attempt.logs > self.held_from:  # type: ignore[attr-defined]
            attempt.held = [*getattr(attempt, "held", ()), event]  # type: ignore[attr-defined]
        else:
            self.emit(event)

    def finish(self, attempt: ZooAttempt, result: StepResult | None, evidence: Evidence) -> None:
        for event in self.arrange(getattr(attempt, "held", [])):
            self.emit(event)
        super().finish(attempt, result, evidence)

    def arrange(self, held: list[LogRecord]) -> list[LogRecord]:
        return held


@sinner("holds logs back until the end", "live-logs")
class LateLogs(HeldLogs):
    pass


@sinner("reorders a page of logs", "log-order", only=True)
class ReorderedLogs(HeldLogs):
    held_from = 100

    def arrange(self, held: list[LogRecord]) -> list[LogRecord]:
        return held[::-1] if len(held) < 1000 else held


@sinner("drops logs in a flood", "log-flood", only=True)
class DroppedLogs(ZooBackend):
    def forward(self, attempt: ZooAttempt, event: StepEvent) -> None:
        attempt.count = getattr(attempt, "count", 0) + 1  # type: ignore[attr-defined]
        if attempt.count < 2000 or not isinstance(event, LogRecord):  # type: ignore[attr-defined]
            self.emit(event)


@sinner("reports logs late", "live-logs", only=True)
class SlowLogs(ZooBackend):
    """Reports the first log record 1.7 s late, and those after it in time to keep the order."""

    def forward(self, attempt: ZooAttempt, event: StepEvent) -> None:
        if isinstance(event, LogRecord) and attempt.stores_nothing and not hasattr(attempt, "is_late"):
            attempt.is_late = True  # type: ignore[attr-defined]
            until = time.monotonic() + 1.7
            while time.monotonic() < until and attempt.is_running() and not attempt.is_cancelled:
                time.sleep(0.02)
                attempt.kill_if_due()
        self.emit(event)


def work_in_ascii(task: Task, pipe: Any) -> None:
    def change(event: StepEvent) -> StepEvent:
        is_log = isinstance(event, LogRecord)
        return replace(event, message=event.message.encode("ascii", "replace").decode()) if is_log else event

    work(task, pipe, change=change)


@sinner("writes logs in ASCII", "log-text")
class AsciiLogs(ZooBackend):
    work = staticmethod(work_in_ascii)


@sinner("cuts logs at a NUL", "log-text", only=True)
class CutLogs(ZooBackend):
    def forward(self, attempt: ZooAttempt, event: StepEvent) -> None:
        if isinstance(event, LogRecord) and attempt.stores_nothing:
            event = replace(event, message=event.message.partition("\0")[0])
        self.emit(event)


@sinner("makes printed text of log records", "log-levels", only=True)
class PrintedLogs(ZooBackend):
    def forward(self, attempt: ZooAttempt, event: StepEvent) -> None:
        if isinstance(event, LogRecord) and attempt.stores_nothing:
            event = replace(event, level=0, logger="", stream="stdout")
        self.emit(event)


def work_over_stdout(task: Task, pipe: Connection) -> None:
    """Speak over file descriptor 1, and keep only what Python prints away from it."""
    os.dup2(pipe.fileno(), 1)
    sys.stdout = io.TextIOWrapper(io.BytesIO(), errors="surrogateescape")
    work(task, Connection(1, readable=False))


@sinner("speaks over stdout", "stdout-is-the-bodys", only=True)
class SpeaksOverStdout(ZooBackend):
    work = staticmethod(work_over_stdout)


@sinner("keeps the first run's sink", "open-again", only=True)
class FirstSink(ZooBackend):
    """A warm backend that reports the events of a later run to the first one."""

    can = {"warm": True}

    def open(self, run: Run, emit: Sink) -> None:
        if not hasattr(self, "first"):
            self.first = emit
        super().open(run, self.first)


@sinner("refuses steps that store nothing", "preflight-is-clean", only=True)
class RefusesInPreflight(ZooBackend):
    def preflight(self, specs: Iterable[StepSpec]) -> Sequence[Problem]:
        return [Problem(f"the step {spec.step!r} stores nothing", spec.step) for spec in specs if not spec.outputs]
