"""Carry out one run on a platform: its workers and its attempts, all in the event loop."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import Coroutine
from typing import Any

from rivers.protocol import Evidence, StepResult, StepSpec, describe_exception, lost
from rivers.spi import Run, Sink, warning_record
from rivers_worker.remote.attempt import RemoteAttempt
from rivers_worker.remote.platform import WorkerPlatform
from rivers_worker.remote.workers import RemoteSettings, RemoteWorkers

__all__ = ["RemoteRun"]

LAST = 2.0
"""Seconds of the deadline of `end` that are kept for the platform's own end."""


class RemoteRun:
    """One run, from `begin` to `end`; `end` is also called after a `begin` that raised."""

    def __init__(self, run: Run, emit: Sink, settings: RemoteSettings, platform: WorkerPlatform) -> None:
        self._run = run
        self._emit = emit
        self._platform = platform
        self._workers = RemoteWorkers(run.run_id, settings, platform)
        self._attempts: dict[str, RemoteAttempt] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    async def begin(self) -> None:
        """Have the platform get ready."""
        await self._platform.open(self._run.run_id, self._warn)

    def submit(self, spec: StepSpec) -> None:
        """Start an attempt."""
        attempt = self._attempts[spec.attempt_id] = RemoteAttempt(
            spec,
            self._workers,
            self._emit,
            pickle_key=self._run.key,
            logger=self._platform.logger,
            spawn=self._spawn,
        )
        self._spawn(self._run_attempt(attempt))

    def cancel(self, attempt_id: str, grace: float) -> None:
        """Cancel an attempt; one that is over is left alone."""
        attempt = self._attempts.get(attempt_id)
        if attempt is not None:
            attempt.cancel(grace)

    async def end(self, deadline: float) -> None:
        """Cancel all attempts, stop all workers and close the platform, in about `deadline` seconds at most."""
        until = time.monotonic() + deadline
        for attempt in list(self._attempts.values()):
            attempt.cancel(0.0)
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=max(0.0, until - LAST - time.monotonic()))
        await self._workers.close(until - LAST - time.monotonic())
        for problem in await self._platform.close(max(LAST, until - time.monotonic())):
            self._warn(problem)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_attempt(self, attempt: RemoteAttempt) -> None:
        try:
            result = await attempt.run()
        except Exception as error:  # noqa: BLE001 - a bug of ours ends only the attempt that meets it
            result = _bug(attempt, error)
        self._attempts.pop(attempt.spec.attempt_id, None)
        self._emit(result)

    def _warn(self, text: str) -> None:
        self._emit(warning_record(text, logger=self._platform.logger))


def _bug(attempt: RemoteAttempt, error: BaseException) -> StepResult:
    trace = "".join(traceback.format_exception(error))[-4000:]
    detail = f"a bug in the executor: {describe_exception(error)}\n{trace}"
    return lost(attempt.spec.attempt_id, Evidence(detail=detail))
