"""Progress in a notebook: HTML without widgets, updated in place."""

from __future__ import annotations

import html
import sys
from typing import Any

from rivers._events.event import Event
from rivers._terminal.news import NewsFeed
from rivers._terminal.progress import RunProgress
from rivers._terminal.screen import draw
from rivers._terminal.spans import Line, Span
from rivers._terminal.summary import summary_lines

__all__ = ["NotebookPainter", "to_html"]

WIDTH = 110
HEIGHT = 16
INTERVAL = 0.25
"""Seconds between two updates: each is a message to the browser."""
_STYLES = {
    "good": "color:#1a7f37",
    "bad": "color:#cf222e",
    "warn": "color:#9a6700",
    "accent": "color:#0969da",
    "dim": "opacity:.65",
    "bold": "font-weight:600",
}


class NotebookPainter:
    """A painter in the output of the notebook's cell."""

    def __init__(self) -> None:
        self._news = NewsFeed(has_retries=False)
        self._log: list[Line] = []
        self._due = 0.0
        self._shown = ""
        self._handle: Any = None
        self._is_abandoned = False

    def paint(self, progress: RunProgress, events: list[Event], now: float) -> None:
        """Update the display with the failures until now and the present state."""
        self._log += self._news.lines(progress, events, WIDTH)
        if now >= self._due and not progress.view.is_over:
            self._due = now + INTERVAL
            self._show([*self._log, *draw(progress, now, WIDTH, HEIGHT)])

    def finish(self, progress: RunProgress) -> None:
        """Show the failures and the summary."""
        self._show([*self._log, *summary_lines(progress.view, WIDTH, has_failures=False)])

    def _show(self, lines: list[Line]) -> None:
        text = to_html(lines)
        if text == self._shown or self._is_abandoned:
            return
        self._shown = text
        # Imported already, else there would be no notebook.
        display = sys.modules["IPython.display"]
        shown = display.HTML(text)
        if self._handle is None:
            self._handle = display.display(shown, display_id=True)
        else:
            self._handle.update(shown)

    def abandon(self) -> None:
        """Update no more."""
        self._is_abandoned = True


def to_html(lines: list[Line]) -> str:
    """Return lines as HTML that follows the colours of the page, light or dark."""
    rows = "\n".join("".join(map(_span, line)) for line in lines)
    return f'<pre style="line-height:1.35;margin:0;white-space:pre-wrap">{rows}</pre>'


def _span(span: Span) -> str:
    text, style = html.escape(span.text), _STYLES.get(span.style)
    return f'<span style="{style}">{text}</span>' if style is not None and text.strip() else text
