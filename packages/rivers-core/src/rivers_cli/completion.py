"""Completion of values on the command line: modules, assets, jobs, executors, runs, steps.

The functions get a context that has parsed the line up to the cursor. They offer nothing where a target cannot be
imported, as nobody can read an error while completing.
"""

from __future__ import annotations

import contextlib
import json
import os
import pkgutil
import sys
from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points
from pathlib import Path

import typer

__all__ = [
    "complete_executor",
    "complete_field",
    "complete_job",
    "complete_run",
    "complete_select",
    "complete_step",
    "complete_target",
]

MOST_RUNS = 20
SHORT_ID = 8


def complete_target(incomplete: str) -> list[str]:
    """Return the modules and packages of the working directory, and Python files by path."""
    folder, _, _ = incomplete.rpartition("/")
    files = sorted(str(path) for path in Path(folder or ".").glob("*.py"))
    names = [] if folder else sorted(module.name for module in pkgutil.iter_modules(["."]))
    return _matching(names + files, incomplete)


def complete_select(context: typer.Context, incomplete: str) -> list[str]:
    """Return the names of assets, groups and tags of the target, for the last selector of a list."""
    done, comma, last = incomplete.rpartition(",")
    plus = "+" if last.startswith("+") else ""
    with _silence():
        from rivers.cli.completion import selectors_of

        found = selectors_of(_first(context, "target"))
    return [f"{done}{comma}{plus}{name}" for name in _matching(found, last.removeprefix("+"))]


def complete_job(context: typer.Context, incomplete: str) -> list[str]:
    """Return the names of the target's jobs."""
    with _silence():
        from rivers.cli.completion import jobs_of

        return _matching(jobs_of(_first(context, "target")), incomplete)


def complete_executor(incomplete: str) -> list[str]:
    """Return the kinds of executors that are installed, without loading their packages."""
    kinds = {"in_process", *(point.name for point in entry_points(group="rivers.executors"))}
    return _matching(sorted(kinds), incomplete)


def complete_field(context: typer.Context, incomplete: str) -> list[str]:
    """Return the fields of the executor on the line, each with an equals sign."""
    kind = context.params.get("executor") or _first(context, "name")
    if "=" in incomplete or not kind:
        return []
    with _silence():
        from rivers.cli.completion import fields_of

        return _matching([f"{name}=" for name in fields_of(kind)], incomplete)


def complete_run(context: typer.Context, incomplete: str) -> list[str]:
    """Return the ids of the newest recorded runs."""
    folders = _run_folders(context)
    return _matching([folder.name[:SHORT_ID] for folder in folders[:MOST_RUNS]], incomplete)


def complete_step(context: typer.Context, incomplete: str) -> list[str]:
    """Return the steps of the run on the line, else of the newest; before the first of them also runs."""
    given = [*(context.params.get("step") or context.args)]
    folders = _run_folders(context)
    # `logs RUN STEP`: the first argument is a run once there is a second one.
    if given:
        folders = [folder for folder in folders if folder.name.startswith(given[0])]
    keys: list[str] = []
    if folders:
        with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
            keys = [step["key"] for step in json.loads((folders[0] / "header.json").read_bytes())["steps"]]
    runs = [] if given else complete_run(context, incomplete)
    return _matching(keys, incomplete) + runs


def _first(context: typer.Context, name: str) -> str | None:
    """Return the first argument of the command; where the line ends with an option, it has no parameter's name yet."""
    return context.params.get(name) or next(iter(context.args), None)


def _run_folders(context: typer.Context) -> list[Path]:
    home = Path(context.params.get("home") or os.environ.get("RIVERS_HOME") or ".rivers")
    try:
        return sorted((home / "runs").iterdir(), key=lambda folder: folder.stat().st_mtime, reverse=True)
    except OSError:
        return []


def _matching(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Send what the user's modules print nowhere: the shell would take it for candidates."""
    sys.stdout.flush()
    # Below Python, too: an extension module may print when it is imported.
    kept = os.dup(1), os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
        with contextlib.redirect_stdout(None), contextlib.redirect_stderr(None):
            yield
    finally:
        for number, descriptor in zip((1, 2), kept, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)
        os.close(nowhere)
