"""Launch a worker: from the create request of its pod to a client that is connected.

    created ──▶ runs ──▶ announced ──▶ reached ──▶ connected
       │          │          │            │
    refused   fatal cause   401, 403: the Role lacks pods/log or pods/portforward

`startup_timeout` covers all of it, from the create request on. Each wait is reported.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from rivers.protocol import StepResult, StepSpec
from rivers_executor_k8s.api.client import ApiError, ApiUnreachableError
from rivers_executor_k8s.api.namespace import NameTakenError
from rivers_executor_k8s.pod.names import WORKER_ATTEMPT, pod_name
from rivers_executor_k8s.pod.objects import Pod
from rivers_executor_k8s.pod.pending import PendingCause
from rivers_executor_k8s.pod.state import PodView
from rivers_executor_k8s.run.session import Session
from rivers_executor_k8s.run.startup import StartError, Startup
from rivers_executor_k8s.run.waiting import wait_for
from rivers_worker.client import Announcement, Deadlines, Hello, WorkerClient, announcement_in

__all__ = ["MAX_NAMES", "WorkerLaunch"]

T = TypeVar("T")

MAX_NAMES = 3
"""Names that a launch tries for its pod, as others may have taken some."""
ASK_LOG_EVERY = 0.5
BOOT = 10.0
"""Seconds for which a silent worker is not reported, as it loads Python and gRPC; at most half of the time left."""
SLACK = 0.5
"""Seconds beyond the deadline in which the create request may still report why it was not granted."""


class WorkerLaunch:
    """The pod of one attempt, and the connection to its worker.

    `report` takes the text of each wait. With `patient` false, a pod that waits for something that may pass is given up
    at once. `began` is the time of its create request on the monotonic clock: the queue for a place is not counted.
    `hello` is the answer of its worker. Two launches for one attempt differ by `MAX_NAMES` in `first_name`. `pod` is
    one that exists already: none is created then.
    """

    def __init__(
        self,
        spec: StepSpec,
        session: Session,
        report: Callable[[str], None],
        *,
        patient: bool = True,
        first_name: int = 0,
        pod: Pod | None = None,
    ) -> None:
        self.name = pod_name(spec.step, spec.attempt_id, first_name) if pod is None else pod.metadata.name
        self.view = PodView()
        if pod is not None:
            # Several attempts may look for theirs in one warm pod.
            self.view = session.views.setdefault(self.name, self.view)
            self.view.update(pod)
        self._pod = pod
        self._first_name = first_name
        self.began = time.monotonic()
        self.hello: Hello | None = None
        self._spec = spec
        self._session = session
        self._report = report
        self._patient = patient
        self._seconds = session.executor.startup_timeout
        self._deadline = self.began + self._seconds
        self._reported = ""
        self._quiet_until = 0.0
        self._is_started = False
        self._client: WorkerClient | None = None
        self._connection = contextlib.AsyncExitStack()
        self._state = "ApiUnreachable: its create request has not been answered"

    async def start(self) -> None:
        """Create the pod, and return once its worker's container runs or has ended; a second call returns at once.

        Raises:
            PodRefusedError: the pod was not created.
            StartError: the worker cannot start, or has not within `startup_timeout`.
        """
        if self._is_started:
            return
        async with self._session.pending:
            self.began = time.monotonic()
            self._deadline = self.began + self._seconds
            if self._pod is None:
                await self._wait_for(self._create(), slack=SLACK)
            startup = Startup(self._session.cluster, self.view, self._report_cause)
            await startup.wait_until_running(self._deadline, self._seconds)
        self._is_started = True

    async def connect(self) -> WorkerClient:
        """Return a client that is connected to the pod's worker, until `disconnect`; a second call returns the same.

        Raises:
            StartError: the worker did not announce itself within `startup_timeout`, or a right is missing to find out.
            WorkerError: its announcement cannot be read, or it does not answer as announced.
        """
        if self._client is not None:
            return self._client
        pod = self.view.pod
        assert pod is not None
        kept = self._session.announcements
        announcement = kept.find(self.name)
        if announcement is None:
            announcement = await self._wait_for(self._read_announcement())
            kept.keep(self.name, announcement)
        line = self._session.dialer.line(pod, announcement.port)
        target = await self._wait_for(self._reach(self._connection.enter_async_context(line)))
        # The certificate of a warm worker has the name of its first attempt.
        attempt_id = pod.metadata.annotations.get(WORKER_ATTEMPT, self._spec.attempt_id)
        client = self._session.client(target, announcement, attempt_id)
        self._connection.push_async_callback(client.close)
        self._state = f"NoAnswer: its worker has announced itself and does not answer at {target}"
        self.hello = await self._wait_for(client.connect(min(Deadlines().connect, self._time_left())), slack=SLACK)
        self._client = client
        return client

    async def disconnect(self) -> None:
        """Close the connection to the worker, where there is one."""
        self._client = None
        await self._connection.aclose()

    async def release(self, result: StepResult | None = None) -> None:
        """Close the connection and delete the pod, unless the failure in `result` is a reason to keep it."""
        try:
            await self.disconnect()
        finally:
            await self._session.release_pod(self.name, self.view, result)

    def hand_over(self, report: Callable[[str], None]) -> None:
        """Begin again for the attempt that the pod was launched for ahead of time: `report` is the attempt's."""
        self.began = time.monotonic()
        self._deadline = self.began + self._seconds
        self._report = report
        self._patient = True

    async def _create(self) -> None:
        """Create one pod, however many requests and answers are lost: its name is derived from the attempt."""
        for nonce in range(self._first_name, self._first_name + MAX_NAMES):
            self.name = pod_name(self._spec.step, self._spec.attempt_id, nonce)
            self._session.views[self.name] = self.view
            try:
                await self._session.create(self._spec, nonce, self._report_create, self._deadline)
            except NameTakenError:
                del self._session.views[self.name]
                continue
            return
        raise StartError(f"{MAX_NAMES} names of pods are taken by others; the last one was {self.name!r}")

    def _report_create(self, text: str) -> None:
        self._state = text
        self._report_once(text)

    def _report_cause(self, cause: PendingCause) -> None:
        self._report(f"{cause.reason}: {cause.message}")
        if not (cause.fatal or self._patient):
            raise StartError(f"{cause.reason}: {cause.message}", reason=cause.reason)

    async def _read_announcement(self) -> Announcement:
        """Return the announcement in the worker's log; a log that cannot be read is requested again."""
        self._state = "NotAnnounced: its worker runs and has not announced itself in its log"
        while True:
            try:
                output = await self._session.cluster.read_announcement(self.name)
            except (ApiError, ApiUnreachableError) as error:
                self._raise_if_forbidden(error, "pods/log: get", "the log of its worker")
                self._state = f"LogUnavailable: the log of its worker cannot be read: {error}"
                self._quiet_until = 0.0
            else:
                announcement = announcement_in(output)
                if announcement is not None:
                    return announcement
                self._state = f"NotAnnounced: its worker did not announce itself; it wrote {output[-2000:]!r}"
            await asyncio.sleep(ASK_LOG_EVERY)

    async def _reach(self, entering: Coroutine[Any, Any, str]) -> str:
        self._state = "NoRoute: no route to its worker was found yet"
        try:
            return await entering
        except (ApiError, ApiUnreachableError) as error:
            self._raise_if_forbidden(error, "pods/portforward: get, create", "its port")
            raise

    def _raise_if_forbidden(self, error: ApiError | ApiUnreachableError, verbs: str, what: str) -> None:
        # A 401 comes from a token that was renewed just now, so asking again would not help either.
        if isinstance(error, ApiError) and error.status in (401, 403):
            word = error.reason or ("Unauthorized" if error.status == 401 else "Forbidden")
            text = f"{what} may not be read: {error}; the controller's Role needs {verbs}"
            raise StartError(text, reason=word, transient=False) from error

    async def _wait_for(self, stage: Coroutine[Any, Any, T], *, slack: float = 0.0) -> T:
        """Await a stage until the deadline, and report a long wait."""
        self._quiet_until = time.monotonic() + min(BOOT, self._time_left() / 2)
        try:
            return await wait_for(stage, self._describe, self._report_once, self._deadline + slack)
        except TimeoutError:
            text = f"its worker could not be called within startup_timeout={self._seconds:g} s; last seen: "
            raise StartError(text + self._state, reason=self._state.partition(":")[0]) from None

    def _describe(self) -> str:
        return self._state if time.monotonic() >= self._quiet_until else ""

    def _report_once(self, text: str) -> None:
        if text != self._reported:
            self._reported = text
            self._report(text)

    def _time_left(self) -> float:
        return self._deadline - time.monotonic()
