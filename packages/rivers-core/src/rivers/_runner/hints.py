"""Add a hint to exceptions of bodies whose cause lies in how or where rivers runs them."""

from __future__ import annotations

import asyncio
import contextlib
import re
import sys

from rivers.protocol.exception_text import exception_text
from rivers.protocol.failure import HINT

__all__ = ["add_hint"]

_LOOP_RUNS = (
    # asyncio.run, asyncio.Runner.
    "cannot be called from a running event loop",
    # run_until_complete of the same loop.
    "This event loop is already running",
    "Cannot run the event loop while another loop is running",
)
_NOT_IN_MAIN = re.compile(
    r"attribute lookup (\S+) on __main__ failed|[Cc]an't get attribute '([^']+)' on <module '__main__'"
)


def add_hint(error: BaseException) -> None:
    """Add what to do as a note, once, where the exception's text shows one of the known causes."""
    hint = _hint_for(error)
    if hint is not None and HINT + hint not in getattr(error, "__notes__", ()):
        # Its class may have its own idea of notes.
        with contextlib.suppress(Exception):
            error.add_note(HINT + hint)


def _hint_for(error: BaseException) -> str | None:
    text = exception_text(error)
    if isinstance(error, RuntimeError) and any(part in text for part in _LOOP_RUNS):
        if asyncio._get_running_loop() is not None:
            return (
                "an event loop runs in this thread already, as in a notebook: make the asset an `async def` and await "
                "instead, or run it in a worker with rs.Executor.parallel()"
            )
        return None
    found = _NOT_IN_MAIN.search(text)
    if found is None:
        return None
    name = found[1] or found[2]
    if hasattr(sys.modules.get("__main__"), name.partition(".")[0]):
        return None
    return (
        f"{name!r} is defined in the script or notebook that was started, which a worker does not import: move it to a "
        "module that the processes of a pool can import"
    )
