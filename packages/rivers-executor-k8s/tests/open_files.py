"""What this process has open, to see what a test has left."""

from __future__ import annotations

import contextlib
import os

__all__ = ["open_files"]

OF_GRPC = ("anon_inode:[eventpoll]", "anon_inode:[eventfd]")
"""gRPC opens and closes these in threads of its own, some time after they are of no use any more."""


def open_files() -> set[str]:
    """What descriptors lead to: `socket:[…]`, `pipe:[…]` and paths."""
    found = set()
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            found.add(os.readlink(f"/proc/self/fd/{descriptor}"))
    return found - {*OF_GRPC}
