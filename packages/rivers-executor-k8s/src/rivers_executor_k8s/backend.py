"""The executor's backend: it turns calls of the SPI, from any thread, into coroutines of the event loop.

preflight ──▶ FirstWorker: a Session, and a worker for the first step
abandon   ──▶ both are closed again
open      ──▶ RunLease ──▶ Session ──▶ clean-up after dead controllers
submit    ──▶ PodAttempt, a task of the loop
adopt     ──▶ AdoptedAttempt, another one, in a pod of an earlier controller
close     ──▶ every attempt ended, no pod left, the lease released
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import time
from collections.abc import Iterable, Sequence

from rivers.exceptions import Problem
from rivers.protocol import Compute, StepEvent, StepSpec
from rivers.spi import Capabilities, Executor, ExecutorBackend, Reach, Run, Sink
from rivers_executor_k8s.run.cluster_run import ClusterRun
from rivers_executor_k8s.run.context import ClusterContext
from rivers_executor_k8s.run.preflight import FirstWorker, preflight

__all__ = ["KubernetesBackend"]

OPEN_DEADLINE = 60.0
PREFLIGHT_DEADLINE = 120.0


class KubernetesBackend(ExecutorBackend[Executor.Kubernetes]):
    """The backend of `Executor.kubernetes()`; its connection to the cluster lasts from run to run, until `shutdown`."""

    executor_type = Executor.Kubernetes
    spi_version = (1, 1)

    def __init__(self, executor: Executor.Kubernetes) -> None:
        super().__init__(executor)
        self._context: ClusterContext | None = None
        self._run: ClusterRun | None = None
        self._emit: Sink = _ignore
        self._checking: asyncio.Task[object] | None = None
        self._prepared: FirstWorker | None = None
        self._is_cancelled = False

    @property
    def capabilities(self) -> Capabilities:
        """A container for each step, on any node, with the resources that the step asks for."""
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
            adopts=True,
        )

    def observe(self, emit: Sink) -> None:
        """Take the callback for what preflight waits for; from here on it can be cancelled."""
        self._emit = emit
        self._is_cancelled = False

    def preflight(self, specs: Iterable[StepSpec]) -> Sequence[Problem]:
        """Return the problems that the cluster would find, and those that one pod finds in its image."""
        given = list(specs)
        if not given:
            return ()
        context = self._get_context()
        emit, self._emit = self._emit, _ignore
        try:
            return context.run(self._check(context, given, emit), PREFLIGHT_DEADLINE)
        except concurrent.futures.CancelledError:
            return ()
        except TimeoutError:
            server = context.cluster.server
            return [Problem(f"the cluster at {server} has not answered preflight within {PREFLIGHT_DEADLINE:g} s")]

    def cancel_preflight(self) -> None:
        """Cancel it in the loop; its pod is deleted before `preflight` returns."""
        self._is_cancelled = True
        if self._context is not None:
            self._context.post(self._cancel_check)

    async def _check(self, context: ClusterContext, specs: Sequence[StepSpec], emit: Sink) -> list[Problem]:
        self._checking = asyncio.current_task()
        # Read after it is set: a cancel that comes now finds the task, or was seen here.
        if self._is_cancelled:
            return []
        try:
            problems, self._prepared = await preflight(context, specs, emit)
            return problems
        finally:
            self._checking = None

    def abandon(self, deadline: float) -> None:
        """Delete the pod that preflight has left for the run's first step."""
        prepared, self._prepared = self._prepared, None
        if self._context is not None and prepared is not None:
            self._context.run(prepared.close(time.monotonic() + deadline), deadline + 5.0)

    def _cancel_check(self) -> None:
        if self._checking is not None:
            self._checking.cancel()

    def open(self, run: Run, emit: Sink) -> None:
        """Take the run's lease and start to watch its pods; raise if the cluster refuses that."""
        context = self._get_context()
        prepared, self._prepared = self._prepared, None
        self._run = ClusterRun(context, run, emit, prepared)
        context.run(self._run.begin(), OPEN_DEADLINE)

    def submit(self, spec: StepSpec) -> None:
        """Start an attempt in the loop."""
        assert self._context is not None
        assert self._run is not None
        self._context.post(self._run.submit, spec)

    def adopt(self, spec: StepSpec) -> None:
        """Go on in the loop with an attempt of an earlier controller."""
        assert self._context is not None
        assert self._run is not None
        self._context.post(self._run.adopt, spec)

    def cancel(self, attempt_id: str, grace: float) -> None:
        """Cancel an attempt in the loop."""
        if self._context is not None and self._run is not None:
            self._context.post(self._run.cancel, attempt_id, grace)

    def close(self, deadline: float) -> None:
        """Cancel what still runs, and wait until no pod of the run is left."""
        cluster_run, self._run = self._run, None
        if self._context is not None and cluster_run is not None:
            self._context.run(cluster_run.end(deadline), deadline + 5.0)

    def shutdown(self, deadline: float) -> None:
        """Close the connection to the cluster."""
        context, self._context = self._context, None
        if context is not None:
            context.close()

    def _get_context(self) -> ClusterContext:
        if self._context is None:
            self._context = ClusterContext(self.executor)
        return self._context


def _ignore(event: StepEvent) -> None:
    """Drop an event: nobody observes."""
