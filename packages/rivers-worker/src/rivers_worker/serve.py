"""The life of a worker: announce, serve one attempt, end.

The body's process was started before this module was imported: gRPC and cryptography are loaded while that one loads
what it needs.
"""

from __future__ import annotations

import signal
import sys

from rivers_worker.announcement import Announcement
from rivers_worker.ending import Exit
from rivers_worker.errors import CredentialsError
from rivers_worker.journal import Journal
from rivers_worker.server import Server
from rivers_worker.settings import Settings
from rivers_worker.supervisor import Supervisor

__all__ = ["complain", "serve"]

LAST_CALLS = 0.5
"""Seconds for calls that are being answered when the worker ends."""
FLUSH = 5.0
"""Seconds of the grace that are left for telling the end, when the worker is asked to go."""


def serve(settings: Settings, supervisor: Supervisor, journal: Journal) -> int:
    """Serve the attempt until it is acknowledged, forsaken or asked to go; returns the exit code."""
    try:
        server = Server(settings, supervisor, journal)
    except CredentialsError as error:
        return complain(error, Exit.CREDENTIALS)
    except RuntimeError as error:
        return complain(f"cannot listen on {settings.listen}: {error}", Exit.BUG)
    asked: list[int] = []

    def asked_to_go(number: int, frame: object) -> None:
        asked.append(number)
        server.over.set()

    signal.signal(signal.SIGTERM, asked_to_go)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    sys.stdout.write(f"{Announcement(server.port, server.identity.certificate).line}\n")
    sys.stdout.flush()
    supervisor.go()
    if not _until_over(server, settings.orphan_ttl):
        return supervisor.code if journal.ended else Exit.CONTROLLER_LOST
    if asked and not journal.ended:
        supervisor.cancel(max(0.0, settings.grace - FLUSH))
        journal.wait_for_end(settings.grace)
        server.stop(FLUSH)
        return Exit.SIGTERM
    server.stop(LAST_CALLS)
    return supervisor.code if server.code is None else server.code


def _until_over(server: Server, orphan_ttl: float) -> bool:
    """Wait until there is nothing more to do; False when no controller was there for so long."""
    while not server.over.wait(max(0.05, orphan_ttl - server.alone)):
        if server.alone >= orphan_ttl:
            return False
    return True


def complain(error: object, code: int) -> int:
    """Say in the container's log why nothing is served; returns the exit code."""
    sys.stderr.write(f"rivers-worker: {error}\n")
    sys.stderr.flush()
    return code
