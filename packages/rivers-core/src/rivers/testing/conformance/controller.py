"""A controller in a process of its own, for the law about a controller that is killed.

It reads a line of JSON and the pickled executor from stdin, starts bodies, prints `ready`, and waits to be killed. The
pickle is the kit's own, from the process that started this one, and never a worker's.
"""

from __future__ import annotations

import json
import pickle
import sys
import time

from rivers._definitions.executor import Executor
from rivers.testing.conformance.bodies import BEGUN
from rivers.testing.conformance.session import BackendSession
from rivers.testing.conformance.subject import Subject

__all__ = ["READY", "can_be_sent", "main", "make_task"]

READY = "ready"
LIFETIME = 120.0
"""Seconds after which a controller that nobody kills ends by itself."""


def can_be_sent(executor: Executor) -> bool:
    """Return whether a pickle can hold an executor."""
    try:
        pickle.dumps(executor)
    except Exception:  # noqa: BLE001 - any object of the user's may be part of it, and raises what it likes
        return False
    return True


def make_task(subject: Subject) -> bytes:
    """Return the bytes for the stdin of a controller."""
    head = {"path": sys.path, "patience": subject.patience}
    return json.dumps(head).encode() + b"\n" + pickle.dumps(subject.executor)


def main() -> None:
    """Start bodies that do not end by themselves, and wait to be killed."""
    head = json.loads(sys.stdin.buffer.readline())
    sys.path[:] = head["path"]
    executor = pickle.loads(sys.stdin.buffer.read())  # noqa: S301 - from the process that started this one
    with Subject(executor, patience=head["patience"]) as subject, BackendSession(subject) as session:
        bodies = ["stubborn", "sleeps"][: min(subject.slots or 2, 2)]
        for body in bodies:
            session.wait_for_text(session.submit(body, seconds=600.0), BEGUN)
        sys.stdout.write(f"{READY}\n")
        sys.stdout.flush()
        time.sleep(LIFETIME)
