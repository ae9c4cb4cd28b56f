"""`rivers run --partitions`: run many partitions, each in a recorded run; the same command goes on where it was."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

from rivers._definitions.partitions import Partitions, is_key
from rivers._plan.partitions import partitions_of, partitions_of_run
from rivers._record.backfill_log import BACKFILL_TAG, BackfillLog
from rivers._record.reader import read_header
from rivers._record.runs import RunRecords
from rivers._terminal.text import clean, count_of, duration
from rivers.cli.ending import print_warnings
from rivers.cli.errors import CommandError, ExitCode
from rivers.cli.executor_options import parse_pairs
from rivers.cli.inputs import check_inputs, check_left_out
from rivers.cli.partition_runs import PartitionEnd, carry_out_all
from rivers.cli.printer import Printer, stderr
from rivers.cli.records import SHORT_ID, describe_record, records_of
from rivers.cli.request import Chosen, checked_config, choose
from rivers.cli.run import RunRequest, with_printers
from rivers.cli.tables import print_table
from rivers.cli.target import target_identity
from rivers.exceptions import ConfigurationError, RecordError

__all__ = ["BackfillRequest", "run_backfill"]

MOST_ROWS = 40
"""Above this number of partitions, the table at the end leaves out those that have succeeded."""

_OF_RUN = "each partition has a run of its own: make the picture of one with rivers report RUN"
_INSTEAD = {
    "--partition": "--partition KEY runs one partition, --partitions many: A..B, all, or keys with commas",
    "--retry-failed": "the same command again retries the partitions that have failed by itself",
}

_SIGNS = {"success": ("✓", "+", "green"), "cancelled": ("–", "-", "yellow")}
_FAILED = ("✗", "x", "red")


@dataclass(frozen=True, slots=True, kw_only=True)
class BackfillRequest(RunRequest):
    """The options of `rivers run --partitions`; `backfill` is a name that tells one from another of the same choice."""

    partitions: str | None = None
    max_parallel: int | None = None
    backfill: str | None = None


def run_backfill(request: BackfillRequest) -> ExitCode:
    """Run every partition that has not succeeded in this backfill, and return the exit code.

    A partition whose run was interrupted goes on, one whose run has failed is retried.

    Raises:
        CommandError, RiversError: nothing was started.
    """
    _check_options(request)

    def work(_: RunRequest, lines: Printer, answer: Printer | None) -> ExitCode:
        return _backfill(request, lines, answer)

    return with_printers(request, work)


def _backfill(request: BackfillRequest, lines: Printer, answer: Printer | None) -> ExitCode:
    print_warnings(stderr(), has_progress=not request.quiet)
    chosen = choose(request)
    keys = _select(chosen, request.partitions or "")
    names, left_out = _split_names(chosen)
    plan = replace(chosen, names=tuple(names)).plan
    check_inputs(chosen.repository, plan)
    config = checked_config(request, chosen)
    parse_pairs(request.tags, "--tag")
    records = records_of(request.home)
    backfill_id = _id_of(chosen, request.backfill, config)
    try:
        log = BackfillLog(records.home, backfill_id)
    except BlockingIOError:
        raise CommandError(f"backfill {backfill_id} still goes on in another process") from None
    except OSError as error:
        raise CommandError(f"cannot open the log of the backfill, {error.filename}: {error.strerror}") from None
    with log:
        selecting = replace(request, select=names) if left_out else request
        commands = list(_commands(selecting, keys, log, _newest_runs(records, backfill_id), backfill_id))
        if commands:
            check_left_out(chosen.repository, plan, request.target)
        if not request.quiet:
            made = len(keys) - len(commands)
            before = f", {made:,} {'has' if made == 1 else 'have'} succeeded before" if made else ""
            lines(f"Backfill {backfill_id}: {len(commands):,} of {count_of(len(keys), 'partition')} to run{before}")
            if left_out:
                lines(f"Left out, as they have no partitions: {clean(', '.join(left_out))}")
        chosen.repository.shutdown()
        ends: dict[str, PartitionEnd] = {}

        def report(end: PartitionEnd) -> None:
            ends[end.partition] = end
            if end.status == "success":
                log.add(end.partition, end.run_id)
            _print_end(lines, end, request.quiet)

        stopped = carry_out_all(commands, request.max_parallel or 1, report)
    to_run = [partition for partition, _ in commands]
    states = [ends.get(key) or PartitionEnd(key, "not run" if key in to_run else "success before") for key in keys]
    return _finish(request, backfill_id, states, stopped, lines, answer)


def _finish(
    request: BackfillRequest,
    backfill_id: str,
    states: Sequence[PartitionEnd],
    stopped: int | None,
    lines: Printer,
    answer: Printer | None,
) -> ExitCode:
    """Print the table of all partitions and return the exit code."""
    is_whole = all(one.status.startswith("success") for one in states)
    if answer is not None:
        rows = [
            {"partition": one.partition, "status": one.status, "run_id": one.run_id, "seconds": one.seconds}
            for one in states
        ]
        answer(json.dumps({"backfill": backfill_id, "partitions": rows}))
    elif not request.quiet or not is_whole:
        _print_table(lines, states)
    if stopped is not None:
        return ExitCode.INTERRUPTED if stopped == signal.SIGINT else ExitCode.CANCELLED
    return ExitCode.OK if is_whole else ExitCode.STEP_FAILED


def _check_options(request: BackfillRequest) -> None:
    """Check that no option is given that means one run.

    Raises:
        CommandError: one is, or --partitions is missing.
    """
    if request.partitions is None:
        raise CommandError("--max-parallel and --backfill need --partitions, such as --partitions all")
    given = {
        "--partition": request.partition,
        "--retry-failed": request.retry_failed,
        "--report": request.report,
        "--open": request.is_opened,
        "--live": request.live,
    }
    wrong = [option for option, value in given.items() if value]
    if wrong:
        raise CommandError(
            f"invalid {wrong[0]} with --partitions: expected one of them", hint=_INSTEAD.get(wrong[0], _OF_RUN)
        )
    if request.backfill is not None and not is_key(request.backfill):
        raise CommandError(
            f"invalid --backfill {request.backfill!r}: expected up to 63 letters, digits, '-', '_' or '.'"
        )


def _select(chosen: Chosen, expression: str) -> tuple[str, ...]:
    """Return the keys that --partitions chooses.

    Raises:
        CommandError: they are not those of the assets, or these have no partitions.
    """
    graph = chosen.repository._planner.graph
    nodes = [node.index for step in chosen.plan.steps for node in (step.inner or (step.node,))]
    try:
        partitions: Partitions | None = partitions_of_run(graph, nodes)
        if partitions is None:
            raise CommandError("invalid --partitions: expected none, as no asset of the run has partitions")
        return partitions.select(expression)
    except ConfigurationError as error:
        problem = error.message.removeprefix("invalid ").replace("partitions=", "").replace("partition=", "")
        whole = f" in {expression!r}" if repr(expression) not in problem else ""
        raise CommandError(f"invalid --partitions {problem}{whole}", hint=error.hint) from None


def _split_names(chosen: Chosen) -> tuple[list[str], list[str]]:
    """Return the names of the chosen assets that have partitions, and of those that have none.

    The latter would be made by every run anew, and by several at once.
    """
    nodes = [node for step in chosen.plan.steps for node in (step.inner or (step.node,))]
    owners = {node.owner.name: partitions_of(node) is not None for node in nodes}
    return [name for name in owners if owners[name]], [name for name in owners if not owners[name]]


def _id_of(chosen: Chosen, name: str | None, config: Mapping[str, Any] | None) -> str:
    """Return the id of a backfill, which is the same for the same choice, config and name in the same folder."""
    job = chosen.job.name if chosen.job is not None else None
    # Two projects may record to one home, and their modules may have one name.
    _, target = target_identity(chosen.name, Path.cwd())
    facts = [str(Path.cwd()), target, job, chosen.selection, name, repr(config or {})]
    digest = sha256(json.dumps(facts).encode("utf-8", "surrogatepass")).hexdigest()[:SHORT_ID]
    return digest if name is None else f"{name}-{digest}"


def _newest_runs(records: RunRecords, backfill_id: str) -> dict[str, Path]:
    """Return the record of each partition's newest run in the backfill."""
    found: dict[str, Path] = {}
    for folder in records.folders():
        try:
            header = read_header(folder)
        except RecordError:
            # It is damaged, or of a newer version.
            continue
        if header is not None and header.partition is not None and header.tags.get(BACKFILL_TAG) == backfill_id:
            found.setdefault(header.partition, folder)
    return found


def _commands(
    request: BackfillRequest, keys: Sequence[str], log: BackfillLog, newest: dict[str, Path], backfill_id: str
) -> Iterator[tuple[str, list[str]]]:
    """Yield the arguments of `rivers` for each partition that has not succeeded, and note those that have."""
    common = _arguments(replace(request, tags=[*request.tags, f"{BACKFILL_TAG}={backfill_id}"]))
    for key in keys:
        if key in log:
            continue
        record = newest.get(key)
        status = describe_record(record)["status"] if record is not None else None
        if record is not None and status == "success":
            # It was killed between the end of the run and the line about it.
            log.add(key, record.name)
            continue
        how: list[str] = []
        if record is not None:
            # A run that has neither succeeded nor failed was interrupted.
            how = ["--retry-failed", record.name] if status == "failure" else ["--resume-if-interrupted"]
        yield key, [*common, "--partition", key, *how]


def _arguments(request: RunRequest) -> list[str]:
    """Return the options of one partition's run."""
    pairs: list[tuple[str, object]] = [
        *(("--select", selector) for selector in request.select),
        ("--job", request.job),
        ("--executor", request.executor),
        *(("--set", setting) for setting in request.settings),
        ("--config", request.config),
        ("--env-file", request.env_file),
        *(("--tag", tag) for tag in request.tags),
        ("--home", request.home),
        ("--events", request.events),
        ("--log-level", request.log_level),
        ("--durability", request.durability),
    ]
    flags = [("--skip-unchanged", request.skips), ("--durable", request.durable)]
    return [
        "run",
        request.target,
        "--json",
        *(f"{option}={value}" for option, value in pairs if value is not None),
        *(flag for flag, is_given in flags if is_given),
    ]


def _print_end(lines: Printer, end: PartitionEnd, is_quiet: bool) -> None:
    """Print a line for a partition that has ended, and below it what a run that did not succeed has printed."""
    if is_quiet and end.status == "success":
        return
    unicode, ascii_sign, _ = _SIGNS.get(end.status, _FAILED)
    run = f"  run {end.run_id[:SHORT_ID]}" if end.run_id else ""
    lines(f"{unicode if lines.has_unicode else ascii_sign} {end.partition}  {end.status}  {duration(end.seconds)}{run}")
    if end.status != "success":
        for line in end.output.splitlines():
            lines(f"    {clean(line)}".rstrip())


def _print_table(lines: Printer, states: Sequence[PartitionEnd]) -> None:
    shown = [one for one in states if len(states) <= MOST_ROWS or not one.status.startswith("success")]
    if shown:
        rows = [
            (
                one.partition,
                (one.status, _SIGNS.get(one.status.partition(" ")[0], _FAILED)[2]),
                (one.run_id or "")[:SHORT_ID],
                duration(one.seconds) if one.seconds else "",
            )
            for one in shown
        ]
        lines()
        print_table(lines, ("partition", "status", "run", "took"), rows)
    succeeded = sum(one.status.startswith("success") for one in states)
    lines(f"{succeeded:,} of {count_of(len(states), 'partition')} succeeded")
