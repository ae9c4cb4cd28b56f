"""Run a worker: announce it, serve one attempt, end.

The body's process starts before this module is imported: gRPC and cryptography load while that process loads rivers.
"""

from __future__ import annotations

import sys
import time
from queue import Empty, SimpleQueue

from rivers_worker.announcement import Announcement
from rivers_worker.errors import CredentialsError
from rivers_worker.exit_codes import Exit
from rivers_worker.journal import Journal
from rivers_worker.server import StepServer
from rivers_worker.settings import ServeSettings
from rivers_worker.supervisor import Supervisor

__all__ = ["serve"]

LAST_CALLS = 0.5
"""Seconds for calls that are under way when the worker ends."""
FLUSH = 5.0
"""Seconds of the grace, at most a third of it, that are left to send the result after SIGTERM."""


def serve(settings: ServeSettings, supervisor: Supervisor, journal: Journal, ends: SimpleQueue[Exit]) -> int:
    """Serve the attempt until it is acknowledged, abandoned or terminated; return the exit code.

    `ends` gets the cause of the end, from a signal or from the server.
    """
    try:
        server = StepServer(settings, supervisor, journal, ends)
    except CredentialsError as error:
        return _fail(str(error), Exit.CREDENTIALS)
    except RuntimeError as error:
        return _fail(f"cannot listen on {settings.listen}: {error}", Exit.BUG)
    sys.stdout.write(f"{Announcement(server.port, server.identity.certificate).line}\n")
    sys.stdout.flush()
    supervisor.go()
    cause = _wait_for_end(server, ends, settings.orphan_ttl)
    if cause is Exit.SIGTERM:
        return _shut_down(server, supervisor, journal, ends, settings.grace)
    if cause is Exit.CONTROLLER_LOST:
        return supervisor.code if journal.is_ended else cause
    server.stop(LAST_CALLS)
    return supervisor.code if cause is Exit.DONE else cause


def _wait_for_end(server: StepServer, ends: SimpleQueue[Exit], orphan_ttl: float) -> Exit:
    """Return the cause of the end; CONTROLLER_LOST after `orphan_ttl` seconds without a controller."""
    while (left := orphan_ttl - server.seconds_alone) > 0:
        try:
            return ends.get(timeout=left)
        except Empty:
            continue
    return Exit.CONTROLLER_LOST


def _shut_down(
    server: StepServer, supervisor: Supervisor, journal: Journal, ends: SimpleQueue[Exit], grace: float
) -> int:
    """Shut down after SIGTERM: start nothing, cancel the body, and send its result while a controller is connected."""
    code = supervisor.code if journal.is_ended else Exit.SIGTERM
    until = time.monotonic() + grace
    flush = min(FLUSH, grace / 3)
    if server.stop_accepting():
        supervisor.cancel(grace - flush)
        journal.wait_for_end(grace)
        while (left := min(until - time.monotonic(), flush - server.seconds_alone)) > 0:
            try:
                if ends.get(timeout=left) is Exit.DONE:
                    break
            except Empty:
                continue
    server.stop(LAST_CALLS)
    return code


def _fail(text: str, code: Exit) -> Exit:
    """Write to the container's log why nothing is served, and return the exit code."""
    sys.stderr.write(f"rivers-worker: {text}\n")
    return code
