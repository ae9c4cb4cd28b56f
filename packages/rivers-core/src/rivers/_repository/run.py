"""The result of a run, and the handle of a run in a thread of its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias

from rivers._definitions.arguments import check_seconds
from rivers._executor.drive import RunLoop
from rivers._plan.plan import Plan
from rivers._plan.report import StepReport, StepState
from rivers._record.header import RunHeader
from rivers._record.redact import Redactor
from rivers._record.view import RunView
from rivers._repository.errors import make_exception
from rivers._repository.result_view import view_of_record, view_of_reports
from rivers._repository.tables import step_rows, to_frame
from rivers._terminal.html import html_block, html_table
from rivers.exceptions import ExecutionError, RiversError, RunCancelledError, StepCancelledError
from rivers_process.fork import renew_in_children

__all__ = ["RunHandle", "RunResult", "RunStatus", "make_result"]

RunStatus: TypeAlias = Literal["running", "success", "failure", "cancelled"]
Describe: TypeAlias = Callable[[], tuple[RunHeader, Redactor]]
MOST_ROWS = 100
_COLUMNS = ("step", "state", "executor", "worker", "attempts", "seconds")


class RunResult:
    """The result of a run. `print(result)` shows its summary, a notebook shows it as a table.

    `materialized_assets` are the assets whose values were stored, in the order they were; `failed_assets` pairs each
    asset that failed with its error's type and message (`KeyError: 'x'`); `steps` has a report for every step, also for
    each mapped instance (`graph/task[key]`). `record` is the folder of the run's record, None where none was asked for.
    """

    __slots__ = ("_describe", "failed_assets", "materialized_assets", "record", "run_id", "status", "steps")

    def __init__(
        self,
        run_id: str,
        status: RunStatus,
        materialized_assets: list[str],
        failed_assets: list[tuple[str, str]],
        steps: dict[str, StepReport],
        record: Path | None = None,
        describe: Describe | None = None,
    ) -> None:
        self.run_id = run_id
        self.status = status
        self.materialized_assets = materialized_assets
        self.failed_assets = failed_assets
        self.steps = steps
        self.record = record
        self._describe = describe

    @property
    def success(self) -> bool:
        """True when every step succeeded."""
        return self.status == "success"

    def steps_table(self) -> list[dict[str, Any]]:
        """Return a row for each step, in the order of their ends.

        The columns are step, state, executor, worker, attempts; started and ended, of the last attempt, as datetimes in
        UTC; seconds in the worker, and seconds by phase: queued, boot, load, run, store, and of
        boot schedule and pull; reason and error of a failure;
        cause, the step because of which it was skipped; metadata of its outputs. What is not known is None.
        """
        return step_rows(self.steps)

    def to_frame(self, library: str | None = None) -> Any:
        """Return `steps_table()` as a data frame.

        Args:
            library: "pandas" or "polars"; None is the first of them that is installed.

        Raises:
            ConfigurationError: the library is another one, or is not installed.
        """
        return to_frame(self.steps_table(), library)

    def report(self, path: str | os.PathLike[str]) -> Path:
        """Write the picture of the run, one HTML file that needs no network, and return its path.

        Of a run without a record it has no logs, and of each step the last attempt's times alone.

        Raises:
            OSError: the file cannot be written.
        """
        # At its first use: most runs are not drawn, and the modules take a tenth of the time of `import rivers`.
        from rivers._report.write import write_report

        return write_report(self._view(), path)

    def __str__(self) -> str:
        # At its first use, like the picture: few results are printed.
        from rivers._terminal.summary import summary

        return summary(self._view(), unicode=True)

    def _repr_html_(self) -> str:
        """Return the result for a notebook: the summary, and the steps as a table."""
        rows = step_rows(self.steps)
        cells = ([row[name] for name in _COLUMNS[:-1]] + [_seconds(row["seconds"])] for row in rows[:MOST_ROWS])
        more = f"{len(rows) - MOST_ROWS:,} further steps: steps_table() has all" if len(rows) > MOST_ROWS else ""
        return html_block(str(self)) + html_table(f"{len(rows):,} steps", _COLUMNS, cells, more)

    def _view(self) -> RunView:
        view = view_of_record(self.record)
        if view is None:
            header, redactor = self._describe() if self._describe is not None else _describe_nothing(self.run_id)
            view = view_of_reports(header, redactor, self.status, self.steps)
        return view

    def __repr__(self) -> str:
        counts = {state: sum(report.state is state for report in self.steps.values()) for state in StepState}
        ends = ", ".join(f"{count} {state.value}" for state, count in counts.items() if count)
        return f"<RunResult {self.run_id[:8]} {self.status}: {ends or 'no steps'}>"


def _describe_nothing(run_id: str) -> tuple[RunHeader, Redactor]:
    """Describe a result that was made by hand."""
    return RunHeader(format=0, run_id=run_id, started=0.0), Redactor(())


def _seconds(seconds: float | None) -> str:
    return f"{seconds:.3f}" if seconds is not None else ""


def make_result(
    plan: Plan, loop: RunLoop, record: Path | None, describe: Describe
) -> tuple[RunResult, BaseException | None]:
    """Return the result of a finished run, and the exception to raise for it, if any."""
    steps = {step.key: step for step in plan.steps}
    made: list[str] = []
    failed: dict[str, str] = {}
    reports = loop.frontier.reports
    reused = loop.reused
    for key, report in reports.items():
        step = steps[key.partition("[")[0]]
        if report.state is StepState.SUCCEEDED:
            if key in reused:
                continue
            # Reports are in the order of their ends, and so is the list of assets.
            made.extend(step.assets)
        elif report.state is StepState.FAILED and report.failure is not None:
            for name in step.assets or (step.node.owner.name,):
                # The first failure of an asset is the cause; later instances of a fan-out often repeat it.
                failed.setdefault(name, report.failure.summary)
    assert loop.status != "running"
    result = RunResult(loop.run_id, loop.status, made, list(failed.items()), reports, record, describe)
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
