"""Define the exit codes of a worker, and write its outcome to the termination log."""

from __future__ import annotations

import base64
import contextlib
import enum
import os

from rivers_worker.v1 import worker_pb2 as pb

__all__ = ["MAX_OUTCOME_BYTES", "Exit", "encode_outcome", "write_outcome"]

MAX_OUTCOME_BYTES = 4096
"""Bytes of a termination message; Kubernetes cuts what is longer."""


class Exit(enum.IntEnum):
    """The exit codes of `rivers-worker serve`; SIGTERM is 128 plus its number, as in shells."""

    DONE = 0
    FAILED = 10
    SPEC_REJECTED = 11
    CREDENTIALS = 12
    CONTROLLER_LOST = 13
    PROTOCOL_VERSION = 14
    NOT_COMMITTED = 15
    BUG = 70
    SIGTERM = 143


def encode_outcome(outcome: pb.Outcome) -> bytes:
    """Return the line of the termination log."""
    return b"rivers-outcome 1 " + base64.b64encode(outcome.SerializeToString())


def write_outcome(path: str | None, outcome: pb.Outcome) -> None:
    """Write an outcome to the termination log, unless it is too long to be read whole or cannot be written."""
    text = encode_outcome(outcome)
    # The kubelet cuts a longer message at its end, and half of it cannot be decoded.
    if path is None or len(text) > MAX_OUTCOME_BYTES:
        return
    with contextlib.suppress(OSError), open(path, "wb", opener=_open_now) as file:
        file.write(text)


def _open_now(path: str, flags: int) -> int:
    # A step may have put a FIFO there, and the result must not wait for its reader.
    return os.open(path, flags | os.O_NONBLOCK, 0o666)
