"""Tables for notebooks: HTML without scripts, ids or classes, in the colours of the page that shows it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

__all__ = ["html_block", "html_table"]

_CELL = "text-align:left;padding:2px 12px 2px 0;vertical-align:top"


def html_table(caption: str, head: Sequence[str], rows: Iterable[Sequence[object]], more: str = "") -> str:
    """Return a table, everything in it escaped; `more` is a line below it."""
    from html import escape

    columns = "".join(f'<th scope="col" style="{_CELL}">{escape(name)}</th>' for name in head)
    body = "".join(
        "<tr>" + "".join(f'<td style="{_CELL}">{escape(str(cell))}</td>' for cell in row) + "</tr>" for row in rows
    )
    below = f"<p>{escape(more)}</p>" if more else ""
    return (
        f'<table><caption style="text-align:left;font-weight:bold">{escape(caption)}</caption>'
        f"<thead><tr>{columns}</tr></thead><tbody>{body}</tbody></table>{below}"
    )


def html_block(text: str) -> str:
    """Return text of a terminal as a block of fixed width."""
    from html import escape

    return f'<pre style="white-space:pre-wrap">{escape(text)}</pre>'
