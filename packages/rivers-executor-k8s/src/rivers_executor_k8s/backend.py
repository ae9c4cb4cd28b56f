"""The backend: from the SPI's calls, in any thread, to the coroutines of the loop.

preflight ──▶ Session of its own, closed again
open      ──▶ RunLock ──▶ Session ──▶ sweep of what dead controllers have left
submit    ──▶ Attempt, a task of the loop
close     ──▶ every attempt ended, no pod left, the lock let go
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from rivers.exceptions import Problem
from rivers.protocol import Compute, StepEvent, StepSpec
from rivers.spi import Capabilities, Executor, ExecutorBackend, Reach, Run, Sink
from rivers_executor_k8s.run.cluster_run import Running
from rivers_executor_k8s.run.context import Connection
from rivers_executor_k8s.run.preflight import preflight

__all__ = ["KubernetesBackend"]

OPEN_DEADLINE = 60.0
PREFLIGHT_DEADLINE = 120.0


class KubernetesBackend(ExecutorBackend[Executor.Kubernetes]):
    """Carries out `Executor.kubernetes()`; what it knows of the cluster stays from run to run, until `shutdown`."""

    executor_type = Executor.Kubernetes

    def __init__(self, executor: Executor.Kubernetes) -> None:
        super().__init__(executor)
        self._connection: Connection | None = None
        self._running: Running | None = None
        self._emit: Sink = _ignore

    @property
    def capabilities(self) -> Capabilities:
        """Every step in a container of its own, anywhere, with what it asks for."""
        return Capabilities(
            isolation="container",
            timeout="kill",
            closures="pickled" if self.executor.allow_pickle else "none",
            reach=Reach.ANYWHERE,
            provisions=True,
            compute=Compute(cpu=self.executor.worker_cpu, memory=self.executor.worker_memory),
            grace=self.executor.grace,
            max_steps=self.executor.max_concurrent_steps,
            warm=True,
        )

    def observe(self, emit: Sink) -> None:
        """Take the callback for what preflight waits for."""
        self._emit = emit

    def preflight(self, specs: Iterable[StepSpec]) -> Sequence[Problem]:
        """Ask the cluster what it would refuse, and one pod what its image lacks."""
        given = list(specs)
        if not given:
            return ()
        connection = self._connected()
        emit, self._emit = self._emit, _ignore
        try:
            return connection.run(preflight(connection, given, emit), PREFLIGHT_DEADLINE)
        except TimeoutError:
            server = connection.cluster.server
            return [Problem(f"the cluster at {server} has not answered preflight within {PREFLIGHT_DEADLINE:g} s")]

    def open(self, run: Run, emit: Sink) -> None:
        """Take the run's lock and begin to watch; raises when the cluster refuses that."""
        connection = self._connected()
        self._running = Running(connection, run, emit)
        connection.run(self._running.begin(), OPEN_DEADLINE)

    def submit(self, spec: StepSpec) -> None:
        """Begin an attempt in the loop."""
        assert self._connection is not None
        assert self._running is not None
        self._connection.post(self._running.submit, spec)

    def cancel(self, attempt_id: str, grace: float) -> None:
        """End an attempt, in the loop."""
        if self._connection is not None and self._running is not None:
            self._connection.post(self._running.cancel, attempt_id, grace)

    def close(self, deadline: float) -> None:
        """End what runs, and wait until the cluster holds nothing of the run any more."""
        running, self._running = self._running, None
        if self._connection is not None and running is not None:
            self._connection.run(running.end(deadline), deadline + 5.0)

    def shutdown(self, deadline: float) -> None:
        """Let go of the cluster."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = Connection(self.executor)
        return self._connection


def _ignore(event: StepEvent) -> None:
    """Drop an event: nobody observes."""
