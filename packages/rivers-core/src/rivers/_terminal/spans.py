"""Styled lines: what all displays draw, as plain data."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, TypeAlias

from rivers._terminal.text import cells, clip

__all__ = ["ASCII", "Line", "Span", "fit", "line_of", "to_text"]


class Span(NamedTuple):
    """A piece of a line; `style` is a key of `STYLES`, or empty."""

    text: str
    style: str = ""


Line: TypeAlias = tuple[Span, ...]

STYLES = {"good": "32", "bad": "31", "warn": "33", "accent": "36", "dim": "2", "bold": "1"}
"""The parameters of ANSI's SGR sequence by style. Colours alone: a terminal's own theme says what they look like."""

# One cell for one cell, so that the widths stay.
ASCII = str.maketrans("✓✗○●↻■…→·×━╸─–≈", "+x-*~!~>|x#>---")


def line_of(*pieces: str | Span) -> Line:
    """Return a line of strings and spans."""
    return tuple(piece if isinstance(piece, Span) else Span(piece) for piece in pieces)


def fit(line: Line, width: int) -> Line:
    """Return a line of at most that many cells."""
    left = width
    kept: list[Span] = []
    for span in line:
        used = cells(span.text)
        if used > left:
            kept.append(Span(clip(span.text, left), span.style))
            break
        kept.append(span)
        left -= used
    return tuple(kept)


def to_text(lines: Iterable[Line], *, color: bool = False, unicode: bool = True) -> str:
    """Return lines as text, with ANSI colours or without; other than ASCII characters are replaced if not `unicode`."""
    text = "\n".join("".join(map(_ansi if color else _plain, line)).rstrip() for line in lines)
    return text if unicode else text.translate(ASCII).encode("ascii", "replace").decode("ascii")


def _plain(span: Span) -> str:
    return span.text


def _ansi(span: Span) -> str:
    code = STYLES.get(span.style)
    return f"\x1b[{code}m{span.text}\x1b[0m" if code is not None else span.text
