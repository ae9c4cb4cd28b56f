"""Keep warm backends between the runs of a repository."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from rivers._definitions.executor import Executor
from rivers._executor.backend import Capabilities, ExecutorBackend
from rivers._executor.registry import backend_for
from rivers_process.fork import renew_in_children

__all__ = ["BackendPool"]


class BackendPool:
    """The backends of a repository: each run has its own, and one with `Capabilities.warm` serves a later run again."""

    def __init__(self) -> None:
        self._idle: dict[Executor, list[ExecutorBackend]] = {}
        self._lock = threading.Lock()
        self._closed = False
        renew_in_children(self, BackendPool._renew)

    def _renew(self) -> None:
        """Forget the parent's backends in a forked child, which has none of their threads."""
        self._idle = {}
        self._lock = threading.Lock()

    def take(self, executor: Executor) -> ExecutorBackend:
        """Return a backend of this executor that no run has; `give_back` it when the run is over.

        Raises:
            ExecutorNotInstalledError: no installed package has it.
        """
        with self._lock:
            idle = self._idle.get(executor)
            return idle.pop() if idle else backend_for(executor)

    def capabilities_of(self, executor: Executor) -> Capabilities:
        """Return the capabilities of the backends of this executor.

        Raises:
            ExecutorNotInstalledError: no installed package has it.
        """
        backend = self.take(executor)
        self.give_back([backend])
        return backend.capabilities

    def give_back(self, backends: Iterable[ExecutorBackend]) -> None:
        """Take back the closed backends of a run that is over."""
        for backend in backends:
            if backend.capabilities.warm:
                with self._lock:
                    keep = not self._closed
                    if keep:
                        self._idle.setdefault(backend.executor, []).append(backend)
                # Without the lock: ending worker processes may take seconds.
                if not keep:
                    backend.shutdown(SHUTDOWN_DEADLINE)

    def shutdown(self) -> None:
        """Shut down all backends; those that a run still has are shut down when it gives them back."""
        with self._lock:
            self._closed = True
            idle = [backend for backends in self._idle.values() for backend in backends]
            self._idle.clear()
        until = time.monotonic() + SHUTDOWN_DEADLINE
        for backend in idle:
            backend.shutdown(max(0.0, until - time.monotonic()))


SHUTDOWN_DEADLINE = 20.0
"""Seconds that idle backends get for `shutdown`, all together."""
