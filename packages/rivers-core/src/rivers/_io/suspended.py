"""The runs that a handler in memory keeps although they have ended, as they may be resumed in this process."""

from __future__ import annotations

__all__ = ["SuspendedRuns"]

KEPT = 8
"""Runs: a service whose runs often fail must not keep the values of all of them."""


class SuspendedRuns:
    """The ids of the last few runs that did not succeed."""

    def __init__(self) -> None:
        self._run_ids: dict[str, None] = {}

    def add(self, run_id: str) -> str:
        """Add a run and return the id of the one to forget for it, or an empty text."""
        self._run_ids.pop(run_id, None)
        self._run_ids[run_id] = None
        if len(self._run_ids) <= KEPT:
            return ""
        oldest = next(iter(self._run_ids))
        del self._run_ids[oldest]
        return oldest
