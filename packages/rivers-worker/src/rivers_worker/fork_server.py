"""Fork the process of each attempt: `python -m rivers_worker.fork_server`, started for a session by its server only.

It has imported rivers and never imports user code, so that each of its forks is as fresh as an interpreter of its own.
It has one thread, and its memory is closed to the bodies, which run as the same user.
"""

from __future__ import annotations

import ctypes
import gc
import os
import platform
import signal
import socket
import sys
import time
from typing import NoReturn

import msgspec

from rivers_process import prctl
from rivers_process.fork import ignore_signal
from rivers_worker.body import BodySettings, run_body

__all__ = ["main"]

ADOPTED_WITHIN = 5.0
PAUSE = 0.0001
KEYCTL = {"x86_64": 250, "aarch64": 219}
"""Number of keyctl, which glibc does not wrap, by machine."""
KEYCTL_JOIN_SESSION_KEYRING = 1


def main() -> None:
    """Fork a body for each request on the socket, until that is closed."""
    settings = msgspec.json.decode(sys.argv[1], type=BodySettings)
    control = socket.socket(fileno=int(sys.argv[2]))
    control.set_inheritable(False)
    if not prctl.die_with_parent(settings.parent):
        return
    prctl.forbid_inspection()
    ignore_signal(signal.SIGINT)
    # User code may read sys.argv at its import.
    sys.argv[1:] = []
    gc.collect()
    # A collection in a fork would copy each page that holds a counter of these objects.
    gc.freeze()
    while True:
        request, pipes, _, _ = socket.recv_fds(control, 16, 3)
        if not request:
            return
        try:
            _fork(settings, control, *pipes)
        except OSError as error:
            control.send(str(error).encode())
        for fd in pipes:
            os.close(fd)


def _fork(settings: BodySettings, control: socket.socket, inbox: int, outbox: int, trace: int) -> None:
    """Fork a body twice: the server, a subreaper, becomes its parent and can wait for it."""
    between = os.fork()
    if between:
        os.waitpid(between, 0)
        return
    first = os.getpid()
    try:
        if os.fork() == 0:
            _start_body(settings, control, first, inbox, outbox, trace)
    except OSError as error:
        control.send(str(error).encode())
    os._exit(0)


def _start_body(
    settings: BodySettings, control: socket.socket, first: int, inbox: int, outbox: int, trace: int
) -> NoReturn:
    os.setsid()
    until = time.monotonic() + ADOPTED_WITHIN
    # The kernel sends the signal of the parent's death for each parent, and the first one is about to end. Where the
    # server has died meanwhile, somebody else is the parent then.
    while os.getppid() == first and time.monotonic() < until:
        time.sleep(PAUSE)
    if not prctl.die_with_parent(settings.parent):
        os._exit(0)
    _open_stdin_anew()
    if settings.parent == 1:
        # In a container of its own; elsewhere the session's keyring may hold what gives access to the user's files.
        _join_new_session_keyring()

    def report_start() -> None:
        control.send(str(os.getpid()).encode())
        control.close()
        prctl.allow_inspection()

    run_body(settings, inbox, outbox, trace, report_start)


def _open_stdin_anew() -> None:
    # Forks share open files and with them flags such as O_NONBLOCK.
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.close(null)


def _join_new_session_keyring() -> None:
    if (keyctl := KEYCTL.get(platform.machine())) is not None:
        ctypes.CDLL(None).syscall(keyctl, KEYCTL_JOIN_SESSION_KEYRING, None)


if __name__ == "__main__":
    main()
