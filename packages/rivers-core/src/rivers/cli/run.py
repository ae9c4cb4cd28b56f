"""`rivers run`: run the steps of a repository, show them, record them."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from rivers._definitions.executor import Executor
from rivers._record.backfill_log import BACKFILL_TAG
from rivers._record.header import RunHeader
from rivers._record.reader import EVENTS_FILE, is_being_written, read_header
from rivers._record.redact import Redactor
from rivers._repository.observe import ClosableSink, Durability, Observe, check_durability
from rivers._repository.prepare import RunArguments
from rivers._repository.prepared_run import PreparedRun
from rivers._repository.repository import CodeRepository
from rivers._terminal.choose import make_progress
from rivers.cli.ending import ViewSink, print_end, print_warnings, write_picture
from rivers.cli.errors import CommandError, ExitCode, explain, in_words
from rivers.cli.executor_options import parse_pairs
from rivers.cli.inputs import check_inputs
from rivers.cli.interrupted import find_failed, find_interrupted
from rivers.cli.printer import Printer, divert_stdout, stderr, stdout
from rivers.cli.records import SHORT_ID, describe_record, records_of
from rivers.cli.report import open_page
from rivers.cli.request import Chosen, PlanRequest, checked_config, choose, config_of, executor_again
from rivers.cli.retry import LATEST
from rivers.cli.run_json import summarize
from rivers.cli.sinks import EventsFile
from rivers.exceptions import ConfigurationError, GraphValidationError, ResumeError
from rivers.protocol.failure import FailureReason

__all__ = ["RunRequest", "perform", "prepare_resumed", "run", "with_printers"]

Sinks = Sequence[Callable[[RunHeader, Redactor], ClosableSink]]

LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRequest(PlanRequest):
    """The options of `rivers run`."""

    tags: Sequence[str] = ()
    home: Path | None = None
    events: Path | None = None
    log_level: str = "warning"
    report: Path | None = None
    retry_failed: str | None = None
    is_opened: bool = False
    live: bool = False
    quiet: bool = False
    json: bool = False
    durability: str = "process"
    resumes: bool = False
    skips: bool = False
    durable: bool = False


def run(request: RunRequest) -> ExitCode:
    """Run the steps that a request chooses and return the exit code.

    Raises:
        CommandError, RiversError: nothing was started.
    """
    return with_printers(request, _run)


def with_printers(request: RunRequest, work: Callable[[RunRequest, Printer, Printer | None], ExitCode]) -> ExitCode:
    """Call `work` with printers for the lines of the run and for the answer of `--json`, and return its exit code."""
    if request.log_level.lower() not in LEVELS:
        raise CommandError(f"invalid --log-level {request.log_level!r}: expected one of {', '.join(LEVELS)}")
    try:
        return _with_printers(request, work)
    except ResumeError as error:
        raise in_words(error, request.target) from error


def _with_printers(request: RunRequest, work: Callable[[RunRequest, Printer, Printer | None], ExitCode]) -> ExitCode:
    # Modules and bodies may print whatever they like: the JSON still stands alone, and a quiet run is quiet.
    if request.json:
        with divert_stdout(sys.stderr) as answer:
            return work(request, stderr(), answer)
    if request.quiet:
        with open(os.devnull, "w", encoding="utf-8") as nowhere, divert_stdout(nowhere) as lines:
            return work(request, lines, None)
    return work(request, stdout(), None)


def _run(request: RunRequest, lines: Printer, answer: Printer | None) -> ExitCode:
    print_warnings(stderr(), has_progress=not request.quiet)
    if request.resumes and request.retry_failed is not None:
        raise CommandError(
            "invalid --resume-if-interrupted with --retry-failed: expected one of them",
            hint="the first carries on a run that was interrupted, the second begins a new one of what did not succeed",
        )
    chosen = choose(request, request.retry_failed, request.home)
    if chosen.names is not None:
        check_inputs(chosen.repository, chosen.plan)
    prepare = _resume_or_prepare if request.resumes else _prepare
    return perform(request, chosen.repository, lambda sinks: prepare(request, chosen, sinks), lines, answer)


def _resume_or_prepare(request: RunRequest, chosen: Chosen, sinks: Sinks) -> PreparedRun:
    """Prepare to carry on the last run of the same choice if it was interrupted, else a new one."""
    backfill = parse_pairs(request.tags, "--tag").get(BACKFILL_TAG)
    record = find_interrupted(records_of(request.home), chosen, backfill)
    if record is None:
        return _prepare(request, chosen, sinks)
    try:
        executor = executor_again(chosen, read_header(record))
    except CommandError as error:
        return _prepare_instead(request, chosen, sinks, record, error.message)
    try:
        return prepare_resumed(request, chosen.repository, record, executor, sinks)
    except ResumeError as error:
        # It still goes on, or has ended well in another process since it was found: what was to run has run.
        if is_being_written(record / EVENTS_FILE) or describe_record(record)["status"] == "success":
            raise
        return _prepare_instead(request, chosen, sinks, record, error.message)


def _prepare_instead(request: RunRequest, chosen: Chosen, sinks: Sinks, record: Path, refusal: str) -> PreparedRun:
    stderr()(f"warning: run {record.name[:SHORT_ID]} is not resumed: {refusal}")
    return _prepare(request, chosen, sinks)


def prepare_resumed(
    request: RunRequest, repository: CodeRepository, record: Path, executor: Executor | None, sinks: Sinks
) -> PreparedRun:
    """Prepare to carry on the run of a record."""
    config = config_of(request)
    observe = Observe(durability=durability_of(request), sinks=sinks)
    arguments = RunArguments(config=config, executor=executor, observe=observe)
    return repository._prepare_resumed(str(record), arguments)


def perform(
    request: RunRequest,
    repository: CodeRepository,
    prepare: Callable[[Sinks], PreparedRun],
    lines: Printer,
    answer: Printer | None,
) -> ExitCode:
    """Carry out a run, show it while it goes on and at its end, and return the exit code."""
    level = logging.getLevelNamesMapping()[request.log_level.upper()]
    # Workers take the levels of this process over.
    logging.getLogger().setLevel(min(level, logging.getLogger().level))
    views: list[ViewSink] = []
    with repository:
        prepared = prepare(_sinks(request, lines, level, views))
        if prepared.is_made:
            return _end_without_run(request, prepared, lines, answer)
        code = _carry_out(prepared)
    if answer is not None:
        facts = json.dumps(summarize(views[0].view, prepared.observers.record), ensure_ascii=False)
        answer(views[0].redactor.line(facts.encode()).decode())
    elif not request.quiet or code is not ExitCode.OK:
        print_end(lines, views[0], prepared.observers.record, has_progress=not request.quiet)
    try:
        _write_picture(request, views[0], prepared.observers.record, lines)
    except CommandError as error:
        # What happened to the steps counts more than the picture of it.
        if code is ExitCode.OK:
            raise
        stderr()("\n".join(explain(error)))
    return code


def _end_without_run(request: RunRequest, prepared: PreparedRun, lines: Printer, answer: Printer | None) -> ExitCode:
    """Say that a retry has nothing to run, which leaves no record, and return the exit code."""
    with prepared.observers:
        header = prepared.observers.describe()
    text = f"nothing to retry: every step of run {(header.retry_of or '')[:SHORT_ID]} that was chosen succeeded"
    if answer is None:
        lines(text)
        # A later, smaller run hides the one that is meant.
        left = find_failed(records_of(request.home), header.repository) if request.retry_failed == LATEST else None
        if left is not None:
            lines(f"  → run {left} did not succeed: rivers run {request.target} --retry-failed {left[:SHORT_ID]}")
    else:
        answer(json.dumps({"run_id": None, "status": "success", "retry_of": header.retry_of, "steps": []}))
    return ExitCode.OK


def durability_of(request: RunRequest) -> Durability:
    """Return the choice of `--durability`.

    Raises:
        CommandError: it is something else.
    """
    try:
        check_durability(request.durability)
    except ConfigurationError as error:
        raise CommandError(error.message.replace("durability=", "--durability "), hint=error.hint) from None
    return cast(Durability, request.durability)


def _write_picture(request: RunRequest, seen: ViewSink, record: Path | None, lines: Printer) -> None:
    output = request.report
    # A live page is open already.
    is_opened = request.is_opened and not request.live
    if output is None and is_opened:
        output = (record or Path()) / "run.html"
    if output is None:
        return
    path = write_picture(seen, record, output)
    if not request.quiet:
        lines(f"Report: {path}")
    if is_opened:
        open_page(path)


def _prepare(request: RunRequest, chosen: Chosen, sinks: Sinks) -> PreparedRun:
    repository, job = chosen.repository, chosen.job
    config = checked_config(request, chosen)
    retried = chosen.retried
    given = parse_pairs(request.tags, "--tag")
    # Without one of its own a retry has the tags of the run that it retries.
    tags = {**(job.tags if job is not None else {}), **given} if given or retried is None else None
    observe = Observe(
        record=str(request.home) if request.home is not None else True,
        durability=durability_of(request),
        sinks=sinks,
        fields={
            "repository": chosen.name,
            "selection": chosen.selection,
            "command": tuple(sys.argv[1:]),
            "executor": chosen.request.executor,
            "settings": tuple(chosen.request.settings),
        },
    )
    return repository._prepare(
        RunArguments(
            selection=chosen.names,
            tags=tags,
            config=config,
            executor=chosen.executor,
            observe=observe,
            job=job,
            retry_of=str(retried.folder) if retried is not None else None,
            skip_unchanged=True if request.skips else None,
            partition=chosen.request.partition,
            durable=request.durable,
        )
    )


def _sinks(request: RunRequest, lines: Printer, level: int, views: list[ViewSink]) -> Sinks:
    def view(header: RunHeader, redactor: Redactor) -> ClosableSink:
        views.append(ViewSink(header, redactor))
        return views[0]

    sinks: list[Callable[[RunHeader, Redactor], ClosableSink]] = [view]
    # Opened before the run: a folder that is missing is a mistake on the command line.
    if request.events is not None:
        path = request.events
        sinks.append(lambda header, redactor: EventsFile(path, redactor))
    if request.live:
        # Loads an HTTP server.
        from rivers.cli.live import serve

        sinks.append(lambda header, redactor: serve(header, redactor, lines, request.is_opened))
    if not request.quiet:
        sinks.append(lambda header, redactor: make_progress(header, redactor, lines.stream, log_level=level))
    return sinks


def _carry_out(prepared: PreparedRun) -> ExitCode:
    try:
        result = prepared.carry_out(False)
    except BaseException as error:
        if prepared.loop.status == "running":
            refusal = _refusal(prepared, error)
            if refusal is error:
                raise
            raise refusal from error
        if isinstance(error, KeyboardInterrupt):
            return ExitCode.INTERRUPTED
        if isinstance(error, SystemExit):
            # SIGTERM; a body's own is a failed step.
            return ExitCode.CANCELLED
        raise
    if result.success:
        return ExitCode.OK
    if result.status == "cancelled":
        return ExitCode.CANCELLED
    # A step that its executor has cancelled has not failed.
    reasons = {
        report.failure.reason
        for report in result.steps.values()
        if report.state.value == "failed" and report.failure is not None
    }
    if not reasons:
        return ExitCode.CANCELLED
    return ExitCode.INFRASTRUCTURE if reasons == {FailureReason.INFRASTRUCTURE} else ExitCode.STEP_FAILED


def _refusal(prepared: PreparedRun, error: BaseException) -> BaseException:
    """Return the error of a run that an executor's preflight refuses, or that was interrupted in it."""
    # The record of a run that never began would look like that of a lost one.
    if prepared.observers.record is not None and not prepared.is_resumed:
        shutil.rmtree(prepared.observers.record, ignore_errors=True)
    if isinstance(error, GraphValidationError) and not any(problem.asset for problem in error.problems):
        # Nothing is wrong with the assets: the cluster cannot be reached, or a permission is missing.
        return CommandError("\n  ".join(map(str, error.problems)), code=ExitCode.INFRASTRUCTURE)
    return error
