"""The backends that a repository keeps between runs, with what they have warmed up."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable

from rivers._definitions.executor import Executor
from rivers._executor.backend import ExecutorBackend
from rivers._executor.registry import backend_for
from rivers_process.fork import renew_in_children

__all__ = ["KeptBackends"]


class KeptBackends:
    """Gives each run backends of its own; those with `Capabilities.warm` serve a later run again."""

    def __init__(self) -> None:
        self._idle: dict[Executor, list[ExecutorBackend]] = {}
        self._lock = threading.Lock()
        self._closed = False
        renew_in_children(self, KeptBackends._renew)

    def _renew(self) -> None:
        """In a forked child: the workers are the parent's, and the threads that talk to them do not exist."""
        self._idle = {}
        self._lock = threading.Lock()

    def take(self, executor: Executor) -> ExecutorBackend:
        """A backend that carries this value out and that no run has; `give_back` it when the run is over.

        Raises:
            ExecutorNotInstalledError: no installed package has it.
        """
        with self._lock:
            idle = self._idle.get(executor)
            return idle.pop() if idle else backend_for(executor)

    def give_back(self, backends: Iterable[ExecutorBackend]) -> None:
        """A run is over, and its backends are closed."""
        for backend in backends:
            if backend.capabilities.warm:
                with self._lock:
                    keep = not self._closed
                    if keep:
                        self._idle.setdefault(backend.executor, []).append(backend)
                if not keep:
                    backend.shutdown(SHUTDOWN_DEADLINE)

    def shutdown(self) -> None:
        """Let go of everything; what a run still has is let go of when it is given back."""
        with self._lock:
            self._closed = True
            idle = [backend for backends in self._idle.values() for backend in backends]
            self._idle.clear()
        until = time.monotonic() + SHUTDOWN_DEADLINE
        for backend in idle:
            backend.shutdown(max(0.0, until - time.monotonic()))


SHUTDOWN_DEADLINE = 20.0
"""Seconds that idle backends get to let go of what they keep."""
