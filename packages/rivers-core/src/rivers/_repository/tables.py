"""The steps of a result as rows, for data frames and notebooks."""

from __future__ import annotations

import importlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any

import msgspec

from rivers._definitions.asset import Asset
from rivers._definitions.names import did_you_mean
from rivers._plan.report import StepReport
from rivers._terminal.html import html_table
from rivers.exceptions import ConfigurationError

__all__ = ["LIBRARIES", "repository_html", "step_rows", "to_frame"]

LIBRARIES = ("pandas", "polars")


def repository_html(caption: str, assets: Sequence[Asset]) -> str:
    """Return a repository for a notebook: a row for each asset."""
    rows = [(asset.name, type(asset).__name__, asset.group or "", asset.where or "") for asset in assets]
    return html_table(caption, ("asset", "kind", "group", "defined at"), rows)


def step_rows(steps: Mapping[str, StepReport]) -> list[dict[str, Any]]:
    """Return a row for each step; see `RunResult.steps_table`."""
    return [_row(report) for report in steps.values()]


def _row(report: StepReport) -> dict[str, Any]:
    failure, timings = report.failure, report.timings
    # Without a start there is no time in a worker.
    seconds = timings.load + timings.run + timings.store if report.started is not None else None
    return {
        "step": report.step,
        "state": report.state.value,
        "executor": report.executor,
        "worker": report.worker or None,
        "attempts": report.attempts,
        "started": _datetime(report.started),
        "ended": _datetime(report.ended),
        "seconds": seconds,
        "queued": timings.queued,
        "boot": timings.boot,
        "schedule": timings.schedule,
        "pull": timings.pull,
        "load": timings.load,
        "run": timings.run,
        "store": timings.store,
        "reason": failure.reason.value if failure is not None else None,
        "error": failure.summary if failure is not None else None,
        "cause": report.cause,
        "metadata": _metadata(report),
    }


def _datetime(seconds: float | None) -> datetime | None:
    return datetime.fromtimestamp(seconds, UTC) if seconds is not None else None


def _metadata(report: StepReport) -> dict[str, Any] | None:
    """Return the metadata of the outputs; of several outputs by output."""
    found = {one.name: msgspec.json.decode(one.metadata) for one in report.outputs if one.metadata is not None}
    if not found:
        return None
    return found if len(report.outputs) > 1 else dict(next(iter(found.values())))


def to_frame(rows: list[dict[str, Any]], library: str | None) -> Any:
    """Return rows as a data frame of pandas or polars; None is the first of them that is installed.

    Raises:
        ConfigurationError: it is another library, or is not installed.
    """
    if library is not None and library not in LIBRARIES:
        raise ConfigurationError(
            f"invalid library={library!r}: expected {' or '.join(LIBRARIES)}{did_you_mean(str(library), LIBRARIES)}"
        )
    chosen = next((name for name in ((library,) if library else LIBRARIES) if find_spec(name) is not None), None)
    if chosen is None:
        raise ConfigurationError(
            f"to_frame() needs {library or ' or '.join(LIBRARIES)}, which is not installed",
            hint=f"pip install {library or LIBRARIES[0]}, or use steps_table(), a list of dicts",
        )
    return importlib.import_module(chosen).DataFrame(rows)
