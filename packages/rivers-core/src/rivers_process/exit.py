"""End a process as the interpreter does, but without waiting for threads that a body has left."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
from typing import NoReturn

__all__ = ["end_process", "run_exit_hooks"]


def run_exit_hooks() -> None:
    """Run what waits for the end of the interpreter, in its order: hooks of threading, hooks of atexit.

    Executors of concurrent.futures and loky end by the first; multiprocessing waits for their processes in the second.
    """
    hooks = getattr(threading, "_threading_atexits", [])
    while hooks:
        with contextlib.suppress(Exception):
            hooks.pop()()
    with contextlib.suppress(Exception):
        atexit._run_exitfuncs()


def end_process(code: int = 0) -> NoReturn:
    """Run the exit hooks, flush the standard streams and end."""
    run_exit_hooks()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(code)
