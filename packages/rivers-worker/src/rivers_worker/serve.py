"""Run a worker: announce it, serve its attempts, end.

The body's process starts before this module is imported: gRPC and cryptography load while that process loads rivers.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from queue import Empty, SimpleQueue

from rivers_worker.announcement import Announcement
from rivers_worker.errors import CredentialsError
from rivers_worker.exit_codes import Exit
from rivers_worker.server import StepServer
from rivers_worker.session import WorkerSession
from rivers_worker.settings import ServeSettings

__all__ = ["serve"]

LAST_CALLS = 0.5
"""Seconds for calls that are under way when the worker ends."""
LONGEST_WAIT = 1.0
"""Seconds. Python runs a signal's handler between two instructions of the main thread: a SIGTERM that hits it on its
way into a wait is only noticed when that wait is over (11 of 27,570 that came within 60 us of another wake-up)."""
FLUSH = 5.0
"""Seconds of the grace, at most a third of it, that are left to send the result after SIGTERM."""


def serve(settings: ServeSettings, session: WorkerSession, ends: SimpleQueue[Exit | None]) -> int:
    """Serve until the last attempt is acknowledged, or the worker is abandoned or terminated; return the exit code.

    `ends` gets the cause of the end, from a signal or from the session.
    """
    try:
        server = StepServer(settings, session)
    except CredentialsError as error:
        return _fail(str(error), Exit.CREDENTIALS)
    except RuntimeError as error:
        return _fail(f"cannot listen on {settings.listen}: {error}", Exit.BUG)
    sys.stdout.write(f"{Announcement(server.port, server.identity.certificate).line}\n")
    sys.stdout.flush()
    # A client of NFS keeps what a file got for up to 30 s; pipes and terminals refuse.
    with contextlib.suppress(OSError):
        os.fsync(sys.stdout.fileno())
    session.go()
    cause = _wait_for_end(server, session, ends)
    if cause is Exit.SIGTERM:
        return _shut_down(server, session, ends, settings.grace)
    if cause is Exit.CONTROLLER_LOST:
        attempt = session.current
        return session.code if attempt is not None and attempt.journal.is_ended else cause
    server.stop(LAST_CALLS)
    return session.code if cause is Exit.DONE else cause


def _wait_for_end(server: StepServer, session: WorkerSession, ends: SimpleQueue[Exit | None]) -> Exit:
    """Return the cause of the end: from `ends`, or that nobody has called or had an attempt for too long."""
    while True:
        left, cause = session.time_left(server.seconds_alone)
        if left <= 0 and (cause is not Exit.DONE or session.stop_if_idle()):
            return cause
        with contextlib.suppress(Empty):
            # None: the time that is left has changed.
            given = ends.get(timeout=min(max(left, 0.0), LONGEST_WAIT))
            if given is not None:
                return given


def _shut_down(server: StepServer, session: WorkerSession, ends: SimpleQueue[Exit | None], grace: float) -> int:
    """Shut down after SIGTERM: start nothing, cancel the body, and send its result while a controller is connected."""
    attempt = session.stop_accepting()
    code = session.code if attempt is not None and attempt.journal.is_ended else Exit.SIGTERM
    until = time.monotonic() + grace
    flush = min(FLUSH, grace / 3)
    if attempt is not None:
        attempt.body.cancel(grace - flush)
        attempt.journal.wait_for_end(grace)
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
