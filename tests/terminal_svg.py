"""A recording of a terminal as an SVG that plays by itself: frames of a screen, shown one after another by CSS."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import accumulate, groupby, pairwise
from typing import Any

import pyte

Frame = tuple[float, list[list[tuple[str, str]]]]
"""The seconds since the start, and for each row the runs of one style: text and CSS classes."""

WIDTH, HEIGHT, MARGIN, BAR = 8.43, 19, 16, 34  # pixels of a cell at a font size of 14, and around the screen
HOLD, LONGEST = 5.0, 1.0
"""Seconds for which the last frame stays, and any other one at most: nobody likes to watch an import."""
COLOURS = {
    "red": "#ff7b72",
    "green": "#56d364",
    "brown": "#e3b341",
    "blue": "#79c0ff",
    "magenta": "#d2a8ff",
    "cyan": "#76e3ea",
    "brightblack": "#8b949e",
}
STYLE = f"""
text {{ font: 14px ui-monospace, 'DejaVu Sans Mono', Menlo, Consolas, monospace; fill: #e6edf3; white-space: pre }}
.bold {{ font-weight: bold }} .dim {{ fill: #8b949e }}
{" ".join(f".{name} {{ fill: {value} }}" for name, value in COLOURS.items())}
.frame {{ visibility: hidden }}
"""


def frame(screen: pyte.Screen, seconds: float) -> Frame:
    """Return the screen of a terminal as a frame."""
    cells = range(screen.columns)
    return seconds, [_runs([screen.buffer[row][column] for column in cells]) for row in range(screen.lines)]


def svg(frames: Sequence[Frame], columns: int, rows: int, label: str) -> str:
    """Return the frames as the text of an SVG; where motion is not wanted it shows the last one."""
    width, height = round(columns * WIDTH) + 2 * MARGIN, rows * HEIGHT + BAR + MARGIN
    starts = list(accumulate((min(LONGEST, b[0] - a[0]) for a, b in pairwise(frames)), initial=0.0))
    total = starts[-1] + HOLD
    styles, groups = [], []
    for number, (start, end) in enumerate(pairwise([*starts, total])):
        lines, first, last = frames[number][1], 100 * start / total, 100 * end / total
        shown = f"{first:.2f}%, {last - 0.01:.2f}% {{ visibility: visible }} {last:.2f}%, 100% {{ visibility: hidden }}"
        hidden = f"0%, {first - 0.01:.2f}% {{ visibility: hidden }} " if number else ""
        styles.append(f"@keyframes f{number} {{ {hidden}{shown} }}")
        styles.append(f"#f{number} {{ animation: f{number} {total:.1f}s step-end infinite }}")
        groups.append(f'<g class="frame" id="f{number}">{"".join(map(_line, range(len(lines)), lines))}</g>')
    still = f"#f{len(frames) - 1} {{ visibility: visible }}"
    motion = "@media (prefers-reduced-motion: no-preference) {\n" + "\n".join(styles) + "\n}"
    dots = "".join(f'<circle cx="{20 + 18 * n}" cy="17" r="5.5" fill="#484f58"/>' for n in range(3))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(label)}">'
        f"<style>{STYLE}{still}\n{motion}</style>"
        f'<rect width="{width}" height="{height}" rx="8" fill="#0d1117"/>{dots}{"".join(groups)}</svg>\n'
    )


def _classes(cell: Any) -> str:
    names = [cell.fg if cell.fg in COLOURS else "", "bold" if cell.bold else ""]
    return " ".join(name for name in names if name)


def _runs(cells: Sequence[Any]) -> list[tuple[str, str]]:
    return [("".join(cell.data for cell in run), classes) for classes, run in groupby(cells, _classes)]


def _line(number: int, runs: Sequence[tuple[str, str]]) -> str:
    y, column, texts = BAR + HEIGHT * (number + 0.75), 0, []
    for text, classes in runs:
        if text.strip():
            indent = len(text) - len(text.lstrip())
            x = MARGIN + (column + indent) * WIDTH
            style = f' class="{classes}"' if classes else ""
            shown = escape(text.strip(), quote=False)
            length = f' textLength="{len(text.strip()) * WIDTH:.1f}"' if len(text.strip()) > 1 else ""
            texts.append(f'<text x="{x:.1f}" y="{y:.1f}"{length}{style}>{shown}</text>')
        column += len(text)
    return "".join(texts)
