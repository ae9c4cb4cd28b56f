"""End a process as the interpreter does, but without waiting for threads that a body has left."""

from __future__ import annotations

import atexit
import contextlib
import os
import sys
import threading
import traceback
from typing import NoReturn

__all__ = ["end_forked_child", "end_process", "run_exit_hooks"]


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
    _flush()
    os._exit(code)


def end_forked_child(error: BaseException | None) -> NoReturn:
    """End a child that a body has forked and that came out of the body, by this error if by any.

    Its parent reports the attempt. The exit hooks are the parent's, too, as they are for a child of multiprocessing.
    """
    code = 0
    if isinstance(error, SystemExit) and (error.code is None or isinstance(error.code, int)):
        code = error.code or 0
    elif isinstance(error, SystemExit):
        with contextlib.suppress(Exception):
            print(error.code, file=sys.stderr)  # noqa: T201 - as the interpreter does
        code = 1
    elif error is not None:
        with contextlib.suppress(Exception):
            traceback.print_exception(error)
        code = 1
    _flush()
    # The kernel keeps eight bits of an exit code.
    os._exit(code & 0xFF)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
