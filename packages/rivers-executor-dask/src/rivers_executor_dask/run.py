"""A run on a cluster: the attempts that have no result yet, and the messages of their tasks.

All of it happens on one event loop, so that nothing here needs a lock.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from collections.abc import Coroutine
from typing import Any

import msgspec

from rivers.exceptions import SpecDecodeError
from rivers.protocol import Ending, Evidence, StepResult, StepSpec, StepStarted, decode_event, describe_exception
from rivers.spi import Run, Sink
from rivers_executor_dask import host
from rivers_executor_dask.attempt import DaskAttempt, failed_task, requested_resources
from rivers_executor_dask.cluster import Connection, can_take, describe_workers
from rivers_executor_dask.executor import DaskExecutor

__all__ = ["DaskRun"]


class DaskRun:
    """The attempts of one run; `offered` are the resources that the cluster's workers had at its beginning."""

    def __init__(
        self, executor: DaskExecutor, connection: Connection, offered: frozenset[str], run: Run, emit: Sink
    ) -> None:
        self._executor = executor
        self._client = connection.client
        self._offered = offered
        self._run = run
        self._emit = emit
        self._attempts: dict[str, DaskAttempt] = {}
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_idle = asyncio.Event()
        # The topic of our client: the scheduler drops what it keeps of it some time after the client has gone.
        self._topic = str(connection.client.id)
        self._client.subscribe_topic(self._topic, self._receive)
        # The scheduler reports the loss of a worker there, in one order with the messages of its tasks.
        self._client.subscribe_topic("all", self._observe_cluster)

    def submit(self, spec: StepSpec, data: bytes) -> None:
        """Hand an attempt to the scheduler; the task carries its id alone."""
        resources = requested_resources(spec, self._executor, self._offered)
        attempt = self._attempts[spec.attempt_id] = DaskAttempt(spec.attempt_id, data, resources)
        try:
            attempt.future = self._client.submit(
                host.run_attempt,
                self._topic,
                spec.attempt_id,
                # Dask groups tasks by the first part: the step, and not each of its mapped instances.
                key=(f"rivers:{spec.step.partition('[')[0]}", spec.attempt_id),
                pure=False,
                retries=0,
                resources=resources or None,
                priority=self._executor.for_step(spec.metadata).priority,
            )
        # The client has lost its scheduler; whatever it raises, the attempt has an end.
        except Exception as error:  # noqa: BLE001
            self._finish(attempt, attempt.end(Evidence(detail=describe_exception(error))))
            return
        self._start(self._watch(attempt), attempt)
        self._start(self._await_workers(attempt), attempt)

    def cancel(self, attempt_id: str, grace: float) -> None:
        """Stop an attempt; one that no task has claimed is over at once, and no task can claim it any more."""
        attempt = self._attempts.get(attempt_id)
        if attempt is None:
            return
        attempt.cancelled = True
        if attempt.start is None:
            self._finish(attempt, StepResult(attempt_id=attempt_id, ending=Ending.CANCELLED))
        else:
            self._start(self._stop(attempt, grace), attempt)

    async def close(self, deadline: float) -> None:
        """Cancel what still runs, wait for its results, and make up those that do not come in time."""
        for attempt_id in list(self._attempts):
            self.cancel(attempt_id, 0)
        if self._attempts:
            self._is_idle.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._is_idle.wait(), deadline)
        for attempt in list(self._attempts.values()):
            self._finish(attempt, attempt.end(Evidence(detail="its Dask worker did not report its end in time")))
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        # The scheduler would go on writing to a client that has gone.
        for topic in (self._topic, "all"):
            self._client.unsubscribe_topic(topic)

    def _receive(self, event: tuple[float, Any]) -> None:
        """Take a message of a task. The topic has messages of the scheduler, too."""
        message = event[1]
        if not isinstance(message, list | tuple) or len(message) != 5:
            return
        kind, attempt_id, start, worker, payloads = message
        attempt = self._attempts.get(attempt_id)
        if kind == host.CLAIM:
            self._take_claim(attempt, start, worker)
        elif attempt is not None and attempt.start == start and kind == host.EVENTS:
            self._take_events(attempt, payloads)
        elif attempt is not None and attempt.start == start and kind == host.END:
            self._finish(attempt, attempt.end(_evidence(payloads)))

    def _take_claim(self, attempt: DaskAttempt | None, start: str, worker: str) -> None:
        """Give the attempt to the first start that asks for it, and refuse all others.

        Dask starts a task again when its worker is lost, up to `allowed-failures` times, and when the task's result is.
        """
        if attempt is not None and attempt.start is None:
            attempt.start, attempt.worker = start, worker
            attempt.answering = self._start(self._answer(attempt), attempt)
            return
        self._start(self._call(worker, host.answer, start, b"", 0.0, b""))
        if attempt is not None:
            detail = "Dask has lost the worker and started the task again, which was refused"
            self._finish(attempt, attempt.end(Evidence(detail=detail)))

    def _take_events(self, attempt: DaskAttempt, payloads: list[bytes]) -> None:
        try:
            for payload in payloads:
                event = decode_event(payload)
                if event.attempt_id != attempt.attempt_id:
                    raise SpecDecodeError(f"an event for attempt {event.attempt_id!r}")
                if isinstance(event, StepResult):
                    # Reported when the process has gone.
                    attempt.result = event
                else:
                    attempt.is_started = attempt.is_started or isinstance(event, StepStarted)
                    self._emit(event)
        except (SpecDecodeError, TypeError) as error:
            attempt.detail = f"it wrote what is no event: {error}"
            self._start(self._stop(attempt, 0), attempt)

    def _observe_cluster(self, event: tuple[float, Any]) -> None:
        """End the attempts of a worker that the scheduler has removed."""
        message = event[1]
        if isinstance(message, dict) and message.get("action") == "remove-worker":
            worker = message.get("worker")
            evidence = Evidence(detail=f"the Dask worker {worker} has left the cluster")
            for attempt in [one for one in self._attempts.values() if one.worker == worker]:
                self._finish(attempt, attempt.end(evidence))

    def _finish(self, attempt: DaskAttempt, result: StepResult) -> None:
        """Report a result, once, and let go of the task: Dask forgets it, or drops it and its body is killed."""
        if self._attempts.pop(attempt.attempt_id, None) is None:
            return
        for task in attempt.tasks - {asyncio.current_task()}:
            task.cancel()
        if attempt.future is not None:
            attempt.future.release()
        self._emit(result)
        if not self._attempts:
            self._is_idle.set()

    def _start(self, work: Coroutine[Any, Any, Any], attempt: DaskAttempt | None = None) -> asyncio.Task[Any]:
        task = asyncio.ensure_future(work)
        for tasks in [self._tasks] if attempt is None else [self._tasks, attempt.tasks]:
            tasks.add(task)
            task.add_done_callback(tasks.discard)
        return task

    async def _watch(self, attempt: DaskAttempt) -> None:
        """End an attempt whose task has ended without a message of its end."""
        error: object = None
        # A future of a lost scheduler raises the one or the other, by the release of distributed.
        with contextlib.suppress(concurrent.futures.CancelledError, asyncio.CancelledError):
            error = await attempt.future.exception()
        if attempt.attempt_id not in self._attempts:
            return
        if attempt.future.status == "error":
            self._finish(attempt, failed_task(attempt, error))
        else:
            detail = f"the connection to the Dask scheduler broke ({attempt.future.status})"
            if attempt.future.status == "finished":
                detail = "the Dask task has ended without a result"
            self._finish(attempt, attempt.end(Evidence(detail=detail)))

    async def _await_workers(self, attempt: DaskAttempt) -> None:
        """End an attempt that no worker of the cluster can take for as long as `startup_timeout`."""
        while attempt.start is None:
            await asyncio.sleep(self._executor.startup_timeout)
            workers = await describe_workers(self._client, self._executor.connect_timeout)
            if attempt.start is None and not any(can_take(attempt.resources, one) for one in workers.values()):
                wanted = " ".join(f"{name}={amount:g}" for name, amount in attempt.resources.items())
                detail = (
                    f"no worker of the cluster offered {wanted or 'itself'} for {self._executor.startup_timeout:g} s"
                )
                failed = attempt.end(Evidence(detail=detail))
                self._finish(attempt, msgspec.structs.replace(failed, ending=Ending.FAILED))

    async def _answer(self, attempt: DaskAttempt) -> None:
        """Give the spec to the start that has claimed the attempt."""
        if not await self._call(
            attempt.worker, host.answer, attempt.start, attempt.spec, self._run.grace, self._run.key
        ):
            self._finish(attempt, attempt.end(Evidence(detail="its Dask worker could not be reached")))

    async def _stop(self, attempt: DaskAttempt, grace: float) -> None:
        """Stop the body of an attempt, once its worker has the answer to the claim: a stop must not overtake it."""
        if attempt.answering is not None:
            await asyncio.wait([attempt.answering])
        await self._call(attempt.worker, host.stop, attempt.start, grace)

    async def _call(self, worker: str | None, function: Any, *arguments: Any) -> bool:
        """Call a function on a worker; return False if it could not be reached."""
        with contextlib.suppress(Exception):
            return worker in await self._client.run(function, *arguments, workers=[worker])
        return False


def _evidence(payloads: list[bytes]) -> Evidence:
    try:
        return msgspec.json.decode(payloads[0], type=Evidence)
    except (msgspec.DecodeError, IndexError, TypeError) as error:
        return Evidence(detail=f"its Dask worker reported no evidence: {error}")
