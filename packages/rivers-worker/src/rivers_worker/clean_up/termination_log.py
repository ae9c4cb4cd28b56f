"""Overwrite the termination log after an attempt: its processes could write any attempt's outcome there."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator

from rivers_worker.exit_codes import encode_outcome
from rivers_worker.v1 import worker_pb2 as pb

__all__ = ["TerminationLog"]

# No link is followed, and no FIFO is waited for.
FILE = os.O_WRONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
# Of no attempt. An empty file would not do: Kubernetes may read the container's output in its place.
NEUTRAL = encode_outcome(pb.Outcome(attempt_id="-"))


class TerminationLog:
    """The termination log of a worker that serves several attempts; it is created if there is none."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._error = ""
        try:
            # Held open, so that no other file gets its inode number.
            self._fd = os.open(path, FILE | os.O_CREAT, 0o666)
        except OSError as error:
            self._error = f"cannot write to the termination log {path}: {error.strerror}"

    def restore(self) -> Iterator[str]:
        """Write the outcome of no attempt into it; yield a reason if it may hold another one."""
        if self._error:
            yield self._error
            return
        try:
            fd = os.open(self._path, FILE)
        except OSError as error:
            yield f"cannot write to the termination log {self._path}: {error.strerror}"
            return
        try:
            yield from self._overwrite(fd)
        except OSError as error:
            yield f"cannot overwrite the termination log {self._path}: {error.strerror}"
        finally:
            os.close(fd)

    def _overwrite(self, fd: int) -> Iterator[str]:
        found, first = os.fstat(fd), os.fstat(self._fd)
        # Also where another file is mounted on it.
        if not stat.S_ISREG(found.st_mode) or not os.path.samestat(found, first):
            yield f"another file has taken the place of the termination log {self._path}"
            return
        os.ftruncate(fd, 0)
        os.pwrite(fd, NEUTRAL, 0)
        if os.fstat(fd).st_size != len(NEUTRAL):
            yield f"the termination log {self._path} does not keep what is written to it"
