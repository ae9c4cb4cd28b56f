"""Text for terminals: widths in cells, clipped and wrapped lines, durations, paths."""

from __future__ import annotations

import os
import re
import unicodedata
from pathlib import Path

__all__ = ["cells", "clean", "clip", "clip_left", "count_of", "duration", "shorten_path", "warning_text", "wrap"]

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\-_])")
# Line breaks are kept. Format characters (Cf) can reverse a line.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff]")


def clean(text: str) -> str:
    """Return text without escape sequences and control characters, which could redraw the user's screen."""
    if text.isascii() and text.isprintable():
        return text
    return _CONTROLS.sub("", _ESCAPES.sub("", text)).replace("\t", "    ")


def warning_text(message: str, step: str | None) -> str:
    """Return a warning with its step in front, unless the message names it."""
    text = message if step is None or repr(step) in message else f"{step}: {message}"
    return clean(text)


def cells(text: str) -> int:
    """Return the number of terminal cells that a line takes."""
    if text.isascii():
        return len(text)
    return sum(map(_cell, text))


def _cell(character: str) -> int:
    if unicodedata.combining(character) or character in "\u200d\ufe0f":
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def clip(text: str, width: int) -> str:
    """Return a line of at most that many cells; a longer one ends with an ellipsis."""
    if cells(text) <= width:
        return text
    kept, used = 0, 0
    for character in text:
        used += _cell(character)
        if used > width - 1:
            break
        kept += 1
    return text[:kept] + "…" if width > 0 else ""


def clip_left(text: str, width: int) -> str:
    """Return a line of at most that many cells; a longer one, such as a path, begins with an ellipsis."""
    return clip(text[::-1], width)[::-1] if cells(text) > width else text


def wrap(text: str, width: int) -> list[str]:
    """Return the lines of a text, each of at most that many cells, broken at spaces where they have some."""
    width = max(width, 8)
    lines: list[str] = []
    for line in text.splitlines() or [""]:
        rest = line.rstrip()
        while cells(rest) > width:
            head = clip(rest, width + 1)[:-1]
            space = head.rfind(" ", len(head) // 3)
            cut = space if space > 0 and rest[len(head) : len(head) + 1] != " " else len(head)
            lines.append(rest[:cut].rstrip())
            rest = rest[cut:].lstrip()
        lines.append(rest)
    return lines


def duration(seconds: float) -> str:
    """Return a duration for people: `0.42 s`, `12.3 s`, `3 min 05 s`, `2 h 10 min`."""
    if seconds < 0.01:
        return f"{seconds * 1000:.0f} ms" if seconds >= 0.001 else "<1 ms"
    if seconds < 9.95:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"


def count_of(count: int, noun: str) -> str:
    """Return `1 step` or `2 steps`."""
    return f"{count} {noun}" if count == 1 else f"{count:,} {noun}s"


def shorten_path(path: str, folder: str = "") -> str:
    """Return a path relative to the folder of the run, or to the working directory, where it is below one of them."""
    for base in (folder, str(Path.cwd())):
        if base and base != os.sep and path.startswith(base + os.sep):
            return path[len(base) + 1 :]
    return path
