"""The interface of `PickleIOHandler` to a store of bytes, which `LocalFiles` and `ObjectFiles` implement.

The names below the root are the same in both:

    <key>.pkl                                   the latest value, for a reader without a run id
    .rivers/runs/<run>/<key>.pkl                the value that this run committed
    .rivers/runs/<run>/<step>.commit            the attempt that won and its keys; a step whose only output has the
                                                step's name has none, as the trailer of its value names the attempt
    .rivers/runs/<run>/<attempt>~<key>          staged, or committed and not yet published
    .rivers/ended/<run>                         the run has ended: a late attempt is refused
    .rivers/swept                               its modification time is that of the last sweep for leftovers
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path
from typing import Protocol, TypeAlias

import msgspec

from rivers._io.files.trailer import Names
from rivers.exceptions import OutputCommitError

__all__ = [
    "FULL",
    "Chunks",
    "Marker",
    "RunEndedError",
    "ValueFiles",
    "commit_error",
    "run_over_error",
    "size_of",
    "too_late_error",
    "write_error",
]

Chunks: TypeAlias = Sequence[bytes | memoryview]
"""The pieces of a value in the order of writing; the last piece is its trailer."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""The errors of a write for which there is no room."""
_HOPELESS = frozenset(
    {
        errno.EACCES,
        errno.ENOENT,
        errno.EPERM,
        errno.EROFS,
        errno.ENOTDIR,
        errno.EISDIR,
        errno.ENAMETOOLONG,
        errno.EOPNOTSUPP,
    }
)


class RunEndedError(OSError):
    """The error of a write of a run that has ended."""


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a `.commit` file: the time, the attempt that won the step, and the keys it stored."""

    written: int
    attempt_id: str
    keys: tuple[str, ...]


class ValueFiles(Protocol):
    """A store of bytes under keys, in versions by run; commits are atomic and the first attempt of a step wins.

    Writing raises OutputCommitError, reading OSError.
    """

    def path(self, key: str) -> str:
        """Return the path or URL of the key's latest value, for messages."""

    def read(self, run_id: str | None, key: str) -> memoryview | BufferedReader | None:
        """Return the run's version of the value, else the latest, else None."""

    def read_names(self, key: str) -> Names | None:
        """Return the names in the trailer of the key's latest value; None if there is none, or it is damaged."""

    def read_committed(self, run_id: str, key: str) -> tuple[Names, int] | None:
        """Return the names in the trailer of the value that the run has committed, and its bytes, like `read_names`."""

    def store(self, run_id: str, attempt_id: str, key: str, chunks: Chunks) -> None:
        """Stage and commit the only output of the step `key`."""

    def stage(self, run_id: str, step: str, attempt_id: str, key: str, chunks: Chunks) -> None:
        """Write a value where no reader looks."""

    def commit(self, run_id: str, step: str, attempt_id: str, keys: Sequence[str]) -> None:
        """Publish what the attempt staged."""

    def discard(self, run_id: str, step: str, attempt_id: str, keys: Sequence[str]) -> None:
        """Remove what the attempt staged, unless it has committed."""

    def committed(self, run_id: str, step: str) -> str | None:
        """Finish the publication of the attempt that won, and return its id, or None."""

    def retract(self, run_id: str, step: str) -> None:
        """Finish the publication of the attempt that won, and forget its commit."""

    def sweep(self) -> None:
        """Remove, now and then, what killed and suspended runs have left."""

    def end_run(self, run_id: str) -> None:
        """Remove what was kept for the run, and now and then what killed runs have left."""


def commit_error(
    message: str, run_id: str, step: str, *, retryable: bool, hint: str | None = None
) -> OutputCommitError:
    """Return an OutputCommitError of a step; `retryable` says whether another attempt can succeed."""
    error = OutputCommitError(message, hint=hint, run_id=run_id or None, step=step)
    error.retryable = retryable
    return error


def size_of(chunks: Chunks) -> int:
    """Return the number of bytes of all pieces."""
    return sum(map(len, chunks))


def write_error(error: OSError, path: str, size: int, run_id: str, step: str) -> OutputCommitError:
    """Return the error for a value of `size` bytes that could not be written at `path`."""
    failed = error.filename or path
    if error.errno in FULL:
        return commit_error(
            f"no space left to write {failed}: {size:,} bytes needed ({error.strerror})",
            run_id,
            step,
            retryable=True,
            hint="free space, raise the quota, or put the store elsewhere",
        )
    hint = None
    if error.errno in _HOPELESS:
        folder = failed if os.path.isdir(failed) else Path(failed).parent
        hint = f"make {folder} writable for this user, on a file system with hard links"
    return commit_error(
        f"cannot write {failed}: {error.strerror or error}", run_id, step, retryable=hint is None, hint=hint
    )


def too_late_error(run_id: str, step: str, attempt_id: str, winner: str) -> OutputCommitError:
    """Return the error for an attempt that commits second: its output is dropped, the winner's stays."""
    return commit_error(
        f"attempt {attempt_id!r} comes too late: attempt {winner!r} has committed this step",
        run_id,
        step,
        retryable=False,
    )


def run_over_error(run_id: str, step: str) -> OutputCommitError:
    """Return the error for an attempt that commits after its run has ended."""
    return commit_error(
        "this attempt comes too late: the run has ended",
        run_id,
        step,
        retryable=False,
        hint="the id of a run that has ended cannot be used again",
    )
