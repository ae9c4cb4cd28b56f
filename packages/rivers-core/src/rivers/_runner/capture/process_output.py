"""Capture the output of a process that belongs to one runner: prints and fd 1 and 2, in the order written."""

from __future__ import annotations

import sys
import threading
from typing import TextIO

from rivers._runner.capture.descriptors import FdCapture
from rivers._runner.capture.step_output import StepOutput, current

__all__ = ["LineWriter", "ProcessOutput"]

# Characters of a printed line that are held until its end is there.
_LINE = 8 * 1024


class ProcessOutput:
    """The output of the process; text without an attempt of its own belongs to `running`."""

    def __init__(self) -> None:
        self.fds = FdCapture()
        self.running: StepOutput | None = None
        self.direct: LineWriter | None = None
        """The writer that bypasses the capture during a flood."""
        self.writers = {name: LineWriter(self, fd, name) for fd, name in ((1, "stdout"), (2, "stderr"))}

    def begin(self, output: StepOutput) -> None:
        """Assign output to this attempt from here on."""
        self.fds.begin(output.data)
        self.running = output

    def end(self) -> None:
        """Give the running attempt all that was written; later output belongs to none."""
        self.settle()
        self.flush()
        self.fds.end()
        self.running = None

    def drain(self) -> None:
        """Give the running attempt all that was written so far."""
        self.settle()
        self.fds.drain()

    def flush(self) -> None:
        """Write the unfinished lines."""
        for writer in self.writers.values():
            writer.flush()

    def settle(self) -> None:
        """Flush a flood to the fd; later prints are captured again."""
        writer, self.direct = self.direct, None
        if writer is not None:
            writer.flush_fd()

    def forked(self) -> None:
        """Let prints of a forked child go to fd 1 and 2, which the runner's process reads."""
        self.running = None
        self.fds.forked()
        for writer in self.writers.values():
            writer.forked()


class LineWriter:
    """A writer for the text of a stream, in whole lines and in order with fd 1 and 2.

    Once an attempt has emitted its first MiB, prints go straight to the fd until the other stream, a log record, a fork
    or a flush needs the order. Output of native code and children may then overtake the last 8 KiB printed, as in any
    Python whose stdout is a pipe.
    """

    def __init__(self, process: ProcessOutput, fd: int, stream: str) -> None:
        self._process = process
        self._stream = stream
        self._target: TextIO | None = getattr(sys, stream)
        # The target itself may raise for characters outside its encoding. Buffered as Python does it.
        buffering = 1 if stream == "stderr" else -1
        self.file = open(fd, "w", buffering, encoding="utf-8", errors="replace", closefd=False)  # noqa: SIM115 - kept
        # Whole lines only, as other threads, forks and native code write in between.
        self._held = ""
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
        """Write the unfinished line."""
        with self._lock:
            due, self._held = self._held, ""
        if due:
            self._send(due)
        else:
            self.flush_fd()

    def flush_fd(self) -> None:
        """Flush what was written to the fd itself, also through `sys.stdout.buffer`."""
        for stream in (self.file, self._target):
            try:
                if stream is not None:
                    stream.flush()
            except (OSError, ValueError):
                # The body closed the fd or the stream.
                pass

    def forked(self) -> None:
        """Drop the unfinished line in a forked child, as it belongs to the parent."""
        self._held, self._lock = "", threading.RLock()

    def _send(self, due: str) -> None:
        process = self._process
        process.settle()
        self.flush_fd()
        data = due.encode("utf-8", "replace")
        # The capture has ended meanwhile.
        if not process.fds.forward(self._stream, data):
            self.file.write(due)
            self.file.flush()
            return
        output = current.get() or process.running
        if output is None:
            return
        output.data(self._stream, data)
        if output.is_flooding and output is process.running:
            process.direct = self
