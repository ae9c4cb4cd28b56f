"""Start the process of a body by exec, and keep this side's ends of its pipes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Protocol

from rivers_worker.settings import INTERNAL, ServeSettings

__all__ = [
    "BodyProcess",
    "BodyStartError",
    "ChildProcess",
    "body_environment",
    "body_settings",
    "exec_body",
    "open_pipes",
]


class BodyStartError(Exception):
    """A body's process cannot be started."""


class ChildProcess(Protocol):
    """A child of this process; `returncode` is None until `wait` has reaped it, minus the number of a fatal signal."""

    pid: int
    returncode: int | None

    def wait_for_start(self) -> None:
        """Wait until the process exists; `pid` is valid from then on.

        Raises:
            BodyStartError: there will be none.
        """

    def wait(self) -> int:
        """Reap it and return its code."""


@dataclass(frozen=True, slots=True)
class BodyProcess:
    """A body's process, and this side's ends of its inbox, its outbox and the pipe for native tracebacks."""

    process: ChildProcess
    inbox: int
    outbox: int
    trace: int


def open_pipes() -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Return this side's ends of the three pipes of a body, and the body's ends."""
    (to_body, inbox), (outbox, from_body), (trace, to_trace) = os.pipe(), os.pipe(), os.pipe()
    # Nobody reads this pipe before the end: faulthandler must not wait for room in it while the process crashes.
    os.set_blocking(to_trace, False)
    return (inbox, outbox, trace), (to_body, from_body, to_trace)


def body_settings(settings: ServeSettings) -> str:
    """Return the settings that a body gets, as JSON."""
    return json.dumps(
        {
            "parent": os.getpid(),
            "worker": settings.worker,
            "grace": settings.grace,
            "allowed": settings.allowed,
            "allow_pickle": settings.allow_pickle,
        }
    )


def body_environment() -> dict[str, str]:
    """Return this process's environment without the worker's own variables."""
    return {name: value for name, value in os.environ.items() if name not in INTERNAL}


class ExecutedProcess(subprocess.Popen[bytes]):
    """A process that was started by exec; it exists from the beginning."""

    def wait_for_start(self) -> None:
        """Do nothing."""


def exec_body(settings: ServeSettings) -> BodyProcess:
    """Start a body in an interpreter of its own; it holds no memory of this process."""
    ours, theirs = open_pipes()
    process = ExecutedProcess(
        [sys.executable, "-m", "rivers_worker.body", body_settings(settings), *map(str, theirs)],
        stdin=subprocess.DEVNULL,
        env=body_environment(),
        pass_fds=theirs,
        start_new_session=True,
    )
    for fd in theirs:
        os.close(fd)
    return BodyProcess(process, *ours)
