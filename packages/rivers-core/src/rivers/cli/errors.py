"""Errors of the command line as three lines: the problem, the user's own frame, the remedy; and their exit codes."""

from __future__ import annotations

import enum
import linecache
import os
import re
import site
import sysconfig
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

from rivers._runner.own_frames import is_own_frame
from rivers._terminal.text import clean, clip
from rivers.exceptions import (
    DefinitionError,
    ExecutorNotInstalledError,
    GraphValidationError,
    Problem,
    RecordError,
    ResumeError,
    RiversError,
)
from rivers.protocol.exception_text import describe_exception

__all__ = ["CommandError", "ExitCode", "brief", "exit_code_of", "explain", "in_words", "user_frame"]

MOST_PROBLEMS = 20
MOST_MESSAGE = 500
MOST_LINE = 160
"""Characters of a source line."""
_OWN = ("rivers", "rivers_cli", "rivers_process", "rivers_worker")
"""Packages of rivers, beside those of its executors."""
_LIBRARIES = tuple(
    {
        *(os.path.join(path, "") for path in (*site.getsitepackages(), site.getusersitepackages())),
        os.path.join(sysconfig.get_path("stdlib"), ""),
        "<frozen ",
    }
)


_RETRY = re.compile(r"materialize\(retry_of='(\w+)'\)")


class ExitCode(enum.IntEnum):
    """The exit codes of every command."""

    OK = 0
    STEP_FAILED = 1
    USAGE = 2
    INFRASTRUCTURE = 3
    CANCELLED = 4
    INTERRUPTED = 130


class CommandError(Exception):
    """An error of a command that is shown as its message, the frame it comes from and a hint."""

    def __init__(
        self, message: str, *, at: str | None = None, hint: str | None = None, code: ExitCode = ExitCode.USAGE
    ) -> None:
        super().__init__(message)
        self.message = message
        self.at = at
        self.hint = hint
        self.code = code


def brief(error: BaseException) -> str:
    """Return an exception on one line: its message may have thousands."""
    first, *more = clean(describe_exception(error)).strip().splitlines() or [""]
    return clip(first, MOST_MESSAGE) + (" …" if more else "")


def in_words(error: ResumeError, target: str) -> CommandError:
    """Return the error of a run that is not carried on with the name of that run, and a remedy of the command line."""
    message, hint = error.message, error.hint
    if error.run_id:
        name = f"run {error.run_id[:8]}"
        message = (
            f"{name} {message.removeprefix('the run ')}" if message.startswith("the run ") else f"{name}: {message}"
        )
    if hint is not None:
        hint = _RETRY.sub(rf"rivers run {target} --retry-failed \1", hint)
    return CommandError(message, hint=hint)


def exit_code_of(error: BaseException) -> ExitCode:
    """Return the exit code for an error that ended a command before or instead of its run."""
    if isinstance(error, CommandError):
        return error.code
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if isinstance(error, DefinitionError | ExecutorNotInstalledError | RecordError | ResumeError):
        return ExitCode.USAGE
    return ExitCode.INFRASTRUCTURE


def explain(error: BaseException) -> list[str]:
    """Return an error as lines: the problem, the user's frame where there is one, and the remedy."""
    if isinstance(error, CommandError):
        lines = [f"error: {error.message}", f"  {error.at}" if error.at else "", _hint(error.hint)]
        return [line for line in lines if line]
    if isinstance(error, GraphValidationError):
        return _explain_problems(error.problems)
    frame = user_frame(error, has_libraries=not isinstance(error, RiversError | OSError))
    if isinstance(error, RiversError):
        lines = [f"error: {error.message}", f"  {frame}" if frame else "", _hint(error.hint)]
        return [line for line in lines if line]
    remedy = _hint("--verbose shows the traceback")
    return [line for line in (f"error: {brief(error)}", f"  {frame}" if frame else "", remedy) if line]


def _explain_problems(problems: Sequence[Problem]) -> list[str]:
    # Locations are whole paths; those below the working directory are shorter without it.
    here = os.path.join(Path.cwd(), "")
    shown = [f"  {str(problem).replace(here, '')}" for problem in problems[:MOST_PROBLEMS]]
    if len(problems) == 1:
        return [f"error: {shown[0].lstrip()}"]
    more = len(problems) - len(shown)
    return [f"error: {len(problems)} problems in the repository", *shown, *([f"  … and {more} more"] if more else [])]


def _hint(hint: str | None) -> str:
    return f"  → {hint}" if hint else ""


def user_frame(error: BaseException, *, has_libraries: bool = True) -> str | None:
    """Return `file:line, in function: source line` of the last frame in the user's own code; None without one.

    Frames of rivers, of the standard library and of installed packages are not the user's. Without any other frame the
    last one of an installed package is returned, unless `has_libraries` is false.
    """
    # Its traceback ends in importlib: the file is known to the error alone.
    if isinstance(error, SyntaxError) and error.filename:
        source = (error.text or "").strip()
        return f"{_short_path(error.filename)}:{error.lineno}{f': {source[:MOST_LINE]}' if source else ''}"
    frames = list(_frames(error))
    # The last one: a mistake is where the user's code calls a library, and rarely in the library.
    own = [frame for frame in frames if not frame[0].startswith(_LIBRARIES)]
    found = (own or (frames if has_libraries else []))[-1:]
    if not found:
        return None
    filename, line, function = found[0]
    source = linecache.getline(filename, line).strip()
    within = f", in {function}" if function != "<module>" else ""
    return f"{_short_path(filename)}:{line}{within}{f': {source[:MOST_LINE]}' if source else ''}"


def _frames(error: BaseException) -> Iterator[tuple[str, int, str]]:
    for frame, line in traceback.walk_tb(error.__traceback__):
        code = frame.f_code
        # By name, as an editable install has its files anywhere.
        package = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        is_ours = package in _OWN or package.startswith("rivers_executor_")
        if not is_ours and not is_own_frame(code.co_filename):
            yield code.co_filename, line, code.co_name


def _short_path(filename: str) -> str:
    """Return a path relative to the working directory where it lies below it."""
    path = Path(filename)
    try:
        return str(path.relative_to(Path.cwd()))
    except ValueError:
        return filename
