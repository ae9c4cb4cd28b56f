"""How a worker's process ends: its exit code, and its last words for who can read those and not its stream."""

from __future__ import annotations

import base64
import contextlib
import enum

from rivers_worker.v1 import worker_pb2 as pb

__all__ = ["MOST_WORDS", "Exit", "leave_outcome"]

MOST_WORDS = 4096
"""Bytes of a termination message; Kubernetes cuts what is longer."""


class Exit(enum.IntEnum):
    """The exit codes of `rivers-worker serve`; SIGTERM is 128 and its number, as shells have it."""

    DONE = 0
    FAILED = 10
    SPEC_REJECTED = 11
    CREDENTIALS = 12
    CONTROLLER_LOST = 13
    PROTOCOL_VERSION = 14
    NOT_COMMITTED = 15
    BUG = 70
    SIGTERM = 143


def leave_outcome(path: str | None, outcome: pb.Outcome) -> None:
    """Write the last words; where they cannot be written, or are too long to be read whole, there are none."""
    text = b"rivers-outcome 1 " + base64.b64encode(outcome.SerializeToString())
    if path is None or len(text) > MOST_WORDS:
        return
    with contextlib.suppress(OSError), open(path, "wb") as file:
        file.write(text)
