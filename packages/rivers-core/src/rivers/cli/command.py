"""Carry out a command: print its errors in three lines and return its exit code."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable

from rivers._record.redact import Redactor, secrets_of
from rivers._terminal.spans import Line, Span, line_of, to_text
from rivers._terminal.text import clean
from rivers.cli.errors import ExitCode, exit_code_of, explain
from rivers.cli.printer import stderr

__all__ = ["carry_out"]


def carry_out(command: Callable[[], int | None], is_verbose: bool = False) -> int:
    """Call a command and return its exit code; an error is printed to standard error, with a traceback if verbose."""
    try:
        return command() or ExitCode.OK
    except KeyboardInterrupt:
        stderr()("interrupted")
        return ExitCode.INTERRUPTED
    except Exception as error:  # noqa: BLE001 - whatever a user's module or an executor raises becomes three lines
        printer, redactor = stderr(), Redactor(secrets_of((), os.environ))
        if is_verbose:
            printer(redactor.text("".join(traceback.format_exception(error)).rstrip()))
        lines = [_style(redactor.text(line)) for line in explain(error)]
        printer(to_text(lines, unicode=printer.has_unicode, color=printer.has_color))
        return exit_code_of(error)


def _style(line: str) -> Line:
    """Return a line of an error with its label and its remedy in colours, and without escape sequences of others."""
    label, found, rest = clean(line).partition("error: ")
    if found and not label:
        return line_of(Span("error:", "bad"), f" {rest}")
    return line_of(Span(clean(line), "accent" if line.lstrip().startswith("→") else ""))
