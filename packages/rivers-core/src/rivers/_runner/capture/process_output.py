"""The output of a process that belongs to one runner: fd 1 and 2, and prints, in the order written."""

from __future__ import annotations

import sys
import threading
from typing import TextIO

from rivers._runner.capture.descriptors import FdCapture
from rivers._runner.capture.step_output import StepOutput, current

__all__ = ["LineWriter", "ProcessOutput"]

_LINE = 8 * 1024
"""Characters of a printed line that are held until its end is there."""


class ProcessOutput:
    """Captures fd 1 and 2; a text that carries no attempt of its own belongs to `running`."""

    def __init__(self) -> None:
        self.fds = FdCapture()
        self.running: StepOutput | None = None
        self.direct: LineWriter | None = None
        """The stream that is printed to in a flood."""
        self.writers = {name: LineWriter(self, fd, name) for fd, name in ((1, "stdout"), (2, "stderr"))}

    def begin(self, output: StepOutput) -> None:
        """From here on texts are this attempt's."""
        self.fds.begin(output.data)
        self.running = output

    def end(self) -> None:
        """Give the running attempt all that was written; from here on texts are nobody's."""
        self.settle()
        self.flush()
        self.fds.end()
        self.running = None

    def drain(self) -> None:
        """Give the running attempt all that was written so far, before a log record."""
        self.settle()
        self.fds.drain()

    def flush(self) -> None:
        """Write what is held of unfinished lines."""
        for writer in self.writers.values():
            writer.flush()

    def settle(self) -> None:
        """Write what was printed in a flood to the fd; later prints take the usual way."""
        writer, self.direct = self.direct, None
        if writer is not None:
            writer.flush_fd()

    def forked(self) -> None:
        """In a fork: what it prints goes to fd 1 and 2, which the runner's process reads, and is no event here."""
        self.running = None
        self.fds.forked()
        for writer in self.writers.values():
            writer.forked()


class LineWriter:
    """Takes the text of a stream: whole lines, in order with what is written to fd 1 and 2.

    Once an attempt has reported its first MiB, `print` writes to the fd, until the other stream, a record, a fork or a
    flush has to come after it. What native code and child processes write may then come before the last 8 KiB printed,
    as in any Python whose stdout is a pipe.
    """

    def __init__(self, process: ProcessOutput, fd: int, stream: str) -> None:
        self._process = process
        self._stream = stream
        self._target: TextIO | None = getattr(sys, stream)
        # Not the target: that one may raise for characters that its encoding does not have. Buffered as Python does.
        buffering = 1 if stream == "stderr" else -1
        self.file = open(fd, "w", buffering, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115 - kept
        self._held = ""  # lines go whole, as those of other threads, forks and native code come between
        self._lock = threading.RLock()

    def write(self, text: str) -> int:
        """Take text as a stream does."""
        if self._process.direct is self:
            return self.file.write(text)
        with self._lock:
            due = self._held = self._held + text
            if "\n" not in text and len(due) < _LINE:
                return len(text)
            self._held = ""
        self._send(due)
        return len(text)

    def flush(self) -> None:
        """Write what is held."""
        with self._lock:
            due, self._held = self._held, ""
        if due:
            self._send(due)
        else:
            self.flush_fd()

    def flush_fd(self) -> None:
        """Let what was written to the fd itself, also by `sys.stdout.buffer`, reach it."""
        for stream in (self.file, self._target):
            try:
                if stream is not None:
                    stream.flush()
            except (OSError, ValueError):  # the body closed the fd or the stream
                pass

    def forked(self) -> None:
        """In a fork: the line that has not ended is the other process's."""
        self._held, self._lock = "", threading.RLock()

    def _send(self, due: str) -> None:
        process = self._process
        process.settle()
        self.flush_fd()
        data = due.encode("utf-8", "replace")
        if not process.fds.forward(self._stream, data):  # the capture ended meanwhile
            self.file.write(due)
            self.file.flush()
            return
        output = current.get() or process.running
        if output is None:
            return
        output.data(self._stream, data)
        if output.floods and output is process.running:
            process.direct = self
