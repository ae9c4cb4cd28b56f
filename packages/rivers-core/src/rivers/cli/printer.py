"""Print lines to a stream that may be narrow or without colours."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from typing import TextIO

from rivers._terminal.choose import can_show_unicode, wants_color

__all__ = ["Printer", "divert_stdout", "stderr", "stdout"]

WIDTH = 100
MIN_WIDTH = 20


class Printer:
    """A printer of whole lines from any thread."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._lock = threading.Lock()

    @property
    def width(self) -> int:
        """The columns of the terminal, or of COLUMNS; 100 where there is none."""
        return max(MIN_WIDTH, shutil.get_terminal_size((WIDTH, 24)).columns)

    @property
    def has_unicode(self) -> bool:
        """True where the stream can show more than ASCII."""
        return can_show_unicode(self.stream)

    @property
    def has_color(self) -> bool:
        """True for a terminal, unless NO_COLOR or TERM=dumb ask for none, and for FORCE_COLOR."""
        return wants_color(self.stream)

    def __call__(self, text: str = "") -> None:
        """Print the text and a line break."""
        with self._lock:
            self.stream.write(f"{text}\n")
            self.stream.flush()


def stdout() -> Printer:
    """Return a printer for standard output."""
    return Printer(sys.stdout)


def stderr() -> Printer:
    """Return a printer for standard error."""
    return Printer(sys.stderr)


@contextlib.contextmanager
def divert_stdout(to: TextIO) -> Iterator[Printer]:
    """Send what this process and its children print to another stream; yield a printer for the real standard output."""
    try:
        number = sys.stdout.fileno()
    except (OSError, ValueError):
        # A notebook or a test, whose standard output is no file.
        real = sys.stdout
        with contextlib.redirect_stdout(to):
            yield Printer(real)
        return
    sys.stdout.flush()
    kept = os.dup(number)
    os.dup2(to.fileno(), number)
    try:
        # The terminal's encoding, as what is printed here is what the user sees.
        with open(kept, "w", encoding=sys.stdout.encoding, closefd=False) as real:
            yield Printer(real)
    finally:
        sys.stdout.flush()
        os.dup2(kept, number)
        os.close(kept)
