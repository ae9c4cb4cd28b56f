"""Restore stdin, stdout and stderr: an attempt has them from the server, and shares their open files with it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import struct
import termios
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from rivers_process.cgroup import read_kernel_file

__all__ = ["StandardStreams"]

WHOLE_FILE = struct.pack("hhqqi4x", fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0)
"""A struct flock that unlocks a whole file."""


class SharedFile(NamedTuple):
    """The state of one open file that every process with a copy of its descriptor can change."""

    flags: int
    pipe_size: int | None
    terminal: list[Any] | None
    locks: list[str]


class StandardStreams:
    """Descriptors 0 to 2 of this process as they were when this was created."""

    def __init__(self) -> None:
        # One of them may be closed.
        self._before = {fd: state for fd in (0, 1, 2) if (state := _state(fd)) is not None}

    def restore(self) -> Iterator[str]:
        """Restore flags such as O_NONBLOCK, locks, sizes of pipes and terminal settings; yield what stays changed."""
        for fd, before in self._before.items():
            found = _state(fd)
            if found is not None and found != before:
                _restore(fd, found, before)
                found = _state(fd)
            if found != before:
                yield f"descriptor {fd} of the worker has {found}, expected {before}"
            _go_to_end(fd)


def _state(fd: int) -> SharedFile | None:
    try:
        flags = fcntl.fcntl(fd, fcntl.F_GETFL)
    except OSError:
        return None
    size = terminal = None
    if stat.S_ISFIFO(os.fstat(fd).st_mode):
        size = fcntl.fcntl(fd, fcntl.F_GETPIPE_SZ)
    if os.isatty(fd):
        terminal = termios.tcgetattr(fd)
    info = read_kernel_file(Path(f"/proc/self/fdinfo/{fd}"))
    return SharedFile(flags, size, terminal, [line for line in info.splitlines() if line.startswith("lock:")])


def _restore(fd: int, found: SharedFile, before: SharedFile) -> None:
    with contextlib.suppress(OSError, termios.error):
        fcntl.fcntl(fd, fcntl.F_SETFL, before.flags)
        if before.pipe_size != found.pipe_size and before.pipe_size is not None:
            fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, before.pipe_size)
        if before.terminal != found.terminal and before.terminal is not None:
            termios.tcsetattr(fd, termios.TCSANOW, before.terminal)
        # A lock belongs to the open file, so it outlives the process that took it.
        if before.locks != found.locks:
            fcntl.flock(fd, fcntl.LOCK_UN)
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, WHOLE_FILE)


def _go_to_end(fd: int) -> None:
    """Write at the end of a log file, wherever an attempt has moved the position to."""
    if fd and stat.S_ISREG(os.fstat(fd).st_mode):
        os.lseek(fd, 0, os.SEEK_END)
