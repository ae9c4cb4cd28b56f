"""Call a function in a forked child of a test."""

from __future__ import annotations

import os
import select
import signal
import traceback
from collections.abc import Callable

__all__ = ["in_child"]


def in_child(call: Callable[[], object], within: float = 30.0) -> str:
    """Return the `repr` of what the function returns in a forked child, or `hangs`; an error is its class and text."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, repr(call()).encode())
        except BaseException as error:
            traceback.print_exc()
            os.write(write, f"{type(error).__name__}: {error}".encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read, "rb", buffering=0) as answer:
        if not select.select([answer], [], [], within)[0]:
            os.kill(pid, signal.SIGKILL)
        text = answer.read().decode()
    os.waitpid(pid, 0)
    return text or "hangs"
