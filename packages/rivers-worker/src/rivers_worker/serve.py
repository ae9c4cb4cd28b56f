"""The life of a worker: announce, serve one attempt, end.

The body's process was started before this module was imported: gRPC and cryptography are loaded while that one loads
what it needs.
"""

from __future__ import annotations

import sys
import time
from queue import Empty, SimpleQueue

from rivers_worker.announcement import Announcement
from rivers_worker.ending import Exit
from rivers_worker.errors import CredentialsError
from rivers_worker.journal import Journal
from rivers_worker.server import Server
from rivers_worker.settings import Settings
from rivers_worker.supervisor import Supervisor

__all__ = ["serve"]

LAST_CALLS = 0.5
"""Seconds for calls that are being answered when the worker ends."""
FLUSH = 5.0
"""Seconds of the grace, a third of it at most, that are left for telling the end when the worker is asked to go."""


def serve(settings: Settings, supervisor: Supervisor, journal: Journal, ends: SimpleQueue[Exit]) -> int:
    """Serve the attempt until it is acknowledged, forsaken or asked to go; returns the exit code.

    `ends` is told by a signal or by the server that there is nothing more to do, and why.
    """
    try:
        server = Server(settings, supervisor, journal, ends)
    except CredentialsError as error:
        return _complain(str(error), Exit.CREDENTIALS)
    except RuntimeError as error:
        return _complain(f"cannot listen on {settings.listen}: {error}", Exit.BUG)
    sys.stdout.write(f"{Announcement(server.port, server.identity.certificate).line}\n")
    sys.stdout.flush()
    supervisor.go()
    cause = _wait_for_end(server, ends, settings.orphan_ttl)
    if cause is Exit.SIGTERM:
        return _leave(server, supervisor, journal, ends, settings.grace)
    if cause is Exit.CONTROLLER_LOST:
        return supervisor.code if journal.ended else cause
    server.stop(LAST_CALLS)
    return supervisor.code if cause is Exit.DONE else cause


def _wait_for_end(server: Server, ends: SimpleQueue[Exit], orphan_ttl: float) -> Exit:
    """Wait until there is nothing more to do, or no controller was there for so long."""
    while (left := orphan_ttl - server.alone) > 0:
        try:
            return ends.get(timeout=left)
        except Empty:
            continue
    return Exit.CONTROLLER_LOST


def _leave(server: Server, supervisor: Supervisor, journal: Journal, ends: SimpleQueue[Exit], grace: float) -> int:
    """Asked to go: start nothing more, end the body, and tell its end for as long as somebody is there to hear it."""
    code = supervisor.code if journal.ended else Exit.SIGTERM
    until = time.monotonic() + grace
    flush = min(FLUSH, grace / 3)
    if server.refuse():
        supervisor.cancel(grace - flush)
        journal.wait_for_end(grace)
        while (left := min(until - time.monotonic(), flush - server.alone)) > 0:
            try:
                if ends.get(timeout=left) is Exit.DONE:
                    break
            except Empty:
                continue
    server.stop(LAST_CALLS)
    return code


def _complain(text: str, code: Exit) -> Exit:
    """Say in the container's log why nothing is served; returns the exit code."""
    sys.stderr.write(f"rivers-worker: {text}\n")
    return code
