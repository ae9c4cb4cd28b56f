"""Fold the text of a traceback to the frames of the user's own code."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["TracebackPart", "fold_traceback", "user_frame"]

_FRAME = re.compile(r'^\s*(?:\|\s*)?File "(?P<path>[^"]+)", line (?P<line>\d+)(?:, in (?P<name>.+))?$')
_LIBRARY = re.compile(r"(^<frozen |/(site|dist)-packages/|/lib/python3|/rivers(_process|_worker)?/_?[a-z_]+(/|\.py$))")


class TracebackPart(NamedTuple):
    """Consecutive lines of a traceback; `is_folded` when they are frames of libraries alone, `frames` their number."""

    text: str
    is_folded: bool
    frames: int


def fold_traceback(text: str) -> list[TracebackPart]:
    """Split a traceback into parts to show and parts to fold away.

    Frames of the standard library, of installed packages and of rivers are folded, except where nothing else is left.
    """
    parts: list[TracebackPart] = []
    for lines, is_frame, is_library in _blocks(text):
        chunk = "\n".join(lines)
        last = parts[-1] if parts else None
        if last is not None and last.is_folded == is_library:
            parts[-1] = TracebackPart(f"{last.text}\n{chunk}", is_library, last.frames + is_frame)
        else:
            parts.append(TracebackPart(chunk, is_library, int(is_frame)))
    # An error in a library's own thread has no frame of the user's.
    if not any(part.frames for part in parts if not part.is_folded):
        return [TracebackPart(text, False, sum(part.frames for part in parts))]
    return parts


def user_frame(text: str) -> str | None:
    """Return `file:line in function` of the last frame of the user's own code, None where there is none."""
    found = None
    for line in text.splitlines():
        frame = _FRAME.match(line)
        if frame and not _LIBRARY.search(frame["path"]):
            found = f"{frame['path']}:{frame['line']}" + (f" in {frame['name']}" if frame["name"] else "")
    return found


def _blocks(text: str) -> list[tuple[list[str], bool, bool]]:
    """Split the text into (lines, is a frame, is a frame of a library)."""
    blocks: list[tuple[list[str], bool, bool]] = []
    for line in text.rstrip("\n").split("\n"):
        frame = _FRAME.match(line)
        if frame:
            blocks.append(([line], True, bool(_LIBRARY.search(frame["path"]))))
        # The source and the markers of a frame are indented deeper than its `File` line.
        elif blocks and blocks[-1][1] and line.startswith("    "):
            blocks[-1][0].append(line)
        else:
            blocks.append(([line], False, False))
    return blocks
