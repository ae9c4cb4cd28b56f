"""`rivers report`: the picture of a run as an HTML file."""

from __future__ import annotations

import webbrowser
from pathlib import Path

from rivers._record.reader import read_run
from rivers._record.redact import Redactor
from rivers._record.view import RunView
from rivers._report.write import write_report
from rivers.cli.errors import CommandError, ExitCode
from rivers.cli.printer import stderr, stdout
from rivers.cli.records import records_of
from rivers.cli.show import warn_of_damage

__all__ = ["open_address", "open_page", "report", "save_report"]


def report(run: str | None, home: Path | None, output: Path, is_opened: bool) -> ExitCode:
    """Write the picture of a recorded run to an HTML file.

    Raises:
        RecordError: there is no such record, or it cannot be read.
        CommandError: the file cannot be written.
    """
    view, damaged = read_run(records_of(home).find(run))
    warn_of_damage(damaged)
    path = save_report(view, output)
    stdout()(f"Report: {path}")
    if is_opened:
        open_page(path)
    return ExitCode.OK


def save_report(view: RunView, output: Path, redactor: Redactor | None = None) -> Path:
    """Write the picture of a run and return its path; a view that was not read from a record needs a redactor.

    Raises:
        CommandError: the file cannot be written.
    """
    try:
        return write_report(view, output, redactor)
    except OSError as error:
        code = ExitCode.INFRASTRUCTURE
        raise CommandError(f"cannot write the report {output}: {error.strerror}", code=code) from error


def open_page(path: Path) -> None:
    """Open a file in the browser; without one print the address."""
    open_address(path.resolve().as_uri())


def open_address(address: str) -> None:
    """Open an address in the browser; without one print it."""
    if not webbrowser.open(address):
        stderr()(f"no browser to open {address}")
