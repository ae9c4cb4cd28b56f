"""The result of a run, and the handle of a run in a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Literal, TypeAlias

from rivers._definitions.arguments import check_seconds
from rivers._executor.drive import RunLoop
from rivers._plan.plan import Plan
from rivers._plan.report import StepReport, StepState
from rivers._repository.errors import make_exception
from rivers.exceptions import ExecutionError, RiversError, RunCancelledError, StepCancelledError
from rivers_process.fork import renew_in_children

__all__ = ["RunHandle", "RunResult", "RunStatus", "make_result"]

RunStatus: TypeAlias = Literal["running", "success", "failure", "cancelled"]


class RunResult:
    """The result of a run.

    `materialized_assets` are the assets whose values were stored, in the order they were; `failed_assets` pairs each
    asset that failed with its error's type and message (`KeyError: 'x'`); `steps` has a report for every step, also for
    each mapped instance (`graph/task[key]`). `record` is the folder of the run's record, None where none was asked for.
    """

    __slots__ = ("failed_assets", "materialized_assets", "record", "run_id", "status", "steps")

    def __init__(
        self,
        run_id: str,
        status: RunStatus,
        materialized_assets: list[str],
        failed_assets: list[tuple[str, str]],
        steps: dict[str, StepReport],
        record: Path | None = None,
    ) -> None:
        self.run_id = run_id
        self.status = status
        self.materialized_assets = materialized_assets
        self.failed_assets = failed_assets
        self.steps = steps
        self.record = record

    @property
    def success(self) -> bool:
        """True when every step succeeded."""
        return self.status == "success"

    def __repr__(self) -> str:
        counts = {state: sum(report.state is state for report in self.steps.values()) for state in StepState}
        ends = ", ".join(f"{count} {state.value}" for state, count in counts.items() if count)
        return f"<RunResult {self.run_id[:8]} {self.status}: {ends or 'no steps'}>"


def make_result(plan: Plan, loop: RunLoop, record: Path | None = None) -> tuple[RunResult, BaseException | None]:
    """Return the result of a finished run, and the exception to raise for it, if any."""
    steps = {step.key: step for step in plan.steps}
    made: list[str] = []
    failed: dict[str, str] = {}
    reports = loop.frontier.reports
    for key, report in reports.items():
        step = steps[key.partition("[")[0]]
        if report.state is StepState.SUCCEEDED:
            # Reports are in the order of their ends, and so is the list of assets.
            made.extend(step.assets)
        elif report.state is StepState.FAILED and report.failure is not None:
            for name in step.assets or (step.node.owner.name,):
                # The first failure of an asset is the cause; later instances of a fan-out often repeat it.
                failed.setdefault(name, report.failure.summary)
    assert loop.status != "running"
    result = RunResult(loop.run_id, loop.status, made, list(failed.items()), reports, record)
    return result, _exception(result, loop)


def _exception(result: RunResult, loop: RunLoop) -> BaseException | None:
    failures = [report for report in result.steps.values() if report.state is StepState.FAILED]
    error: BaseException | None = None
    if failures:
        # The first to fail is raised: later failures may be its consequences, and are in the notes.
        first, *_ = failures
        others: Iterable[StepReport] = (report for report in result.steps.values() if report is not first)
        error = make_exception(first, result.run_id, loop.errors.get(first.step), list(others))
    elif result.status == "cancelled":
        error = RunCancelledError("the run was cancelled", run_id=result.run_id)
    elif not result.success:
        report = next(report for report in result.steps.values() if report.state is StepState.CANCELLED)
        error = StepCancelledError(
            f"{report.step!r} was cancelled by its executor, without a cancel of the run",
            run_id=result.run_id,
            step=report.step,
            attempt=report.attempts or None,
            executor=report.executor,
        )
        error.failure = report.failure
    if error is not None:
        try:
            error.result = result  # type: ignore[attr-defined]  # also on exceptions that are not ours
        except Exception:  # noqa: BLE001 - a user's class may refuse attributes in any way
            error.add_note("the RunResult could not be attached to this exception")
    return error


class RunHandle:
    """The handle of a run in a thread of its own: its `status`, `wait` for its end, `cancel`."""

    def __init__(self, run_id: str, run: Callable[[], RunResult], cancel: Callable[[], None]) -> None:
        self.run_id = run_id
        self._run = run
        self._cancel = cancel
        self._result: RunResult | None = None
        self._error: BaseException | None = None
        self._done = threading.Event()
        # A daemon: a program that ends without waiting must not hang on its run.
        self._thread = threading.Thread(target=self._work, name=f"rivers-submit-{run_id[:8]}", daemon=True)
        self._thread.start()
        renew_in_children(self, RunHandle._renew)

    def _renew(self) -> None:
        """Make `wait` raise in a forked child, where the run's thread does not exist and it would never return."""
        if not self._done.is_set():
            self._done = threading.Event()
            self._error = ExecutionError(
                f"run {self.run_id} runs in the parent of this forked process",
                hint="wait for it there, or submit a run of this process's own",
            )
            self._cancel = _do_nothing
            self._done.set()

    def _work(self) -> None:
        try:
            self._result = self._run()
        except BaseException as error:  # noqa: BLE001 - raised to whoever waits
            self._error = error
        finally:
            self._done.set()

    @property
    def status(self) -> RunStatus:
        """`running`, then `success`, `failure` or `cancelled`."""
        if not self._done.is_set():
            return "running"
        if self._result is not None:
            return self._result.status
        return "cancelled" if isinstance(self._error, KeyboardInterrupt) else "failure"

    def wait(self, timeout: float | timedelta | None = None) -> RunResult:
        """Wait for the end and return the result, also of a run that failed.

        Raises:
            TimeoutError: the run has not ended within `timeout` seconds; it is not cancelled.
            GraphValidationError, ExecutorNotInstalledError: the run was refused before anything started.
        """
        seconds = None if timeout is None else check_seconds("timeout", timeout, least=0)
        if not self._join(seconds):
            raise TimeoutError(f"run {self.run_id} has not ended within {seconds} s")
        if self._error is not None:
            raise self._error
        if self._result is None:
            raise RiversError("the run ended without a result", run_id=self.run_id)
        return self._result

    def _join(self, timeout: float | None = None) -> bool:
        """Wait for the end, whatever it is; return False when it has not come within `timeout` seconds."""
        # The event is set before the thread has ended, hence the join: nothing of the run is left then.
        if not self._done.wait(timeout):
            return False
        self._thread.join()
        return True

    def cancel(self) -> None:
        """Start nothing more and stop what runs; returns at once: `wait` for the end."""
        self._cancel()

    def __repr__(self) -> str:
        return f"<RunHandle {self.run_id[:8]} {self.status}>"


def _do_nothing() -> None:
    """Cancel nothing: the run is another process's."""
