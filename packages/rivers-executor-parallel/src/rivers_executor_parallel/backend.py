"""The backend: sync steps go to worker processes, async steps to one event loop in a thread of this process."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Sequence

from rivers.exceptions import Problem
from rivers.protocol import ImportRef, StepSpec
from rivers.spi import AsyncRunner, Capabilities, Executor, ExecutorBackend, Reach, Run, Sink, warning_record
from rivers_executor_parallel.handle import DEPTH
from rivers_executor_parallel.inheritance import Inheritance
from rivers_executor_parallel.supervisor import WorkerSupervisor

__all__ = ["ParallelBackend"]


class ParallelBackend(ExecutorBackend[Executor.Parallel]):
    """The backend of `Executor.parallel()`; its workers stay warm from run to run, until `shutdown`."""

    executor_type = Executor.Parallel

    def __init__(self, executor: Executor.Parallel) -> None:
        super().__init__(executor)
        self._inheritance = Inheritance(executor.max_workers)
        self._supervisor: WorkerSupervisor | None = None
        self._loop: AsyncRunner | None = None
        self._run: Run | None = None
        self._emit: Sink | None = None
        self._is_serving = self._has_work = False

    @property
    def capabilities(self) -> Capabilities:
        """Sync steps run in processes that can be killed, async steps in this one."""
        return Capabilities(
            isolation="process",
            timeout="kill",
            closures="pickled",
            reach=Reach.MACHINE,
            max_sync=self.executor.max_workers * DEPTH,
            max_async=self.executor.max_async_concurrent,
            warm=True,
            reentrant=True,
            awaits=Capabilities(isolation="none", timeout="cooperative", closures="local", reach=Reach.PROCESS),
        )

    def preflight(self, specs: Iterable[StepSpec]) -> Sequence[Problem]:
        """Refuse other systems than Linux; note the modules that workers will need."""
        functions = [spec.function for spec in specs if not spec.is_async]
        if functions and platform.system() != "Linux":
            needs = "pipes in packet mode, pidfds and parent-death signals, which Linux has"
            return [Problem(f"{self.executor!r} does not run on {platform.system()}: it needs {needs}")]
        # In the order of the plan: what its first steps need is imported first.
        self._inheritance.modules = list(dict.fromkeys(ref.module for ref in functions if isinstance(ref, ImportRef)))
        self._has_work = bool(functions)
        return ()

    def open(self, run: Run, emit: Sink) -> None:
        """Begin a run, and start a worker if it has a sync step; the event loop starts with its first step."""
        self._run, self._emit = run, emit
        self._loop = AsyncRunner(emit, local=run.local, keep_error=run.keep_error, grace=run.grace)
        if not self._inheritance.renew() and self._supervisor is not None:
            self._supervisor.pool.retire()
        if self._has_work:
            # A worker takes half a second to import pandas. It boots while other steps make what its first one needs.
            self._serve()

    def submit(self, spec: StepSpec) -> None:
        """Hand an attempt to the workers or to the event loop."""
        if spec.is_async:
            assert self._loop is not None
            self._loop.submit(spec)
            return
        if not self._is_serving:
            self._serve()
        assert self._supervisor is not None
        self._supervisor.pool.submit(spec)

    def _serve(self) -> None:
        """Open the run in the pool of workers; start a supervisor where there is none."""
        assert self._run is not None
        assert self._emit is not None
        if self._supervisor is not None and self._supervisor.pool.failure is not None:
            self.shutdown(1.0)
        if self._supervisor is None:
            supervisor = WorkerSupervisor(
                self.executor.max_workers, self._inheritance.worker_settings, self._inheritance.pool_id
            )
            supervisor.start()
            self._supervisor = supervisor
        self._supervisor.watch_folders(self._run.folders)
        self._supervisor.pool.open_run(self._run, self._emit)
        self._is_serving = True

    def cancel(self, attempt_id: str, grace: float) -> None:
        """Cancel an attempt in the workers or in the event loop."""
        if self._loop is not None:
            self._loop.stop(attempt_id)
        if self._supervisor is not None and self._is_serving:
            self._supervisor.pool.cancel(attempt_id, grace)

    def close(self, deadline: float) -> None:
        """End the run in the event loop and in the workers; those that hold nothing of it stay."""
        until = time.monotonic() + deadline
        loop, self._loop = self._loop, None
        if loop is not None and self._emit is not None:
            for problem in loop.close(deadline):
                self._emit(warning_record(problem))
        if self._supervisor is not None and self._is_serving:
            self._supervisor.pool.end_run(until)
        self._is_serving = False

    def shutdown(self, deadline: float) -> None:
        """End all workers within `deadline` seconds."""
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.stop(deadline)
