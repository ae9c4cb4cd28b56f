"""Standard streams that may be closed, full, or left by their reader, as with `rivers run … | head`."""

from __future__ import annotations

import io
import os
import sys
from typing import Any, TextIO

__all__ = ["make_robust"]


class StandardFile(io.FileIO):
    """A file that leads to nowhere once it takes nothing more, for this process and for the children it starts.

    Its reader may have gone, which is no problem; or its disk is full, which is said once.
    """

    def write(self, data: Any, /) -> int:
        """Write the data, or drop it."""
        try:
            return super().write(data)
        except BlockingIOError:
            raise
        except OSError as error:
            number = self.fileno()
            nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(nowhere, number)
            os.close(nowhere)
            if not isinstance(error, BrokenPipeError) and number == 1:
                sys.stderr.write(f"warning: cannot write standard output: {error.strerror}\n")
            return memoryview(data).nbytes


def make_robust() -> None:
    """Replace the standard streams by ones that raise neither when closed or full, nor for a character unknown to them.

    A body that prints would fail else, although nobody reads what it prints.
    """
    _open_missing()
    sys.stdout, sys.stderr = _robust(sys.stdout), _robust(sys.stderr)


def _open_missing() -> None:
    """Open what the process was started without (`>&-`): a file that is opened later would get its number.

    What bodies and their children print would then be written into that file, such as the record of the run.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is not None:
            continue
        try:
            os.fstat(number)
        except OSError:
            # It gets the lowest number that is free, which is this one; children inherit it.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
        setattr(sys, name, open(number, mode, encoding="utf-8", errors="replace", closefd=False))  # noqa: SIM115


def _robust(stream: TextIO) -> TextIO:
    try:
        number = stream.fileno()
    except (AttributeError, OSError, ValueError):
        # No file: a test, or an embedding program.
        return stream
    stream.flush()
    file = io.BufferedWriter(StandardFile(number, "w", closefd=False))
    return io.TextIOWrapper(file, stream.encoding, "replace", line_buffering=stream.isatty() or number == 2)
