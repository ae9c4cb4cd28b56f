"""The backend: sync steps go to the lanes, async steps to one loop in a thread of this process."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterable, Sequence

from rivers.exceptions import Problem
from rivers.protocol import ImportRef, StepSpec
from rivers.spi import AsyncRunner, Capabilities, Executor, ExecutorBackend, Reach, Run, Sink, warning_record
from rivers_executor_parallel.keeper import Keeper
from rivers_executor_parallel.lane import DEPTH
from rivers_executor_parallel.settings import Inheritance

__all__ = ["ParallelBackend"]


class ParallelBackend(ExecutorBackend[Executor.Parallel]):
    """Carries out `Executor.parallel()`; its workers stay warm from run to run, until `shutdown`."""

    executor_type = Executor.Parallel

    def __init__(self, executor: Executor.Parallel) -> None:
        super().__init__(executor)
        self._inheritance = Inheritance(executor.max_workers)
        self._keeper: Keeper | None = None
        self._loop: AsyncRunner | None = None
        self._run: Run | None = None
        self._emit: Sink | None = None
        self._serves = self._has_work = False

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
        """Refuse other systems; learn what workers are to import before their first step."""
        functions = [spec.function for spec in specs if not spec.is_async]
        if functions and platform.system() != "Linux":
            needs = "pipes in packet mode, pidfds and parent-death signals, which Linux has"
            return [Problem(f"{self.executor!r} does not run on {platform.system()}: it needs {needs}")]
        # In the order of the plan: what its first steps need is imported first.
        self._inheritance.modules = list(dict.fromkeys(ref.module for ref in functions if isinstance(ref, ImportRef)))
        self._has_work = bool(functions)
        return ()

    def open(self, run: Run, emit: Sink) -> None:
        """Get ready for a run: the loop starts with its first step, and a worker now if there will be work for one."""
        self._run, self._emit = run, emit
        self._loop = AsyncRunner(emit, local=run.local, keep_error=run.keep_error, grace=run.grace)
        if not self._inheritance.renew() and self._keeper is not None:
            self._keeper.lanes.retire()
        if self._has_work:
            # A worker takes most of a second to import pandas and the like: it boots while what the first of its steps
            # need is made elsewhere.
            self._serve()

    def submit(self, spec: StepSpec) -> None:
        """Hand an attempt to a lane, or to the loop."""
        if spec.is_async:
            assert self._loop is not None
            self._loop.submit(spec)
            return
        if not self._serves:
            self._serve()
        assert self._keeper is not None
        self._keeper.lanes.submit(spec)

    def _serve(self) -> None:
        """The run has a sync step: its lanes are needed."""
        assert self._run is not None
        assert self._emit is not None
        if self._keeper is not None and self._keeper.lanes.broken is not None:
            self.shutdown(1.0)
        if self._keeper is None:
            keeper = Keeper(self.executor.max_workers, self._inheritance.settings, self._inheritance.family)
            keeper.start()
            self._keeper = keeper
        self._keeper.watch_folders(self._run.folders)
        self._keeper.lanes.open(self._run, self._emit)
        self._serves = True

    def cancel(self, attempt_id: str, grace: float) -> None:
        """End an attempt wherever it is."""
        if self._loop is not None:
            self._loop.stop(attempt_id)
        if self._keeper is not None and self._serves:
            self._keeper.lanes.cancel(attempt_id, grace)

    def close(self, deadline: float) -> None:
        """End the run in the workers and the loop; workers that hold nothing of it stay."""
        until = time.monotonic() + deadline
        loop, self._loop = self._loop, None
        if loop is not None and self._emit is not None:
            for problem in loop.close(deadline):
                self._emit(warning_record(problem))
        if self._keeper is not None and self._serves:
            self._keeper.lanes.end_run(until)
        self._serves = False

    def shutdown(self, deadline: float) -> None:
        """Let the workers go."""
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            keeper.stop(deadline)
