"""Choose how progress is shown: live in a terminal, as HTML in a notebook, else as plain lines."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Mapping
from functools import partial
from typing import Any, TextIO

from rivers._record.header import RunHeader
from rivers._record.redact import Redactor
from rivers._terminal.lines import LinePainter
from rivers._terminal.live import LEAST_ROWS, LivePainter
from rivers._terminal.sink import Painter, ProgressSink

__all__ = ["can_show_unicode", "choose_painter", "make_progress", "wants_color"]


def make_progress(
    header: RunHeader | None,
    redactor: Redactor | None,
    stream: TextIO | None = None,
    *,
    has_summary: bool = True,
    log_level: int | None = None,
) -> ProgressSink:
    """Return the sink that shows a run on a stream, by default stderr, so that stdout stays the program's.

    `log_level` shows the log records of bodies from that level of `logging` on; `has_summary` ends with the summary.
    """
    return ProgressSink(header, redactor, partial(choose_painter, stream, has_summary=has_summary), log_level)


def choose_painter(stream: TextIO | None = None, *, has_summary: bool = True) -> Painter:
    """Return the painter that fits a stream; only one at a time draws on a terminal, others write lines."""
    if stream is None:
        kernel = _ipython_kernel()
        if kernel is not None:
            from rivers._terminal.notebook import NotebookPainter

            return NotebookPainter()
        # Python has no stderr when it was started without one.
        stream = sys.stderr or io.StringIO()
    unicode, color = can_show_unicode(stream), wants_color(stream)
    descriptor = _terminal_of(stream)
    if descriptor is None or LivePainter.is_taken:
        return LinePainter(stream, unicode=unicode, color=color, has_summary=has_summary)
    return LivePainter(descriptor, unicode=unicode, color=color, has_summary=has_summary)


def can_show_unicode(stream: TextIO) -> bool:
    """Return whether the stream's encoding has the signs that are drawn."""
    try:
        "✓━…●".encode(getattr(stream, "encoding", None) or "utf-8")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def wants_color(stream: TextIO, environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether to write colours: to terminals, unless NO_COLOR is set (https://no-color.org)."""
    if environment.get("NO_COLOR") or environment.get("TERM") == "dumb":
        return False
    return bool(environment.get("FORCE_COLOR")) or _is_terminal(stream)


def _is_terminal(stream: TextIO) -> bool:
    try:
        return stream.isatty()
    except ValueError:
        # It is closed.
        return False


def _terminal_of(stream: TextIO) -> int | None:
    """Return the descriptor of a terminal with room and control sequences, else None."""
    if not _is_terminal(stream) or os.environ.get("TERM", "dumb") == "dumb":
        return None
    try:
        descriptor = stream.fileno()
        return descriptor if os.get_terminal_size(descriptor).lines >= LEAST_ROWS else None
    except (OSError, ValueError):
        return None


def _ipython_kernel() -> Any:
    """Return the shell of a notebook's kernel, None elsewhere; IPython is not imported for it."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell if getattr(shell, "kernel", None) is not None else None
