"""Errors between a controller and a worker; the worker's process raises only the first two.

They are no subclasses of `rivers.exceptions.RiversError`, as the server's process does not import rivers. An executor
turns them into the failure of an attempt with the same text.
"""

from __future__ import annotations

__all__ = [
    "AnnouncementError",
    "CredentialsError",
    "WorkerError",
    "WorkerProtocolError",
    "WorkerRefusedError",
    "WorkerUnreachableError",
]


class WorkerError(Exception):
    """The base: an attempt cannot be carried out by this worker, or not any more."""


class AnnouncementError(WorkerError):
    """The worker's output holds no announcement, or one that cannot be read."""


class CredentialsError(WorkerError):
    """A certificate cannot be read, is not valid now, or is not the one that was pinned."""


class WorkerUnreachableError(WorkerError):
    """Nobody who holds the announced key answered in time. A wrong certificate looks the same from outside."""


class WorkerRefusedError(WorkerError):
    """The worker answered and refused: another attempt or run, or a controller with a higher epoch."""


class WorkerProtocolError(WorkerError):
    """Both sides speak different versions of the protocol, or one broke it."""
