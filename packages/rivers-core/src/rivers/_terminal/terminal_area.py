"""Rows at the bottom of a terminal that stay, while everything else scrolls above them.

The rows are kept by a scrolling region (DECSTBM), as apt and dpkg do for their bar. All that is written to the terminal
by whomever (bodies, workers, their children, C code) scrolls inside the region and cannot tear the rows. Nothing has to
be captured for it, and prints appear at once. Each frame is one write, which the kernel does not mix with others, and
has only the rows that have changed.
"""

from __future__ import annotations

import os
import time

__all__ = ["GIVE_BACK", "TerminalArea"]

SAVE, RESTORE = "\x1b7", "\x1b8"
INDEX = "\x1bD"
ERASE_LINE, ERASE_BELOW = "\x1b[K", "\x1b[J"
NO_WRAP, WRAP = "\x1b[?7l", "\x1b[?7h"
PLAIN = "\x1b[0m"
GIVE_BACK = f"{SAVE}\x1b[r{RESTORE}{ERASE_BELOW}"
"""The sequences that give all rows back and leave the cursor where the log ends."""
SHRINK_AFTER = 3.0
"""Seconds for which fewer lines are needed before rows are given back: the log must not jump up and down."""
WRITE_DEADLINE = 2.0


class TerminalArea:
    """The kept rows of the terminal behind a file descriptor; none at first.

    Raises:
        OSError: from all methods, the terminal is gone.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._rows: list[str] = []
        self._size = os.terminal_size((0, 0))
        self._needed_until = 0.0

    def size(self) -> os.terminal_size:
        """Return the present size of the terminal."""
        return os.get_terminal_size(self._descriptor)

    def show(self, rows: list[str], log: list[str], now: float) -> None:
        """Show these rows, each of at most the terminal's width, after adding lines to the log above them."""
        size = self.size()
        out = GIVE_BACK if size != self._size and self._rows else ""
        if out:
            self._rows = []
        self._size = size
        if len(rows) >= len(self._rows):
            self._needed_until = now + SHRINK_AFTER
        elif now < self._needed_until:
            rows = rows + [""] * (len(self._rows) - len(rows))
        out += self._resize(len(rows))
        out += _log_text(log, size.columns)
        out += self._changed(rows)
        if out:
            self._write(out)
        self._rows = rows

    def _resize(self, count: int) -> str:
        """Return the sequences that make the area so many rows high, wherever the cursor is."""
        before = len(self._rows)
        if count == before:
            return ""
        bottom = self._size.lines - count
        # The log moves up only as far as the cursor stands in the way. LF would also move it to the first column.
        more = max(0, count - before)
        out = INDEX * more + (f"\x1b[{more}A" if more else "")
        # The terminal moves the cursor to the top when it gets a region.
        out += SAVE + PLAIN + f"\x1b[1;{bottom}r"
        out += "".join(
            f"\x1b[{row};1H{ERASE_LINE}" for row in range(self._size.lines - max(before, count) + 1, bottom + 1)
        )
        self._rows = ["\0"] * count
        return out + RESTORE

    def _changed(self, rows: list[str]) -> str:
        top = self._size.lines - len(rows)
        changed = [
            f"\x1b[{top + number};1H{row}{PLAIN}{ERASE_LINE}"
            for number, (row, before) in enumerate(zip(rows, self._rows, strict=True), 1)
            if row != before
        ]
        return SAVE + NO_WRAP + PLAIN + "".join(changed) + WRAP + RESTORE if changed else ""

    def log(self, lines: list[str]) -> None:
        """Give all rows back and write lines where the log ends."""
        out = GIVE_BACK if self._rows else ""
        self._rows = []
        out += _log_text(lines, self._size.columns or self.size().columns)
        if out:
            self._write(out)

    def _write(self, text: str) -> None:
        data = text.encode("utf-8", "replace")
        deadline = time.monotonic() + WRITE_DEADLINE
        while data:
            try:
                data = data[os.write(self._descriptor, data) :]
            except BlockingIOError:
                # Some program has made the terminal non-blocking, and it is busy.
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)


def _log_text(lines: list[str], width: int) -> str:
    """Return lines for the log, from the first column on, wherever a body's unfinished line has left the cursor."""
    if not lines:
        return ""
    # From the first column these blanks end in the last one, from any other in the next row.
    fresh = PLAIN + " " * (width - 1) + "\r"
    return fresh + "".join(f"{line}{PLAIN}\r\n" for line in lines)
