"""The composition that records calls of tasks in this context, if there is one."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Protocol

__all__ = ["Recorder", "recording"]


class Recorder(Protocol):
    """An object that records the calls of tasks."""

    def call(self, task: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Record one call and return the placeholder of its output."""


recording: ContextVar[Recorder | None] = ContextVar("rivers_recording", default=None)
"""Set while a graph asset's function is being looked at: tasks record their calls there instead of running."""
