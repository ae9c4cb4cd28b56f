"""The backend of executors with remote workers: calls of the SPI, from any thread, become coroutines of the loop."""

from __future__ import annotations

import asyncio
import concurrent.futures
from abc import abstractmethod
from collections.abc import Iterable, Sequence
from typing import ClassVar, TypeVar

from rivers.exceptions import Problem
from rivers.protocol import StepSpec
from rivers.spi import Executor, ExecutorBackend, Run, Sink
from rivers_worker.event_loop import SharedLoop, acquire_loop
from rivers_worker.remote.platform import WorkerPlatform
from rivers_worker.remote.run import RemoteRun
from rivers_worker.remote.workers import RemoteSettings

__all__ = ["RemoteBackend"]

ExecutorT = TypeVar("ExecutorT", bound=Executor)

ABANDON_DEADLINE = 20.0
"""Seconds for the end of a platform that has refused the run."""


class RemoteBackend(ExecutorBackend[ExecutorT]):
    """A backend whose workers a platform starts; subclasses give `capabilities`, `settings` and `platform`."""

    open_deadline: ClassVar[float] = 60.0
    """Seconds for the platform to get ready for a run."""
    preflight_deadline: ClassVar[float] = 120.0
    """Seconds for its answer before that."""

    def __init__(self, executor: ExecutorT) -> None:
        super().__init__(executor)
        self._loop: SharedLoop | None = None
        self._run: RemoteRun | None = None
        self._prepared: WorkerPlatform | None = None
        self._checking: tuple[SharedLoop, asyncio.Task[object]] | None = None
        self._is_cancelled = False

    @abstractmethod
    def settings(self) -> RemoteSettings:
        """Return the settings of the workers."""

    @abstractmethod
    def platform(self) -> WorkerPlatform:
        """Return a new platform, for one run and its preflight."""

    def preflight(self, specs: Iterable[StepSpec]) -> Sequence[Problem]:
        """Return the problems that the platform finds."""
        given = list(specs)
        if not given:
            return ()
        loop = self._loop = acquire_loop()
        is_ready = False
        try:
            problems = loop.run(self._check(loop, given), self.preflight_deadline)
            is_ready = not problems
            return problems
        except concurrent.futures.CancelledError:
            return ()
        except TimeoutError:
            return [Problem(f"the platform has not answered preflight within {self.preflight_deadline:g} s")]
        finally:
            if not is_ready:
                self.abandon(ABANDON_DEADLINE)

    def abandon(self, deadline: float) -> None:
        """Close the platform that preflight has asked."""
        loop, platform = self._loop, self._prepared
        self._loop = self._prepared = None
        if loop is None:
            return
        try:
            if platform is not None:
                loop.run(platform.close(deadline), deadline + 5.0)
        finally:
            loop.release()

    def observe(self, emit: Sink) -> None:
        """Allow the preflight that follows to be cancelled."""
        self._is_cancelled = False

    def cancel_preflight(self) -> None:
        """Cancel it in the loop."""
        self._is_cancelled = True
        checking = self._checking
        if checking is not None:
            loop, task = checking
            loop.post(task.cancel)

    def open(self, run: Run, emit: Sink) -> None:
        """Have the platform get ready for a run; raise if it refuses."""
        platform, self._prepared = self._prepared or self.platform(), None
        self._loop = self._loop or acquire_loop()
        self._run = RemoteRun(run, emit, self.settings(), platform)
        self._loop.run(self._run.begin(), self.open_deadline)

    def submit(self, spec: StepSpec) -> None:
        """Start an attempt in the loop."""
        assert self._loop is not None
        assert self._run is not None
        self._loop.post(self._run.submit, spec)

    def cancel(self, attempt_id: str, grace: float) -> None:
        """Cancel an attempt in the loop."""
        if self._loop is not None and self._run is not None:
            self._loop.post(self._run.cancel, attempt_id, grace)

    def close(self, deadline: float) -> None:
        """Cancel what still runs, and wait until no worker of the run is left."""
        loop, run = self._loop, self._run
        self._loop = self._run = None
        if loop is None:
            return
        try:
            if run is not None:
                loop.run(run.end(deadline), deadline + 5.0)
        finally:
            loop.release()

    async def _check(self, loop: SharedLoop, specs: Sequence[StepSpec]) -> list[Problem]:
        task = asyncio.current_task()
        assert task is not None
        self._checking = loop, task
        # Read after it is set: a cancel that comes now finds the task, or was seen here.
        if self._is_cancelled:
            return []
        try:
            self._prepared = self.platform()
            return await self._prepared.check(specs)
        finally:
            self._checking = None
