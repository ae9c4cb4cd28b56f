"""What `PickleIOHandler` needs of a place that keeps bytes; `LocalFiles` and `ObjectFiles` are the two there are.

Below the root, the same names on both:

    <key>.pkl                                   the latest value: what a reader without a run id gets
    .rivers/runs/<run>/<key>.pkl                the value this run committed
    .rivers/runs/<run>/<step>.commit            which attempt won, and its keys; not for a step whose one output has the
                                                step's own name: there the value itself, with its trailer, says so
    .rivers/runs/<run>/<attempt>~<key>          staged, or committed and not yet published
    .rivers/ended/<run>                         the run is over: an attempt that wakes up later is refused
    .rivers/swept                               bears the time of the last sweep for leftovers
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from io import BufferedReader
from pathlib import Path
from typing import Protocol, TypeAlias

import msgspec

from rivers.exceptions import OutputCommitError

__all__ = [
    "FULL",
    "Chunks",
    "Marker",
    "ValueFiles",
    "commit_error",
    "run_over_error",
    "size_of",
    "too_late_error",
    "write_error",
]

Chunks: TypeAlias = Sequence[bytes | memoryview]
"""A value in pieces of bytes, in the order they are written; the last piece is its trailer."""

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""What a write fails with where there is no room for it."""
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


class Marker(msgspec.Struct, frozen=True, kw_only=True):
    """What a `.commit` file says, as JSON: the attempt that won the step, when, and the keys it stored."""

    written: int
    attempt_id: str
    keys: tuple[str, ...]


class ValueFiles(Protocol):
    """Bytes under keys, in versions by run; commits are atomic and the first attempt of a step wins.

    Writing raises OutputCommitError; reading raises OSError.
    """

    def path(self, key: str) -> str:
        """The path or URL of the key's latest value, for people."""

    def read(self, run_id: str | None, key: str) -> memoryview | BufferedReader | None:
        """The run's version where it has one, else the latest; None where there is neither."""

    def store(self, run_id: str, attempt_id: str, key: str, chunks: Chunks) -> None:
        """Stage and commit the one output of the step `key`."""

    def stage(self, run_id: str, step: str, attempt_id: str, key: str, chunks: Chunks) -> None:
        """Write where no reader looks."""

    def commit(self, run_id: str, step: str, attempt_id: str, keys: Sequence[str]) -> None:
        """Publish what the attempt staged."""

    def discard(self, run_id: str, step: str, attempt_id: str, keys: Sequence[str]) -> None:
        """Remove what the attempt staged, unless it has won."""

    def committed(self, run_id: str, step: str) -> str | None:
        """The attempt that won, its publication finished."""

    def end_run(self, run_id: str) -> None:
        """Remove what was kept for the run, and what runs that were killed have left."""


def commit_error(
    message: str, run_id: str, step: str, *, retryable: bool, hint: str | None = None
) -> OutputCommitError:
    """An OutputCommitError that says where it belongs and whether another try can help."""
    error = OutputCommitError(message, hint=hint, run_id=run_id or None, step=step)
    error.retryable = retryable
    return error


def size_of(chunks: Chunks) -> int:
    """The bytes of all pieces."""
    return sum(map(len, chunks))


def write_error(error: OSError, path: str, size: int, run_id: str, step: str) -> OutputCommitError:
    """The error of a value of `size` bytes that could not be written at `path`."""
    place = error.filename or path
    if error.errno in FULL:
        return commit_error(
            f"no space left to write {place}: {size:,} bytes needed ({error.strerror})",
            run_id,
            step,
            retryable=True,
            hint="free space, raise the quota, or put the store elsewhere",
        )
    hint = None
    if error.errno in _HOPELESS:
        folder = place if os.path.isdir(place) else Path(place).parent
        hint = f"make {folder} writable for this user, on a file system with hard links"
    return commit_error(
        f"cannot write {place}: {error.strerror or error}", run_id, step, retryable=hint is None, hint=hint
    )


def too_late_error(run_id: str, step: str, attempt_id: str, winner: str) -> OutputCommitError:
    """The error of an attempt that comes second: its output is dropped, the winner's stays."""
    return commit_error(
        f"attempt {attempt_id!r} comes too late: attempt {winner!r} has committed this step",
        run_id,
        step,
        retryable=False,
    )


def run_over_error(run_id: str, step: str) -> OutputCommitError:
    """The error of an attempt that wakes up after its run has ended."""
    return commit_error(
        "this attempt comes too late: the run has ended",
        run_id,
        step,
        retryable=False,
        hint="the id of a run that has ended cannot be used again",
    )
