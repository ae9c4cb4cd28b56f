"""Backends that misjudge the end of a worker, or let others suffer from it."""

from __future__ import annotations

import signal

from msgspec.structs import replace
from sinner import sinner
from zoo_backend import ZooAttempt, ZooBackend

from rivers.protocol import Ending, Evidence, Failure, FailureReason, StepResult, StepSpec, lost


@sinner("reports exit 0 as success", "exit-0-is-no-success", only=True)
class ExitZeroSucceeds(ZooBackend):
    def finish(self, attempt: ZooAttempt, result: StepResult | None, evidence: Evidence) -> None:
        if result is None and evidence.exit_code == 0 and not evidence.cancelled:
            result = StepResult(attempt_id=attempt.id, ending=Ending.SUCCEEDED)
        super().finish(attempt, result, evidence)


@sinner("reports an exit code as the body's error", "crash-by-exit-code")
class ExitCodeIsError(ZooBackend):
    def finish(self, attempt: ZooAttempt, result: StepResult | None, evidence: Evidence) -> None:
        if result is None and evidence.exit_code:
            failure = Failure(reason=FailureReason.ERROR, type="SystemExit", message=str(evidence.exit_code))
            result = StepResult(attempt_id=attempt.id, ending=Ending.FAILED, failure=failure)
        super().finish(attempt, result, evidence)


@sinner("loses the exit code", "crash-by-exit-code", only=True)
class NoExitCode(ZooBackend):
    def finish(self, attempt: ZooAttempt, result: StepResult | None, evidence: Evidence) -> None:
        super().finish(attempt, result, replace(evidence, exit_code=1 if evidence.exit_code else evidence.exit_code))


@sinner("takes every SIGKILL for lack of memory", "crash-by-signal")
class GuessedOutOfMemory(ZooBackend):
    def finish(self, attempt: ZooAttempt, result: StepResult | None, evidence: Evidence) -> None:
        is_killed = evidence.signal == signal.SIGKILL and not evidence.cancelled
        super().finish(attempt, result, replace(evidence, oom_kills=1) if is_killed else evidence)


@sinner("loses the signal", "crash-by-signal", only=True)
class NoSignal(ZooBackend):
    def finish(self, attempt: ZooAttempt, result: StepResult | None, evidence: Evidence) -> None:
        super().finish(attempt, result, replace(evidence, signal=None))


@sinner("never ends a killed attempt", "crash-by-signal")
class KilledNeverEnds(ZooBackend):
    def finish(self, attempt: ZooAttempt, result: StepResult | None, evidence: Evidence) -> None:
        if result is not None or evidence.cancelled or evidence.signal is None:
            super().finish(attempt, result, evidence)


@sinner("lets a crash take its neighbours down", "crash-harms-nobody-else", only=True)
class CrashTakesAll(ZooBackend):
    def finish(self, attempt: ZooAttempt, result: StepResult | None, evidence: Evidence) -> None:
        if result is None and evidence.signal and not evidence.cancelled:
            for other in self.attempts.values():
                with other.lock:
                    if other is not attempt:
                        other.signal(signal.SIGKILL)
        super().finish(attempt, result, evidence)


@sinner("is of no use after a crash", "crash-harms-nobody-else")
class BrokenByCrash(ZooBackend):
    """Fails every submit after a crash, as a broken pool of `concurrent.futures` does."""

    broken = False

    def submit(self, spec: StepSpec) -> None:
        if self.broken:
            self.emit(lost(spec.attempt_id, Evidence(detail="the pool is broken"), started=True))
        else:
            super().submit(spec)

    def finish(self, attempt: ZooAttempt, result: StepResult | None, evidence: Evidence) -> None:
        self.broken = self.broken or (result is None and not evidence.cancelled)
        super().finish(attempt, result, evidence)


@sinner("takes a stored result for lost", "crash-after-result", only=True)
class LateExitFails(ZooBackend):
    def finish(self, attempt: ZooAttempt, result: StepResult | None, evidence: Evidence) -> None:
        super().finish(attempt, result if evidence.exit_code == 0 else None, evidence)
