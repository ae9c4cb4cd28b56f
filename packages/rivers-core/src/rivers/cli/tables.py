"""Tables for terminals of any width."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rivers.cli.printer import Printer

__all__ = ["print_table"]


def print_table(printer: Printer, titles: Sequence[str], rows: Iterable[Sequence[str | tuple[str, str]]]) -> None:
    """Print a table; a cell is text, or text with a style of rich. Long cells are folded, and nothing is left out."""
    table = Table(box=box.SIMPLE_HEAD if printer.has_unicode else box.ASCII2, pad_edge=False, show_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(Text(*cell) if isinstance(cell, tuple) else Text(cell) for cell in row))
    # Captured and printed by us: rich would stop at a closed pipe, and pads lines to the width.
    console = Console(
        width=printer.width, no_color=not printer.has_color, force_terminal=printer.has_color, highlight=False
    )
    with console.capture() as drawn:
        console.print(table)
    printer("\n".join(line.rstrip() for line in drawn.get().splitlines()))
