"""One attempt in a pod of its own, from the create request to its end.

    created ──▶ pending ──▶ running ──▶ announced ──▶ called ──▶ ended ──▶ deleted
       │           │                                     │
    refused    fatal cause,                      stream broken: it is joined again,
               startup_timeout                   or the pod says how it ended

The result comes from the worker's stream, a second before the kubelet would tell. Where that is lost, the pod's status
and the worker's termination message tell what became of it.
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

__all__ = ["Attempt"]

DRAIN = 0.5
"""Seconds that the last events on a stream get after the pod is known to have ended."""
SETTLE = 5.0
"""Seconds that the kubelet gets to say how a container ended whose stream has broken for good."""
FENCE = 2.0
"""Seconds in which a worker whose pod is gone may still be told to stop; where it is not there, nobody answers."""
STOP = 2.0
"""Seconds beyond the grace after which an attempt is ended by deleting its pod."""


class Attempt:
    """Carries one spec through a pod; `run` is its one coroutine, `cancel` ends it from outside."""

    def __init__(self, spec: StepSpec, session: Session) -> None:
        self.spec = spec
        self._session = session
        self._launch = WorkerLaunch(spec, session, self._report_wait)
        self._boot: float | None = None
        self._body_began = False
        self._unwanted = False
        self._client: WorkerClient | None = None
        self._task: asyncio.Task[StepResult] | None = None
        self._stopping: asyncio.Task[None] | None = None

    @property
    def name(self) -> str:
        """The name of its pod."""
        return self._launch.name

    @property
    def view(self) -> PodView:
        """What is known of its pod."""
        return self._launch.view

    # ── from outside ──

    async def run(self) -> StepResult:
        """Carry the attempt to its end; of its pod nothing is left but a deletion that was asked for."""
        self._task = asyncio.current_task()
        result: StepResult | None = None
        try:
            result = await self._carried()
        except asyncio.CancelledError:
            if not self._unwanted:
                raise
            result = lost(self.spec.attempt_id, self._evidence(cancelled=True), started=self._body_began)
        except PodRefusedError as error:
            result = self._not_run(str(error), error.reason, error.transient)
        except StartError as error:
            result = self._not_run(str(error), error.reason, error.transient)
        except SpecDecodeError as error:  # it is too large to be sent, or holds what cannot leave this process
            result = self._not_run(str(error), None, transient=False)
        finally:
            if self._stopping is not None:
                self._stopping.cancel()
            await self._session.leave(self.name, self.view, result)
        return self._timed(result)

    def cancel(self, grace: float) -> None:
        """End it: at once before it was handed over, else by its worker, which kills after `grace` seconds."""
        if self._unwanted or self._task is None:
            return
        self._unwanted = True
        if self._client is None:
            self._task.cancel()
        else:
            self._stopping = asyncio.ensure_future(self._stop(self._client, grace))

    async def _stop(self, client: WorkerClient, grace: float) -> None:
        """Ask the worker; what has not ended in time goes with its pod."""
        until = time.monotonic() + grace + STOP
        with contextlib.suppress(WorkerError, TimeoutError):
            async with asyncio.timeout(grace + STOP):
                await client.cancel(grace)
        await asyncio.sleep(until - time.monotonic())
        assert self._task is not None
        self._task.cancel()

    # ── the way of an attempt ──

    async def _carried(self) -> StepResult:
        await self._launch.start()
        result = None if self.view.is_over else await self._called()
        if result is None or (result.ending is Ending.CANCELLED and not self._unwanted):
            return await self._told_by_the_pod()  # it was stopped by somebody else, who has taken its pod away
        return result

    async def _called(self) -> StepResult | None:
        """The result that the worker tells, or None where the pod has to."""
        calling = asyncio.ensure_future(self._call())
        over = asyncio.ensure_future(self.view.wait_until_over())
        try:
            await asyncio.wait((calling, over), return_when=asyncio.FIRST_COMPLETED)
            if not calling.done():
                await asyncio.wait((calling,), timeout=DRAIN)
            if not calling.done():
                await self._fence(calling)
            return calling.result() if calling.done() else None
        except (WorkerError, ApiError, ApiUnreachableError) as error:
            return await self._unreachable(error)
        finally:
            await _gone(calling, over)
            self._client = None

    async def _fence(self, calling: asyncio.Future[StepResult]) -> None:
        """The pod is no more, by what the API says; a worker that still hears us (a forced deletion) ends its body."""
        if self._client is None:
            return
        with contextlib.suppress(WorkerError, TimeoutError):
            async with asyncio.timeout(FENCE):
                await self._client.cancel(0.0)
                await asyncio.wait((calling,))

    async def _call(self) -> StepResult:
        async with self._launch.connect() as client:
            self._boot = time.monotonic() - self._launch.began
            self._client = client
            result = await client.execute(self.spec, self._emit, pickle_key=self._session.setting.pickle_key)
            with contextlib.suppress(WorkerError, TimeoutError):
                async with asyncio.timeout(1.0):
                    await client.ack()
            return result

    async def _unreachable(self, error: Exception) -> StepResult | None:
        """Nobody answers, or the wrong one: the pod may know why, else that is all there is to tell."""
        if not self.view.is_over:
            await self.view.wait_for_change(SETTLE)
        if self.view.is_over:
            return None
        tail = ""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(SETTLE):  # the API server may hang
                tail = await self._session.cluster.read_log_tail(self.name)
        detail = describe_exception(error) + (f"; last lines of its log:\n{tail}" if tail else "")
        return lost(self.spec.attempt_id, self._evidence(detail=detail), started=self._body_began)

    async def _told_by_the_pod(self) -> StepResult:
        """How it ended by the pod's status: also the worker's own word, if it left one."""
        if self.view.container.terminated is None and not self.view.gone:
            await self.view.wait_for_change(SETTLE)
        return classify_pod_end(
            self.spec.attempt_id, self.view.pod, gone=self.view.gone, cancelled=self._unwanted, started=self._body_began
        )

    # ── what is told ──

    def _emit(self, event: StepEvent) -> None:
        if type(event) is StepStarted:
            self._body_began = True
        self._session.emit(event)

    def _report_wait(self, why: str) -> None:
        text = f"waits for its pod {self.name}: {why}"
        self._session.emit(warning_record(text, self.spec.attempt_id, logger="rivers.kubernetes"))

    def _not_run(self, why: str, reason: str | None, transient: bool) -> StepResult:
        """It did not get to run: dispatched again free of charge where a pod was merely lost, else it has failed."""
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

    def _timed(self, result: StepResult) -> StepResult:
        boot = time.monotonic() - self._launch.began if self._boot is None else self._boot
        timings = Timings(
            queued=result.timings.queued,
            boot=boot,
            load=result.timings.load,
            run=result.timings.run,
            store=result.timings.store,
        )
        return replace(result, timings=timings, worker=result.worker or self.name)


async def _gone(*tasks: asyncio.Task[StepResult] | asyncio.Task[None]) -> None:
    """End tasks, and wait for their `finally`."""
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks, timeout=DRAIN)
