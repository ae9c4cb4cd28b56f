"""Standard output and error of a program whose reader may go away, as with `rivers run … | head`."""

from __future__ import annotations

import io
import os
import sys
from typing import Any, TextIO

__all__ = ["make_robust"]


class PipeFile(io.FileIO):
    """A file that leads to nowhere once its reader has gone, for this process and for the children it starts."""

    def write(self, data: Any, /) -> int:
        """Write the data, or drop it."""
        try:
            return super().write(data)
        except BrokenPipeError:
            # For good: the next write, and the flush when Python exits, would fail again.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return memoryview(data).nbytes


def make_robust() -> None:
    """Replace the standard streams by ones that raise neither for a closed pipe nor for a character they cannot show.

    A body that prints would fail else, although nobody reads what it prints.
    """
    sys.stdout, sys.stderr = _robust(sys.stdout), _robust(sys.stderr)


def _robust(stream: TextIO) -> TextIO:
    try:
        number = stream.fileno()
    except (AttributeError, OSError, ValueError):
        # Started without the stream.
        return stream
    stream.flush()
    file = io.BufferedWriter(PipeFile(number, "w", closefd=False))
    return io.TextIOWrapper(file, stream.encoding, "replace", line_buffering=stream.isatty() or number == 2)
