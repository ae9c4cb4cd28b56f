"""Backends that run too few attempts at once, too many, one in the caller's thread, or one again."""

from __future__ import annotations

import threading
import time

from sinner import sinner
from zoo_backend import ZooAttempt, ZooBackend

from rivers.protocol import Ending, Evidence, LogRecord, StepEvent, StepResult, StepSpec, StepStarted
from rivers.spi import Run, Sink


class LimitedAttempt(ZooAttempt):
    def attend(self) -> None:
        with self.backend.places:  # type: ignore[attr-defined]
            super().attend()


class Limited(ZooBackend):
    """Runs fewer attempts at once than it declares."""

    attempt_type = LimitedAttempt
    most = 1

    def open(self, run: Run, emit: Sink) -> None:
        super().open(run, emit)
        self.places = threading.Semaphore(self.most)


@sinner("never runs two at once", "slots-reached")
class OneAtATime(Limited):
    pass


@sinner("never reaches max_steps", "slots-reached", only=True)
class ThreeOfFour(Limited):
    can = {"max_steps": 4}
    most = 3


class SilentAttempt(ZooAttempt):
    """An attempt whose slot is given away when it has been silent for a while and all slots are taken."""

    heard = float("inf")
    is_given_away = False

    def kill_if_due(self) -> None:
        super().kill_if_due()
        running = sum(not other.is_over for other in self.backend.attempts.values())
        is_silent = time.monotonic() > self.heard + 0.2 and self.process is not None
        if is_silent and running >= 2 and not self.is_cancelled and not self.is_given_away and self.stores_nothing:
            self.is_given_away = True
            self.backend.emit(StepResult(attempt_id=self.id, ending=Ending.SUCCEEDED))


@sinner("takes a silent body for finished", "slots-not-exceeded", only=True)
class GivesSlotsAway(ZooBackend):
    attempt_type = SilentAttempt

    def forward(self, attempt: SilentAttempt, event: StepEvent) -> None:  # type: ignore[override]
        if isinstance(event, LogRecord):
            attempt.heard = time.monotonic()
        if not attempt.is_given_away:
            super().forward(attempt, event)

    def finish(self, attempt: SilentAttempt, result: StepResult | None, evidence: Evidence) -> None:  # type: ignore[override]
        if not attempt.is_given_away:
            super().finish(attempt, result, evidence)


class TwiceAttempt(ZooAttempt):
    """Runs its process again when it has ended with an exit code, as if that were a fault of the machine."""

    is_again = False

    def attend(self) -> None:
        super().attend()
        if self.is_again:
            super().attend()


@sinner("retries a crash by itself", "body-runs-once", only=True)
class RetriesCrashes(ZooBackend):
    attempt_type = TwiceAttempt

    def forward(self, attempt: TwiceAttempt, event: StepEvent) -> None:  # type: ignore[override]
        if not (attempt.is_again and isinstance(event, StepStarted)):
            super().forward(attempt, event)

    def finish(self, attempt: TwiceAttempt, result: StepResult | None, evidence: Evidence) -> None:  # type: ignore[override]
        is_crash = result is None and evidence.exit_code and attempt.stores_nothing and not attempt.is_cancelled
        attempt.is_again = bool(is_crash) and not attempt.is_again
        if not attempt.is_again:
            super().finish(attempt, result, evidence)


@sinner("blocks in submit", "submit-returns-at-once")
class BlocksInSubmit(ZooBackend):
    def submit(self, spec: StepSpec) -> None:
        super().submit(spec)
        self.attempts[spec.attempt_id].thread.join()


@sinner("blocks in the second submit", "submit-returns-at-once", only=True)
class BlocksInSecondSubmit(ZooBackend):
    def submit(self, spec: StepSpec) -> None:
        super().submit(spec)
        if len(self.attempts) > 1:
            self.attempts[spec.attempt_id].thread.join(2.5)
