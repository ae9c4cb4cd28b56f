"""Run one attempt on a remote worker.

    lease ──▶ called ──▶ ended ──▶ result ──▶ acknowledged ──▶ clean: the worker is idle ── else it is stopped
       │         └── its stream breaks: it is resumed, or the platform's evidence gives the result
    start refused

The result does not wait for the worker's clean-up.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Any

from msgspec.structs import replace

from rivers.exceptions import SpecDecodeError
from rivers.protocol import (
    Ending,
    Evidence,
    Failure,
    FailureReason,
    StepEvent,
    StepResult,
    StepSpec,
    StepStarted,
    describe_exception,
    lost,
)
from rivers.spi import warning_record
from rivers_worker.client import WorkerError
from rivers_worker.pool import PoolClosedError, WorkerLease
from rivers_worker.pool.reuse import is_clean_end
from rivers_worker.remote.platform import StartRefusedError
from rivers_worker.remote.workers import DialledWorker, RemoteWorkers

__all__ = ["RemoteAttempt"]

MAX_WORKERS = 5
"""Workers that an attempt tries: an idle one may have died unnoticed."""
CLEAN_UP = 10.0
"""Seconds for the answer to the acknowledgement, which comes after the worker's clean-up."""
DRAIN = 0.5
"""Seconds in which the last events on a stream are read after the worker's end was reported."""
SETTLE = 5.0
"""Seconds in which the platform can report the end of a worker whose stream has broken for good."""
STOP = 2.0
"""Seconds beyond the grace after which an attempt is ended with its worker."""


class RemoteAttempt:
    """One attempt; `run` is its coroutine, `cancel` ends it from outside.

    `spawn` starts a task that the run awaits, `logger` is that of the platform's warnings.
    """

    def __init__(
        self,
        spec: StepSpec,
        workers: RemoteWorkers,
        emit: Callable[[StepEvent], None],
        *,
        pickle_key: bytes,
        logger: str,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        self.spec = spec
        self._workers = workers
        self._send = emit
        self._pickle_key = pickle_key
        self._logger = logger
        self._spawn = spawn
        self._asked = time.monotonic()
        self._boot: float | None = None
        self._has_started = self._is_cancelled = False
        self._worker: DialledWorker | None = None
        self._task: asyncio.Task[StepResult] | None = None
        self._stopping: asyncio.Task[None] | None = None

    # ── from outside ──

    async def run(self) -> StepResult:
        """Run the attempt to its end, and return the result."""
        self._task = asyncio.current_task()
        try:
            if self._is_cancelled:
                raise asyncio.CancelledError
            result = await self._run_to_end()
        except asyncio.CancelledError:
            if not self._is_cancelled:
                raise
            result = lost(self.spec.attempt_id, self._evidence(cancelled=True), started=self._has_started)
        except StartRefusedError as error:
            result = self._refused(str(error), error.reason, is_transient=error.is_transient)
        except SpecDecodeError as error:  # the spec is too large, or holds an object of this process
            result = self._refused(str(error), None, is_transient=False)
        except PoolClosedError:
            result = lost(self.spec.attempt_id, self._evidence(detail="the run was closed"), started=False)
        finally:
            if self._stopping is not None:
                self._stopping.cancel()
        boot = time.monotonic() - self._asked if self._boot is None else self._boot
        worker = result.worker or (self._worker.remote.name if self._worker is not None else "")
        return replace(result, timings=replace(result.timings, boot=boot), worker=worker)

    def cancel(self, grace: float) -> None:
        """End the attempt: at once before its worker has the spec, else by the worker, which kills after `grace` s."""
        if self._is_cancelled:
            return
        self._is_cancelled = True
        if self._task is None:
            # It was submitted a moment ago, and looks when it begins.
            return
        if self._worker is None:
            self._task.cancel()
        else:
            self._stopping = asyncio.ensure_future(self._cancel_body(self._worker, grace))

    async def _cancel_body(self, worker: DialledWorker, grace: float) -> None:
        """Ask the worker to cancel; end the attempt if it has not ended in time, and the worker with it."""
        until = time.monotonic() + grace + STOP
        with contextlib.suppress(WorkerError, TimeoutError):
            async with asyncio.timeout(grace + STOP):
                await worker.client.cancel(grace)
        await asyncio.sleep(until - time.monotonic())
        assert self._task is not None
        self._task.cancel()

    # ── from start to end ──

    async def _run_to_end(self) -> StepResult:
        for _ in range(MAX_WORKERS):
            async with contextlib.AsyncExitStack() as stack:
                lease = await stack.enter_async_context(self._workers.lease(self.spec, self._report))
                if not await lease.worker.is_alive():
                    # It has not got the attempt, so another one may.
                    self._workers.discard(lease.worker)
                    continue
                result = await self._run_on(lease.worker)
                if is_clean_end(result) and not lease.worker.remote.is_over:
                    lease.announce_return()
                    self._spawn(self._return_worker(lease, stack.pop_all()))
                return result
        # None of them has got the attempt, which is dispatched again free of charge.
        evidence = self._evidence(detail=f"{MAX_WORKERS} idle workers did not answer")
        return lost(self.spec.attempt_id, evidence, started=False)

    async def _run_on(self, worker: DialledWorker) -> StepResult:
        """Return the result from the worker's stream, or by the platform's evidence of its end."""
        self._boot = time.monotonic() - self._asked
        self._worker = worker
        calling = asyncio.ensure_future(worker.client.execute(self.spec, self._emit, pickle_key=self._pickle_key))
        over = asyncio.ensure_future(worker.remote.wait_until_over())
        try:
            await asyncio.wait((calling, over), return_when=asyncio.FIRST_COMPLETED)
            if not calling.done():
                await asyncio.wait((calling,), timeout=DRAIN)
            if calling.done():
                result = calling.result()
                # Somebody else has ended its worker, which cancels the body: the platform knows more.
                if result.ending is not Ending.CANCELLED or self._is_cancelled:
                    return result
            return await self._result_by_evidence(over, None)
        except WorkerError as error:
            return await self._result_by_evidence(over, error)
        finally:
            calling.cancel()
            over.cancel()
            await asyncio.wait((calling, over), timeout=DRAIN)

    async def _result_by_evidence(self, over: asyncio.Task[Evidence], error: Exception | None) -> StepResult:
        """Return the result of a worker that is gone, or cannot be reached."""
        assert self._worker is not None
        self._worker.remote.suspect()
        await asyncio.wait((over,), timeout=SETTLE)
        evidence = over.result() if over.done() else self._evidence()
        if error is not None:
            detail = "; ".join(filter(None, (evidence.detail, describe_exception(error))))
            evidence = replace(evidence, detail=detail)
        if self._is_cancelled:
            evidence = replace(evidence, cancelled=True)
        return lost(self.spec.attempt_id, evidence, started=self._has_started)

    async def _return_worker(self, lease: WorkerLease[DialledWorker], stack: contextlib.AsyncExitStack) -> None:
        """Acknowledge the result, and give the worker back once it has cleaned up."""
        async with stack:
            with contextlib.suppress(WorkerError, TimeoutError):
                async with asyncio.timeout(CLEAN_UP):
                    answer = await lease.worker.client.ack()
                if answer.ready:
                    lease.keep()
                elif answer.retires:
                    text = f"{lease.worker.remote.name} serves no further step: {answer.retires}"
                    self._send(warning_record(text, logger=self._logger))

    # ── events and results ──

    def _emit(self, event: StepEvent) -> None:
        if type(event) is StepStarted:
            self._has_started = True
        self._send(event)

    def _report(self, text: str) -> None:
        self._send(warning_record(f"waits for its worker: {text}", self.spec.attempt_id, logger=self._logger))

    def _refused(self, text: str, reason: str | None, *, is_transient: bool) -> StepResult:
        """Return the failure of an attempt whose worker has not started."""
        failure = Failure(
            reason=FailureReason.INFRASTRUCTURE,
            type="",
            message=text,
            evidence=self._evidence(container_reason=reason, detail=text),
            transient=is_transient,
        )
        return StepResult(attempt_id=self.spec.attempt_id, ending=Ending.FAILED, failure=failure)

    def _evidence(
        self, *, container_reason: str | None = None, detail: str | None = None, cancelled: bool = False
    ) -> Evidence:
        remote = self._worker.remote if self._worker is not None else None
        return Evidence(
            container_reason=container_reason,
            node=remote.node if remote is not None else None,
            worker=remote.name if remote is not None else None,
            detail=detail,
            cancelled=cancelled,
        )
