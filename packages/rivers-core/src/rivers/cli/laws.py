"""The laws of the conformance kit for `rivers executors check`: run them, print a line for each."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator, Sequence

from rivers._definitions.executor import Executor
from rivers._definitions.names import did_you_mean
from rivers._io.base import Reach
from rivers._terminal.text import duration
from rivers.cli.errors import CommandError, ExitCode
from rivers.cli.printer import Printer, divert_stdout
from rivers.spi import Capabilities
from rivers.testing.conformance import LAWS, Law, LawResult, Subject, run_laws

__all__ = ["check_laws", "find_laws"]

FAR_PATIENCE = 120.0
"""Seconds for an attempt to begin on a platform that is not this machine."""
_MARKS = {"passed": ("✓", "ok"), "failed": ("✗", "FAILED"), "skipped": ("–", "-")}
_WIDTH = max(map(len, LAWS))


def find_laws(names: Sequence[str]) -> list[Law]:
    """Return the laws with these names, or those of the quick tier.

    Raises:
        CommandError: there is no law of a name.
    """
    for name in names:
        if name not in LAWS:
            raise CommandError(f"invalid --law={name!r}: expected the name of a law{did_you_mean(name, LAWS)}")
    return [LAWS[name] for name in names] or [law for law in LAWS.values() if law.tier == "quick"]


def check_laws(executor: Executor, capabilities: Capabilities, laws: Sequence[Law], verbose: bool) -> ExitCode:
    """Judge an executor by laws; print a line for each, and the violations after it."""
    began = time.monotonic()
    patience = FAR_PATIENCE if capabilities.reach is Reach.ANYWHERE else 30.0
    with _without_output(verbose) as printer, Subject(executor, patience=patience) as subject:
        results = run_laws(subject, laws, on_result=lambda result: _print_result(printer, result))
        counts = {outcome: sum(one.outcome == outcome for one in results) for outcome in _MARKS}
        words = ", ".join(f"{count} {outcome}" for outcome, count in counts.items() if count)
        printer(f"{len(results)} laws in {duration(time.monotonic() - began)}: {words}")
    return ExitCode.STEP_FAILED if counts["failed"] else ExitCode.OK


def _print_result(printer: Printer, result: LawResult) -> None:
    mark = _MARKS[result.outcome][0 if printer.has_unicode else 1]
    text = result.text if result.outcome == "skipped" else duration(result.seconds)
    printer(f"{mark} {result.law.name:<{_WIDTH}}  {text}")
    if result.outcome == "failed":
        # The first line begins with the law's name, which stands above.
        printer("\n".join(f"    {line.strip()}" for line in result.text.splitlines()))


@contextlib.contextmanager
def _without_output(verbose: bool) -> Iterator[Printer]:
    """Hide what bodies print and log; with `verbose` it goes to stderr."""
    if verbose:
        with divert_stdout(sys.stderr) as printer:
            yield printer
        return
    with open(os.devnull, "w", encoding="utf-8") as nowhere, divert_stdout(nowhere) as printer:
        kept = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            with contextlib.redirect_stderr(nowhere):
                yield printer
        finally:
            os.dup2(kept, 2)
            os.close(kept)
