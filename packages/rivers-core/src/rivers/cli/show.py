"""`rivers show`: a recorded run as text."""

from __future__ import annotations

import json
from pathlib import Path

from rivers._record.header import RunHeader
from rivers._record.reader import DamagedLine, read_run
from rivers._record.view import RunView, ViewState
from rivers._terminal.summary import summary
from rivers._terminal.text import clean, count_of, wrap
from rivers.cli.errors import ExitCode
from rivers.cli.printer import Printer, stderr, stdout
from rivers.cli.records import records_of, started_text
from rivers.cli.run_json import summarize

__all__ = ["show", "warn_of_damage"]

MOST_DAMAGED = 5
MOST_TRACEBACKS = 10


def show(run: str | None, home: Path | None, as_json: bool, is_verbose: bool = False) -> ExitCode:
    """Print a recorded run: its end, failures with the user's frames, retries, the slowest steps.

    A verbose one has the whole tracebacks of failed steps, too.

    Raises:
        RecordError: there is no such record, or it cannot be read.
    """
    path = records_of(home).find(run)
    view, damaged = read_run(path, keeps_logs=False)
    printer = stdout()
    if as_json:
        printer(json.dumps(summarize(view, path), ensure_ascii=False))
    else:
        printer(summary(view, printer.width, printer.has_unicode, color=printer.has_color).rstrip())
        printer()
        if view.header is not None:
            print_header(printer, view.header, view.resumed)
        if is_verbose:
            print_tracebacks(printer, view)
    warn_of_damage(damaged)
    return ExitCode.OK


def print_header(printer: Printer, header: RunHeader, resumed: int = 0) -> None:
    """Print the circumstances of a run that was resumed so many times."""
    facts = {
        "Target": header.repository + (f", job {header.job}" if header.job else ""),
        "Selection": ", ".join(header.selection[:20]) if header.selection is not None else "",
        "Partition": header.partition or "",
        "Tags": ", ".join(f"{name}={value}" for name, value in header.tags.items()),
        "Retry of": (header.retry_of or "")[:8],
        "Started": f"{started_text(header.started)} on {header.host}, pid {header.pid}",
        "Resumed": f"{count_of(resumed, 'time')}; its time includes those when it did not run" if resumed else "",
        "Executors": ", ".join(executor.text for executor in header.executors),
        "Versions": ", ".join(f"{name} {version}" for name, version in header.versions.items()),
    }
    if header.git is not None:
        changed = " with changes" if header.git.is_dirty else ""
        branch = f" on {header.git.branch}" if header.git.branch else ""
        facts["Git"] = f"{header.git.commit[:12]}{branch}{changed}"
    for name, text in facts.items():
        lines = wrap(clean(text), printer.width - 12) if text else []
        for number, line in enumerate(lines):
            printer(f"  {name if number == 0 else '':<10}{line}")


def print_tracebacks(printer: Printer, view: RunView) -> None:
    """Print the whole tracebacks of the last attempts of failed steps."""
    failures = [
        (step.key, step.last.failure)
        for step in view.steps.values()
        if step.state is ViewState.FAILED and step.last is not None and step.last.failure is not None
    ]
    for key, failure in failures[:MOST_TRACEBACKS]:
        if failure.traceback:
            printer()
            printer(f"{clean(key)}:")
            printer("\n".join(clean(line) for line in failure.traceback.rstrip().splitlines()))
    if len(failures) > MOST_TRACEBACKS:
        printer()
        printer(f"{count_of(len(failures) - MOST_TRACEBACKS, 'more failed step')}: `rivers report` has all tracebacks")


def warn_of_damage(damaged: list[DamagedLine]) -> None:
    """Print the lines of a record that could not be read to standard error."""
    printer = stderr()
    for line in damaged[:MOST_DAMAGED]:
        which = f"line {line.number} of the events cannot be read: " if line.number else ""
        printer(f"warning: {which}{clean(line.problem)}")
    if len(damaged) > MOST_DAMAGED:
        printer(f"warning: {count_of(len(damaged) - MOST_DAMAGED, 'more line')} cannot be read")
