"""`rivers resume`: carry on a recorded run with the target and the options that it was begun with."""

from __future__ import annotations

from dataclasses import replace

from rivers._record.header import RunHeader
from rivers._record.reader import read_header
from rivers.cli.ending import print_warnings
from rivers.cli.errors import CommandError, ExitCode
from rivers.cli.interrupted import find_unfinished
from rivers.cli.printer import Printer, stderr
from rivers.cli.records import SHORT_ID, records_of
from rivers.cli.request import choose, recorded_executor
from rivers.cli.run import RunRequest, perform, prepare_resumed, with_printers

__all__ = ["resume"]


def resume(run: str | None, request: RunRequest) -> ExitCode:
    """Carry on a run and return the exit code; without a name it is the newest that did not succeed.

    The options of a request count before those that the run was begun with.

    Raises:
        CommandError, RiversError: nothing was started.
    """
    records = records_of(request.home)
    record = records.find(run) if run is not None else find_unfinished(records)
    header = read_header(record) if record.is_dir() else None
    if header is None:
        raise CommandError(f"the record {record} has no header: expected the folder of a run")
    found = _complete(request, header)

    def work(request: RunRequest, lines: Printer, answer: Printer | None) -> ExitCode:
        print_warnings(stderr(), has_progress=not request.quiet)
        chosen = choose(replace(request, job=header.job))
        return perform(
            request,
            chosen.repository,
            lambda sinks: prepare_resumed(request, chosen.repository, record, chosen.executor, sinks),
            lines,
            answer,
        )

    return with_printers(found, work)


def _complete(request: RunRequest, header: RunHeader) -> RunRequest:
    """Return the request with the target, and the executor and its settings, that the run was begun with."""
    target = request.target or header.repository
    if not target:
        raise CommandError(
            f"the record of run {header.run_id[:SHORT_ID]} does not name its repository",
            hint="give it: rivers resume RUN --target package.module:name",
        )
    executor, settings = recorded_executor(request, header)
    return replace(request, target=target, executor=executor, settings=settings)
