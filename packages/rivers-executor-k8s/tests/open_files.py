"""What this process has open, to see what a test has left."""

from __future__ import annotations

import contextlib
import os
from collections import Counter

__all__ = ["open_files"]

OF_GRPC = ("anon_inode:[eventpoll]", "anon_inode:[eventfd]")
"""gRPC opens and closes these in threads of its own, some time after they are of no use any more."""


def open_files() -> Counter[str]:
    """What descriptors lead to: `socket:[…]`, `pipe:[…]` and paths; what earlier tests have left may vanish."""
    found = []
    for descriptor in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):  # that of the listing itself
            found.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return Counter(name for name in found if name not in OF_GRPC)
