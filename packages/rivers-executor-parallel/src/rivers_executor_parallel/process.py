"""Start one worker process by loky, and report its exit code; no other module imports loky.

A worker is a loky process, not a one-worker loky executor: the executor's manager thread unpickles whatever comes out
of its result queue (`result_reader.recv()` in `loky/process_executor.py`), and nothing that a worker writes may ever be
unpickled in the controller. The process alone has no queue, no semaphore in /dev/shm and no thread.
"""

from __future__ import annotations

import contextlib
import multiprocessing.process
import os
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import Any

from loky.backend import get_context

__all__ = ["WorkerProcess", "check_room"]

PIPES = 12
"""Pipes with as many descriptors as a worker and its handle need, loky's two trackers included."""


def check_room() -> None:
    """Check that there are descriptors left for a worker, before the first of them is opened.

    Raises:
        OSError: the limit on open files is near.
    """
    opened: list[int] = []
    try:
        for _ in range(PIPES):
            opened += os.pipe()
    finally:
        for descriptor in opened:
            os.close(descriptor)


class WorkerProcess:
    """A process that runs `target(*connections, settings)` in a new interpreter.

    It is started by exec, without the main module: a script needs no `if __name__ == "__main__"`. The kernel ties its
    life to the thread that starts it.

    Raises:
        OSError: the machine refuses another process or descriptor.
    """

    def __init__(self, target: Callable[..., None], descriptors: list[int], settings: Any, env: dict[str, str]) -> None:
        # These own their descriptors, and close them here when the child has its copies.
        handed = [Connection(descriptor) for descriptor in descriptors]
        try:
            make = get_context("loky").Process
            self._process = make(target=target, args=(*handed, settings), name="rivers-worker", env=env)
            with _allowed_children():
                self._process.start()
        except UnboundLocalError as error:
            # Loky 3.5 stumbles over its own clean-up when a pipe is refused.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
        finally:
            for connection in handed:
                connection.close()
        self.pid: int = self._process.pid
        self.started = time.monotonic()
        try:
            self.ended = os.pidfd_open(self.pid)
        except OSError:
            # Reaped already, by an application that reaps all children; or a kernel before 5.3.
            self.ended = os.dup(self._process.sentinel)
        """A descriptor that is readable once the process has ended."""

    def exit_code(self, patience: float) -> int | None:
        """Return the exit code, negative for a signal, or None when it is not known within `patience` seconds."""
        until = time.monotonic() + patience
        while self._process.exitcode is None and time.monotonic() < until:
            # The descriptor was readable: what is left is that somebody else reaps it.
            time.sleep(0.001)
        code: int | None = self._process.exitcode
        return code

    def close(self) -> None:
        """Release what the controller holds of an ended process."""
        os.close(self.ended)
        # The last reference closes the sentinel: `close` fails, as loky's Popen has none, and `join` keeps what has no
        # exit code because an application reaps all children.
        multiprocessing.process._children.discard(self._process)  # type: ignore[attr-defined]  # the typeshed leaves it out
        del self._process


@contextlib.contextmanager
def _allowed_children() -> Iterator[None]:
    """Let a daemonic process of multiprocessing start a worker.

    It may have no children, as nothing would end them; workers end by themselves.
    """
    me = multiprocessing.current_process()
    if not me.daemon:
        yield
        return
    me.daemon = False
    try:
        yield
    finally:
        me.daemon = True
