"""Start the fork server of a session, and have it fork the process of each attempt.

    this process, a subreaper ── three pipes by a socket ──▶ fork server ── forks twice ──▶ body, this process's child
                              ◀──────────────────────────────────────── its process id ──────┘

A fork of a process that has imported rivers takes milliseconds; an interpreter that imports it takes half a second.
"""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys

from rivers_worker.body_process import BodyProcess, BodyStartError, body_environment, body_settings, open_pipes
from rivers_worker.settings import ServeSettings

__all__ = ["ForkServer"]

MAX_ANSWER = 1000
FIRST_START_WITHIN = 60.0
START_WITHIN = 5.0
"""Seconds for a fork: the first one waits until the fork server has imported rivers."""


class ForkServer:
    """The fork server, as its parent uses it; one fork is under way at a time."""

    def __init__(self, settings: ServeSettings) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(  # noqa: S603 - this interpreter, a module of ours
                [sys.executable, "-m", "rivers_worker.fork_server", body_settings(settings), str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env=body_environment(),
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        self._ended = select.poll()
        self._ended.register(os.pidfd_open(self._process.pid), select.POLLIN)
        self._within = FIRST_START_WITHIN

    @property
    def pids(self) -> tuple[int, ...]:
        """The id of its process, while that exists."""
        # Its id may be another's once it was reaped, which any thread of this process may have done.
        return () if self._ended.poll(0) else (self._process.pid,)

    def fork(self) -> BodyProcess:
        """Ask for a body's process; it is there once the result's process has started.

        Raises:
            BodyStartError: the fork server has ended or does not read.
        """
        ours, theirs = open_pipes()
        self._control.settimeout(self._within)
        try:
            socket.send_fds(self._control, [b"fork"], theirs)
        except OSError as error:
            for fd in ours:
                os.close(fd)
            raise BodyStartError(self._explain(error)) from error
        finally:
            for fd in theirs:
                os.close(fd)
            self._within = START_WITHIN
        return BodyProcess(ForkedProcess(self._control), *ours)

    def _explain(self, error: OSError) -> str:
        return f"the fork server takes no request: {error}" if self.pids else "the fork server has ended"

    def end(self) -> None:
        """Kill it; a fork that is under way fails. Its descriptors stay open: the threads of bodies still use them."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        self._process.kill()
        self._process.wait()


class ForkedProcess:
    """A body's process that the fork server forks; `pid` is 0 until it has started."""

    def __init__(self, control: socket.socket) -> None:
        self.pid = 0
        self.returncode: int | None = None
        self._control = control

    def wait_for_start(self) -> None:
        """Wait until it handles signals, and learn its id.

        Raises:
            BodyStartError: it was not forked in time.
        """
        try:
            answer = self._control.recv(MAX_ANSWER).decode()
            if not answer.isdecimal():
                raise BodyStartError(f"the fork server cannot fork: {answer or 'it has ended'}")
        except (OSError, BodyStartError) as error:
            # A late answer would be taken for that of the next request.
            with contextlib.suppress(OSError):
                self._control.shutdown(socket.SHUT_RDWR)
            raise BodyStartError(f"the fork server does not answer: {error}") from error
        self.pid = int(answer)

    def wait(self) -> int:
        """Reap it and return its code."""
        if self.returncode is None:
            self.returncode = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.returncode
