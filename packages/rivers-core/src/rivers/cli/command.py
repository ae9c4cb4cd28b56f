"""Carry out a command: print its errors in three lines and return its exit code."""

from __future__ import annotations

import traceback
from collections.abc import Callable

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
        printer = stderr()
        if is_verbose:
            printer("".join(traceback.format_exception(error)).rstrip())
        for line in explain(error):
            printer(line)
        return exit_code_of(error)
