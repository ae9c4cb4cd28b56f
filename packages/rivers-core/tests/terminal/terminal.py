"""A terminal for tests: a program on a pseudo-terminal, whose screen is read like a person does."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pyte

HERE = Path(__file__).parent
DEADLINE = 30.0


class Terminal:
    """A program on a terminal of `columns` and `rows`; a context manager that kills what is left of it."""

    def __init__(self, *command: str, columns: int = 100, rows: int = 24, **environment: str) -> None:
        self.screen = pyte.HistoryScreen(columns, rows, history=10_000, ratio=0.5)
        # Every byte that the program has written.
        self.written = b""
        self._stream = pyte.ByteStream(self.screen)
        self._master, slave = pty.openpty()
        self.resize(columns, rows)
        settings = {"TERM": "xterm-256color", "PYTHONPATH": str(HERE), "LC_ALL": "C.UTF-8", **environment}
        inherited = {name: value for name, value in os.environ.items() if name not in ("NO_COLOR", "FORCE_COLOR")}
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**inherited, **settings},
            start_new_session=True,
            # So that Ctrl-C sends SIGINT.
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - one ioctl, no lock
        )
        os.close(slave)

    def resize(self, columns: int, rows: int) -> None:
        """Give the terminal another size."""
        self.screen.resize(rows, columns)
        self.screen.margins = None
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self, seconds: float) -> bool:
        """Take in what the program writes within this time; return False at its end."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not select.select([self._master], [], [], left)[0]:
                return True
            try:
                data = os.read(self._master, 65536)
            except OSError:
                return False
            self.written += data
            self._stream.feed(data)
        return True

    @property
    def echoes(self) -> bool:
        """Whether the terminal shows what a person types."""
        return bool(termios.tcgetattr(self._master)[3] & termios.ECHO)

    @property
    def lines(self) -> list[str]:
        """The lines of the screen."""
        return [line.rstrip() for line in self.screen.display]

    @property
    def scrollback(self) -> list[str]:
        """All lines that are above the screen or on it."""
        width = self.screen.columns
        above = ["".join(line[column].data for column in range(width)).rstrip() for line in self.screen.history.top]
        return [*above, *self.lines]

    def wait_for(self, text: str) -> str:
        """Read until a text is on the screen, and return the screen."""
        end = time.monotonic() + DEADLINE
        while text not in (shown := "\n".join(self.lines)):
            if not self.read(0.05) or time.monotonic() > end:
                raise AssertionError(f"{text!r} did not come:\n" + "\n".join(self.scrollback))
        return shown

    def finish(self) -> int:
        """Read to the end and return the exit code."""
        end = time.monotonic() + DEADLINE
        while self.read(0.1):
            assert time.monotonic() < end, "the program goes on:\n" + "\n".join(self.scrollback)
        return self.process.wait(5)

    def interrupt(self) -> None:
        """Type Ctrl-C."""
        os.write(self._master, b"\x03")

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exception: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(5)
        os.close(self._master)


def run_program(name: str, *arguments: str, columns: int = 100, rows: int = 24, **environment: str) -> Terminal:
    """Start a function of `programs.py` on a terminal."""
    code = f"import programs; programs.{name}(*{arguments!r})"
    return Terminal(sys.executable, "-c", code, columns=columns, rows=rows, **environment)
