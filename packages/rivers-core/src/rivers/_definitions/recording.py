"""Whether a graph asset's function is being looked at, and who writes down the calls that it makes."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Protocol

__all__ = ["Recorder", "recording"]


class Recorder(Protocol):
    """Whoever writes down the calls of tasks."""

    def call(self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Write one call down and return the stand-in for its output."""


recording: ContextVar[Recorder | None] = ContextVar("rivers_recording", default=None)
"""Set while a graph asset's function is being looked at: tasks record their calls there instead of running."""
