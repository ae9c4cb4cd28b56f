"""Run one attempt in a pod of its own, from the create request to its end.

    created ──▶ pending ──▶ running ──▶ announced ──▶ called ──▶ ended ──▶ deleted
       │           │                                     │
    refused    fatal cause,                      stream broken: it is resumed,
               startup_timeout                   or the pod's status gives the result

The result comes from the worker's stream, a second before the kubelet reports the end. If the stream is lost, the pod's
status and the worker's termination message give the result.
"""

from __future__ import annotations

import asyncio
import contextlib
import time

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
    Timings,
    describe_exception,
    lost,
)
from rivers.spi import warning_record
from rivers_executor_k8s.api.client import ApiError, ApiUnreachableError
from rivers_executor_k8s.api.namespace import PodRefusedError
from rivers_executor_k8s.pod.classify import classify_pod_end
from rivers_executor_k8s.pod.state import PodView
from rivers_executor_k8s.run.launch import WorkerLaunch
from rivers_executor_k8s.run.session import Session
from rivers_executor_k8s.run.startup import StartError
from rivers_worker.client import WorkerClient
from rivers_worker.errors import WorkerError

__all__ = ["PodAttempt"]

DRAIN = 0.5
"""Seconds in which the last events on a stream are read after the pod has ended."""
SETTLE = 5.0
"""Seconds in which the kubelet can report how a container ended whose stream has broken for good."""
FENCE = 2.0
"""Seconds for the attempt to stop a worker whose pod is gone: after a forced deletion it may still run."""
STOP = 2.0
"""Seconds beyond the grace after which an attempt is ended by deleting its pod."""


class PodAttempt:
    """One attempt and its pod; `run` is its coroutine, `cancel` ends it from outside.

    `launch` is its pod, where that was launched ahead of time. `is_reported` says that its result was emitted already.
    """

    def __init__(self, spec: StepSpec, session: Session, launch: WorkerLaunch | None = None) -> None:
        self.spec = spec
        self.is_reported = False
        self._session = session
        if launch is not None:
            launch.hand_over(self._report)
        self._launch = launch or WorkerLaunch(spec, session, self._report)
        self._has_served = False
        self._boot: float | None = None
        self._has_started = False
        self._is_cancelled = False
        self._client: WorkerClient | None = None
        self._task: asyncio.Task[StepResult] | None = None
        self._stopping: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The name of its pod."""
        return self._launch.name

    @property
    def view(self) -> PodView:
        """The known state of its pod."""
        return self._launch.view

    @property
    def _began(self) -> float:
        """The time at which it began to wait for its worker, by the monotonic clock."""
        return self._launch.began

    # ── from outside ──

    async def run(self) -> StepResult:
        """Run the attempt to its end, request the deletion of its pod, and return the result."""
        self._task = asyncio.current_task()
        result: StepResult | None = None
        try:
            if self._is_cancelled:
                raise asyncio.CancelledError
            result = await self._run_to_end()
        except asyncio.CancelledError:
            if not self._is_cancelled:
                raise
            result = lost(self.spec.attempt_id, self._evidence(cancelled=True), started=self._has_started)
        except (PodRefusedError, StartError, SpecDecodeError) as error:
            result = await self.explain(error)
        finally:
            if self._stopping is not None:
                self._stopping.cancel()
            await self._release(result)
        return self._with_timings(result)

    async def explain(self, error: Exception | None) -> StepResult:
        """Return the result of an attempt whose worker has not started; without an error its pod has ended."""
        if isinstance(error, PodRefusedError | StartError):
            return self._not_started_result(str(error), error.reason, error.transient)
        if isinstance(error, SpecDecodeError):  # the spec is too large, or holds an object of this process
            return self._not_started_result(str(error), None, transient=False)
        result = await self._result_of_lost_worker(error) if error is not None else None
        return result or await self._result_from_pod()

    def cancel(self, grace: float) -> None:
        """End the attempt: at once before its worker has the spec, else by the worker, which kills after `grace` s."""
        if self._is_cancelled:
            return
        self._is_cancelled = True
        if self._task is None:
            # It was submitted a moment ago, and looks when it begins.
            return
        if self._client is None:
            self._task.cancel()
        else:
            self._stopping = asyncio.ensure_future(self._cancel_worker(self._client, grace))

    async def _cancel_worker(self, client: WorkerClient, grace: float) -> None:
        """Ask the worker to cancel; delete the pod of one that has not ended in time."""
        until = time.monotonic() + grace + STOP
        with contextlib.suppress(WorkerError, TimeoutError):
            async with asyncio.timeout(grace + STOP):
                await client.cancel(grace)
        await asyncio.sleep(until - time.monotonic())
        assert self._task is not None
        self._task.cancel()

    # ── from start to end ──

    async def _run_to_end(self) -> StepResult:
        await self._launch.start()
        return await self._run_on_worker()

    async def _run_on_worker(self) -> StepResult:
        result = None if self.view.is_over else await self._call_worker()
        if result is None or (result.ending is Ending.CANCELLED and not self._is_cancelled):
            return await self._result_from_pod()  # a third party has deleted its pod
        return result

    async def _call_worker(self) -> StepResult | None:
        """Return the result from the worker's stream, or None if the pod's status has to give it."""
        calling = asyncio.ensure_future(self._execute())
        over = asyncio.ensure_future(self.view.wait_until_over())
        try:
            await asyncio.wait((calling, over), return_when=asyncio.FIRST_COMPLETED)
            if not calling.done():
                await asyncio.wait((calling,), timeout=DRAIN)
            if not calling.done():
                await self._fence(calling)
            return calling.result() if calling.done() else None
        except (WorkerError, ApiError, ApiUnreachableError) as error:
            return await self._result_of_lost_worker(error)
        finally:
            await _cancel_all(calling, over)
            self._client = None

    async def _fence(self, calling: asyncio.Future[StepResult]) -> None:
        """Stop a worker that may outlive its pod: a forced deletion removes the object, not yet the process."""
        if self._client is None:
            return
        with contextlib.suppress(WorkerError, TimeoutError):
            async with asyncio.timeout(FENCE):
                await self._client.cancel(0.0)
                await asyncio.wait((calling,))

    async def _execute(self) -> StepResult:
        try:
            client = await self._launch.connect()
            self._boot = time.monotonic() - self._began
            self._client = client
            result = await self._call(client)
            await self._acknowledge(client, result)
            return result
        finally:
            await self._launch.disconnect()

    async def _call(self, client: WorkerClient, joins_after: int | None = None) -> StepResult:
        """Have the worker run the attempt, or join it there, and return its result."""
        settings = self._session.settings
        return await client.execute(
            self.spec,
            self._emit,
            pickle_key=settings.pickle_key,
            is_numbered=settings.durable,
            joins_after=joins_after,
        )

    async def _acknowledge(self, client: WorkerClient, result: StepResult) -> None:
        """Let the worker end; in a durable run the result is reported before, as nobody else has it afterwards."""
        if self._session.settings.durable and result.ending is not Ending.CANCELLED:
            self.is_reported = True
            self._session.emit(self._with_timings(result))
        with contextlib.suppress(WorkerError, TimeoutError):
            async with asyncio.timeout(1.0):
                await client.ack()

    async def _result_of_lost_worker(self, error: Exception) -> StepResult | None:
        """Return the result of a worker that cannot be reached; None if the pod's status explains it."""
        if not self.view.is_over:
            await self.view.wait_for_change(SETTLE)
        if self.view.is_over:
            return None
        tail = ""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE):  # the API server may hang
                tail = await self._session.cluster.read_log_tail(self.name)
        detail = describe_exception(error) + (f"; last lines of its log:\n{tail}" if tail else "")
        return lost(self.spec.attempt_id, self._evidence(detail=detail), started=self._has_started)

    async def _result_from_pod(self) -> StepResult:
        """Return the result by the pod's status and the worker's termination message."""
        if self.view.container.terminated is None and not self.view.gone:
            await self.view.wait_for_change(SETTLE)
        return classify_pod_end(
            self.spec.attempt_id,
            self.view.pod,
            gone=self.view.gone,
            cancelled=self._is_cancelled,
            started=self._has_started,
            served=self._has_served,
        )

    async def _release(self, result: StepResult | None) -> None:
        """Request the deletion of the pod."""
        await self._session.release_pod(self.name, self.view, result)

    # ── events and results ──

    def _emit(self, event: StepEvent) -> None:
        if type(event) is StepStarted:
            self._has_started = True
        self._session.emit(event)

    def _report(self, why: str) -> None:
        text = f"waits for its pod {self.name}: {why}"
        self._session.emit(warning_record(text, self.spec.attempt_id, logger="rivers.kubernetes"))

    def _not_started_result(self, why: str, reason: str | None, transient: bool) -> StepResult:
        """Return the failure of an attempt whose body has not started."""
        message = f"pod {self.name} in namespace {self._session.cluster.namespace!r}: {why}"
        failure = Failure(
            reason=FailureReason.INFRASTRUCTURE,
            type="",
            message=message,
            evidence=self._evidence(container_reason=reason, detail=why),
            transient=transient,
        )
        return StepResult(attempt_id=self.spec.attempt_id, ending=Ending.FAILED, failure=failure, worker=self.name)

    def _evidence(
        self, *, container_reason: str | None = None, detail: str | None = None, cancelled: bool = False
    ) -> Evidence:
        node = self.view.pod.spec.node_name if self.view.pod is not None else ""
        return Evidence(
            container_reason=container_reason, node=node or None, worker=self.name, detail=detail, cancelled=cancelled
        )

    def _with_timings(self, result: StepResult) -> StepResult:
        began, view = self._began, self.view
        boot = time.monotonic() - began if self._boot is None else self._boot
        # Until both are known, the pod waited for its node or its image when it was given up.
        scheduled = boot if view.scheduled_at is None else min(boot, max(0.0, view.scheduled_at - began))
        running = boot if view.running_at is None else min(boot, max(scheduled, view.running_at - began))
        timings = Timings(
            queued=result.timings.queued,
            boot=boot,
            schedule=scheduled,
            pull=running - scheduled,
            load=result.timings.load,
            run=result.timings.run,
            store=result.timings.store,
        )
        return replace(result, timings=timings, worker=result.worker or self.name)


async def _cancel_all(*tasks: asyncio.Task[StepResult] | asyncio.Task[None]) -> None:
    """Cancel tasks, and wait for their `finally` blocks."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=DRAIN)
