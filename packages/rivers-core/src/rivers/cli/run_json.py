"""A run as plain data, for `--json`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rivers._record.view import RunView, ViewState

__all__ = ["summarize"]


def summarize(view: RunView, record: Path | None) -> dict[str, Any]:
    """Return a run as plain data for `--json`."""
    return {
        "run_id": view.run_id,
        "status": view.status,
        "repository": view.header.repository if view.header is not None else None,
        "partition": view.header.partition if view.header is not None else None,
        "started": view.started,
        "ended": view.ended,
        "record": str(record) if record is not None else None,
        "counts": {state.value: count for state, count in view.counts.items() if count},
        "steps": [
            {
                "key": step.key,
                "state": step.state.value,
                "executor": step.executor or None,
                "attempts": len(step.attempts),
                "seconds": step.seconds,
                "cause": step.cause,
                "failure": None
                if step.failure is None or step.state is ViewState.SUCCEEDED
                else {
                    "reason": step.failure.reason.value,
                    "type": step.failure.type,
                    "message": step.failure.message,
                },
            }
            for step in view.steps.values()
        ],
        "warnings": [warning.message for warning in view.warnings],
    }
