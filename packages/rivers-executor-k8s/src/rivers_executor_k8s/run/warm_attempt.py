"""Run one attempt on a warm worker, which has run others of the run before.

    lease ──▶ called ──▶ ended ──▶ result ──▶ acknowledged ──▶ clean: the worker is idle ── else its pod is deleted

The result does not wait for the clean-up.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time

from rivers.protocol import Ending, StepResult, StepSpec, lost
from rivers.spi import warning_record
from rivers_executor_k8s.run.attempt import PodAttempt
from rivers_executor_k8s.run.launch import MAX_NAMES, WorkerLaunch
from rivers_executor_k8s.run.session import Session
from rivers_executor_k8s.run.warm_workers import WarmWorker, WarmWorkers, WorkerStartError
from rivers_worker.client import WorkerError
from rivers_worker.pool import WorkerLease
from rivers_worker.pool.reuse import is_clean_end

__all__ = ["WarmAttempt"]

MAX_WORKERS = 5
"""Workers that an attempt tries: an idle one may have died unnoticed."""
CLEAN_UP = 10.0
"""Seconds for the answer to the acknowledgement, which comes after the worker's clean-up."""


class WarmAttempt(PodAttempt):
    """One attempt on a worker of `workers`; its pod is not deleted with it.

    `prepared` is a worker's launch, where that was launched ahead of time for this attempt.
    """

    def __init__(
        self, spec: StepSpec, session: Session, workers: WarmWorkers, prepared: WorkerLaunch | None = None
    ) -> None:
        super().__init__(spec, session)
        self._prepared = prepared
        self._workers = workers
        self._worker: WarmWorker | None = None
        self._asked = time.monotonic()
        self._launches = 0

    @property
    def is_waiting(self) -> bool:
        """True while it has no worker."""
        return self._worker is None

    @property
    def _began(self) -> float:
        return self._asked

    def report(self, why: str) -> None:
        """Report what its pod waits for."""
        self._report(why)

    def take_launch(self) -> WorkerLaunch:
        """Return the launch of a worker for this attempt."""
        launch, self._prepared = self._prepared, None
        # An attempt may have several under way, as it takes whichever worker is ready: each has names of its own.
        first, self._launches = self._launches * MAX_NAMES, self._launches + 1
        report = functools.partial(self._workers.report, self)
        if launch is None:
            return WorkerLaunch(self.spec, self._session, report, first_name=first)
        launch.hand_over(report)
        return launch

    async def explain_start(self, launch: WorkerLaunch, error: Exception | None) -> StepResult:
        """Return the result of this attempt if its worker has not started; without an error its pod has ended."""
        return await PodAttempt(self.spec, self._session, launch).explain(error)

    async def _run_to_end(self) -> StepResult:
        for _ in range(MAX_WORKERS):
            try:
                async with contextlib.AsyncExitStack() as stack:
                    lease = await stack.enter_async_context(self._workers.lease(self))
                    if not await lease.worker.is_alive():
                        # It has not got the attempt, so another one may.
                        self._workers.discard(lease.worker)
                        continue
                    result = await self._run_on(lease.worker)
                    if self._is_reusable(result):
                        lease.announce_return()
                        self._session.spawn(self._return_worker(lease, stack.pop_all()))
                    return result
            except WorkerStartError as error:
                return error.result
        # None of them has got the attempt, which is dispatched again free of charge.
        evidence = self._evidence(detail=f"{MAX_WORKERS} idle workers did not answer")
        return lost(self.spec.attempt_id, evidence, started=False)

    async def _run_on(self, worker: WarmWorker) -> StepResult:
        self._worker, self._launch = worker, worker.launch
        self._has_served = worker.has_served
        worker.result = None
        worker.begin(self.spec, self._session)
        try:
            worker.result = await self._run_on_worker()
        finally:
            worker.has_served = True
        if worker.result.ending is Ending.FAILED and self._session.executor.keep_failed_pods:
            await worker.label(self._session)
        return worker.result

    async def _execute(self) -> StepResult:
        assert self._worker is not None
        self._boot = time.monotonic() - self._began
        self._client = self._worker.client
        return await self._call(self._client)

    def _is_reusable(self, result: StepResult) -> bool:
        if self.view.is_over or not is_clean_end(result):
            return False
        return not (result.ending is Ending.FAILED and self._session.executor.keep_failed_pods)

    async def _return_worker(self, lease: WorkerLease[WarmWorker], stack: contextlib.AsyncExitStack) -> None:
        """Acknowledge the result, and give the worker back once it has cleaned up."""
        async with stack:
            with contextlib.suppress(WorkerError, TimeoutError):
                async with asyncio.timeout(CLEAN_UP):
                    answer = await lease.worker.client.ack()
                if answer.ready:
                    lease.keep()
                elif answer.retires:
                    text = f"pod {self.name} serves no further step: {answer.retires}"
                    self._session.emit(warning_record(text, logger="rivers.kubernetes"))

    async def _release(self, result: StepResult | None) -> None:
        """Leave the pod to its pool; delete one that was prepared for nothing."""
        prepared, self._prepared = self._prepared, None
        if prepared is not None:
            await prepared.release()
