"""Leave rivers' own frames out of the tracebacks of bodies, so that the user's frames come first."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import os
import threading
from pathlib import Path
from traceback import StackSummary, TracebackException
from types import TracebackType

from rivers.exceptions import RiversError

__all__ = ["hide_own_frames", "is_full_traceback_wanted", "is_own_frame", "skip_own_frames"]

VARIABLE = "RIVERS_FULL_TRACEBACK"
"""Set to anything but an empty text or 0, tracebacks keep the frames of rivers."""

_PACKAGE = str(Path(__file__).parent.parent) + os.sep
_AROUND_A_BODY = (
    _PACKAGE,
    str(Path(asyncio.__file__).parent) + os.sep,
    str(Path(importlib.__file__).parent) + os.sep,
    "<frozen importlib",
    contextlib.__file__,
    threading.__file__,
)


def is_full_traceback_wanted() -> bool:
    """Return whether the environment asks for the frames of rivers."""
    return os.environ.get(VARIABLE, "") not in ("", "0")


def hide_own_frames(shown: TracebackException, error: BaseException) -> None:
    """Drop the frames before the user's first one, from an exception, its causes and the members of its group.

    Without any frame of the user, a RiversError is shown without frames and any other error with all of them.
    """
    seen: set[int] = set()
    waiting: list[TracebackException | None] = [shown]
    while waiting:
        here = waiting.pop()
        if here is None or id(here) in seen:
            continue
        seen.add(id(here))
        frames = here.stack
        first = next((index for index, frame in enumerate(frames) if not is_own_frame(frame.filename)), None)
        if first is not None:
            here.stack = StackSummary.from_list(frames[first:])
        elif here is shown and isinstance(error, RiversError):
            here.stack = StackSummary()
        waiting += [here.__cause__, here.__context__, *(here.exceptions or ())]


def skip_own_frames(trace: TracebackType | None) -> TracebackType | None:
    """Return a traceback from the user's first frame on; all of it if it has none."""
    here = trace
    while here is not None and is_own_frame(here.tb_frame.f_code.co_filename):
        here = here.tb_next
    return here or trace


def is_own_frame(filename: str) -> bool:
    """Return whether a file belongs to rivers or to the modules with which it runs a body."""
    return filename.startswith(_AROUND_A_BODY)
