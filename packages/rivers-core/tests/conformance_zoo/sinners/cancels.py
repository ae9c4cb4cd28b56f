"""Backends that swallow a cancel, overdo it, or break by it."""

from __future__ import annotations

import signal
import threading
import time

from msgspec.structs import replace
from sinner import sinner
from zoo_backend import ZooAttempt, ZooBackend

from rivers.protocol import Ending, Evidence, Failure, FailureReason, StepEvent, StepResult, StepSpec, lost
from rivers.spi import Run, Sink


@sinner("swallows cancel", "cancel-while-running")
class NoCancel(ZooBackend):
    def cancel(self, attempt_id: str, grace: float) -> None:
        pass


@sinner("reports a cancelled attempt as failed", "cancel-while-running")
class CancelFails(ZooBackend):
    def finish(self, attempt: ZooAttempt, result: StepResult | None, evidence: Evidence) -> None:
        if result is not None and result.ending is Ending.CANCELLED:
            result = replace(result, ending=Ending.FAILED)
        super().finish(attempt, result, evidence)


@sinner("gives a cancel another reason", "cancel-while-running", only=True)
class CancelForAnotherReason(ZooBackend):
    def finish(self, attempt: ZooAttempt, result: StepResult | None, evidence: Evidence) -> None:
        if result is not None and result.ending is Ending.CANCELLED and attempt.stores_nothing:
            failure = Failure(reason=FailureReason.ERROR, type="KeyboardInterrupt", message="")
            result = replace(result, failure=failure)
        super().finish(attempt, result, evidence)


@sinner("does not kill after the grace", "cancel-kills")
class NoKill(ZooBackend):
    def cancel(self, attempt_id: str, grace: float) -> None:
        super().cancel(attempt_id, 3600.0)


@sinner("kills before the grace is over", "cancel-kills", only=True)
class EarlyKill(ZooBackend):
    def cancel(self, attempt_id: str, grace: float) -> None:
        super().cancel(attempt_id, grace / 4)


@sinner("reports a killed body as infrastructure", "cancel-kills")
class KillIsInfrastructure(ZooBackend):
    def finish(self, attempt: ZooAttempt, result: StepResult | None, evidence: Evidence) -> None:
        super().finish(attempt, result, replace(evidence, cancelled=False) if evidence.signal else evidence)


@sinner("kills without the grace", "cancel-grace")
class NoGrace(ZooBackend):
    def cancel(self, attempt_id: str, grace: float) -> None:
        super().cancel(attempt_id, 0.0)


class DeafAttempt(ZooAttempt):
    """An attempt that is killed after its grace, and never asked to stop."""

    def stop(self, grace: float) -> None:
        with self.lock:
            self.is_cancelled = True
            self.kill_at = min(self.kill_at, time.monotonic() + min(grace, 1.0))


@sinner("kills after the grace and never asks", "cancel-grace", only=True)
class NeverAsks(ZooBackend):
    attempt_type = DeafAttempt


@sinner("raises for an unknown attempt", "cancel-unknown", only=True)
class UnknownRaises(ZooBackend):
    def cancel(self, attempt_id: str, grace: float) -> None:
        self.attempts[attempt_id].stop(grace)


@sinner("raises for a third cancel", "cancel-twice", only=True)
class ThirdCancelRaises(ZooBackend):
    def cancel(self, attempt_id: str, grace: float) -> None:
        self.cancels = [*getattr(self, "cancels", ()), attempt_id]
        if self.cancels.count(attempt_id) == 3:
            raise RuntimeError(f"{attempt_id} is being cancelled")
        super().cancel(attempt_id, grace)


@sinner("ends again when cancelled after its end", "cancel-after-end", only=True)
class EndsAgain(ZooBackend):
    def cancel(self, attempt_id: str, grace: float) -> None:
        attempt = self.attempts.get(attempt_id)
        if attempt is not None and not attempt.is_cancelled and attempt.is_over and attempt.stores_nothing:
            self.emit(StepResult(attempt_id=attempt_id, ending=Ending.CANCELLED))
        super().cancel(attempt_id, grace)


@sinner("cancels every attempt that runs", "cancel-harms-nobody-else", only=True)
class CancelsAll(ZooBackend):
    def cancel(self, attempt_id: str, grace: float) -> None:
        super().cancel(attempt_id, grace)
        if attempt_id in self.attempts and self.attempts[attempt_id].process is not None:
            for attempt in self.attempts.values():
                if attempt.process is not None:
                    attempt.stop(grace)


@sinner("waits in cancel", "cancel-returns-at-once", only=True)
class WaitsInCancel(ZooBackend):
    def cancel(self, attempt_id: str, grace: float) -> None:
        super().cancel(attempt_id, grace)
        attempt = self.attempts.get(attempt_id)
        if attempt is not None and attempt.thread is not threading.current_thread():
            attempt.thread.join(3.0)


class SlowAttempt(ZooAttempt):
    """An attempt whose process starts after a while, so that a cancel can come before."""

    def attend(self) -> None:
        time.sleep(0.3)
        super().attend()


@sinner("forgets a cancel that comes before the start", "cancel-before-start")
class EarlyCancelForgotten(ZooBackend):
    attempt_type = SlowAttempt

    def cancel(self, attempt_id: str, grace: float) -> None:
        attempt = self.attempts.get(attempt_id)
        if attempt is not None and attempt.process is not None:
            attempt.stop(grace)


@sinner("reports a cancel before the start as lost", "cancel-before-start", only=True)
class EarlyCancelFails(ZooBackend):
    attempt_type = SlowAttempt

    def open(self, run: Run, emit: Sink) -> None:
        def judge(event: StepEvent) -> None:
            is_early = isinstance(event, StepResult) and event.ending is Ending.CANCELLED and not event.worker
            emit(lost(event.attempt_id, Evidence(detail="it has no process"), started=True) if is_early else event)

        super().open(run, judge)


@sinner("ends overdue steps by itself", "timeout-reason", only=True)
class OwnTimeout(ZooBackend):
    """Kills a body before core does, and reports a lost worker."""

    def submit(self, spec: StepSpec) -> None:
        super().submit(spec)
        if spec.timeout is not None and not spec.is_async:
            attempt = self.attempts[spec.attempt_id]
            timer = threading.Timer(0.8 * spec.timeout, attempt.signal, [signal.SIGKILL])
            timer.daemon = True
            timer.start()
