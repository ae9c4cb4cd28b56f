"""The rows that are kept at the bottom of a terminal, byte by byte."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import struct
import termios
from collections.abc import Iterator

import pytest

from rivers._terminal.terminal_area import TerminalArea


class Pty:
    """A pseudo-terminal of 10 rows and 30 columns."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        self.resize(30, 10)

    def resize(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read(self) -> bytes:
        """Return what was written since the last call."""
        data = b""
        while select.select([self.master], [], [], 0.1)[0]:
            data += os.read(self.master, 65536)
        return data


@pytest.fixture
def terminal() -> Iterator[Pty]:
    made = Pty()
    yield made
    os.close(made.slave)
    os.close(made.master)


def test_only_changes_are_written(terminal: Pty) -> None:
    """A frame has the rows that have changed, in place, and an unchanged one writes nothing: nothing can flicker."""
    area = TerminalArea(terminal.slave)
    area.show(["one", "two", "three"], [], 0.0)
    first = terminal.read()
    assert first.startswith(b"\x1bD\x1bD\x1bD\x1b[3A\x1b7\x1b[0m\x1b[1;7r")
    assert all(row in first for row in (b"\x1b[8;1Hone", b"\x1b[9;1Htwo", b"\x1b[10;1Hthree"))
    area.show(["one", "two", "three"], [], 0.1)
    assert b"" == terminal.read()
    area.show(["one", "2", "three"], [], 0.2)
    assert b"\x1b7\x1b[?7l\x1b[0m\x1b[9;1H2\x1b[0m\x1b[K\x1b[?7h\x1b8" == terminal.read()


def test_rows_are_given_back_slowly(terminal: Pty) -> None:
    """The area grows at once, and shrinks when fewer rows were needed for three seconds."""
    area = TerminalArea(terminal.slave)
    area.show(["a", "b", "c"], [], 0.0)
    area.show(["a"], [], 1.0)
    terminal.read()
    area.show(["a"], [], 2.0)
    assert b"" == terminal.read()
    area.show(["a"], [], 4.1)
    assert b"\x1b[1;9r\x1b[8;1H\x1b[K\x1b[9;1H\x1b[K" in terminal.read()
    area.show(["a", "b"], [], 4.2)
    assert b"\x1b[1;8r" in terminal.read()


def test_log_and_end(terminal: Pty) -> None:
    """The log begins in the first column, whatever stands in the row; at the end the whole screen scrolls again."""
    area = TerminalArea(terminal.slave)
    area.show(["a"], ["failed"], 0.0)
    assert b" " * 29 + b"\rfailed" in terminal.read()
    terminal.resize(40, 12)
    area.show(["a"], [], 0.1)
    resized = terminal.read()
    assert resized.startswith(b"\x1b7\x1b[r\x1b8\x1b[J")
    assert b"\x1b[1;11r" in resized
    area.log(["end"])
    assert terminal.read().startswith(b"\x1b7\x1b[r\x1b8\x1b[J")
    area.log([])
    assert b"" == terminal.read()
