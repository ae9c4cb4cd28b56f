"""Launch a worker: from the create request of its pod to a client that is connected.

    created ──▶ runs ──▶ announced ──▶ reached ──▶ connected
       │          │          │            │
    refused   fatal cause   401, 403: the Role lacks pods/log or pods/portforward

`startup_timeout` covers all of it, from the create request on. What a launch waits for is reported.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, TypeVar

from rivers.protocol import StepSpec
from rivers_executor_k8s.api.client import ApiError, ApiUnreachableError
from rivers_executor_k8s.api.namespace import NameTakenError
from rivers_executor_k8s.pod.names import pod_name
from rivers_executor_k8s.pod.pending import PendingCause
from rivers_executor_k8s.pod.state import PodView
from rivers_executor_k8s.run.session import Session
from rivers_executor_k8s.run.startup import StartError, Startup
from rivers_executor_k8s.run.waiting import wait_for
from rivers_worker.client import Announcement, Deadlines, WorkerClient, announcement_in

__all__ = ["WorkerLaunch"]

T = TypeVar("T")

NAMES_TRIED = 3
ASK_LOG_EVERY = 0.5
BOOT = 10.0
"""Seconds for which a worker that says nothing is not reported: it loads Python and gRPC. With a short
`startup_timeout` it is half of what is left."""
SLACK = 0.5
"""Seconds beyond the deadline in which the create request may still say why it was not granted."""


class WorkerLaunch:
    """The pod of one attempt, and the way to its worker.

    `report` takes each cause that it waits for, in words. With `patient` false, a pod that waits for something that may
    pass is given up at once. `began` is when its create request was made, on the monotonic clock: waiting for one's
    turn is no part of starting.
    """

    def __init__(
        self, spec: StepSpec, session: Session, report: Callable[[str], None], *, patient: bool = True
    ) -> None:
        self.view = PodView()
        self.name = pod_name(spec.step, spec.attempt_id)
        self.began = time.monotonic()
        self._spec = spec
        self._session = session
        self._report = report
        self._patient = patient
        self._seconds = session.executor.startup_timeout
        self._deadline = self.began + self._seconds
        self._reported = ""
        self._quiet_until = 0.0
        self._awaited = "ApiUnreachable: its create request has not been answered"

    async def start(self) -> None:
        """Create the pod, and return once its worker's container runs or has ended.

        Raises:
            PodRefusedError: the pod was not created.
            StartError: the worker cannot start, or has not within `startup_timeout`.
        """
        async with self._session.pending:
            self.began = time.monotonic()
            self._deadline = self.began + self._seconds
            await self._wait_for(self._create(), slack=SLACK)
            startup = Startup(self._session.cluster, self.view, self._pends)
            await startup.until_it_runs(self._deadline, self._seconds)

    @contextlib.asynccontextmanager
    async def connect(self) -> AsyncIterator[WorkerClient]:
        """Connect to the worker of a pod that runs; the client is closed at the end of the `with`.

        Raises:
            StartError: it did not announce itself within `startup_timeout`, or the API server does not hand that over.
            WorkerError: its announcement cannot be read, or it does not answer as announced.
        """
        pod = self.view.pod
        assert pod is not None
        async with contextlib.AsyncExitStack() as stack:
            announcement = await self._wait_for(self._announcement())
            line = self._session.dialer.line(pod, announcement.port)
            target = await self._wait_for(self._reach(stack.enter_async_context(line)))
            client = self._session.client(target, announcement, self._spec.attempt_id)
            stack.push_async_callback(client.close)
            self._awaited = f"NoAnswer: its worker has announced itself and does not answer at {target}"
            await self._wait_for(client.connect(min(Deadlines().connect, self._left())), slack=SLACK)
            yield client

    async def _create(self) -> None:
        """Create one pod, whatever the network does to requests and answers: its name is the attempt's."""
        for nonce in range(NAMES_TRIED):
            self.name = pod_name(self._spec.step, self._spec.attempt_id, nonce)
            self._session.views[self.name] = self.view
            try:
                await self._session.create(self._spec, nonce, self._wait_to_create, self._deadline)
            except NameTakenError:
                del self._session.views[self.name]
                continue
            return
        raise StartError(f"{NAMES_TRIED} names of pods are taken by others; the last one was {self.name!r}")

    def _wait_to_create(self, text: str) -> None:
        self._awaited = text
        self._report_once(text)

    def _pends(self, cause: PendingCause) -> None:
        self._report(f"{cause.reason}: {cause.message}")
        if not (cause.fatal or self._patient):
            raise StartError(f"{cause.reason}: {cause.message}", reason=cause.reason)

    async def _announcement(self) -> Announcement:
        """Return what the worker says of itself in its log; the API server is asked until it hands that over."""
        self._awaited = "NotAnnounced: its worker runs and has not announced itself in its log"
        while True:
            try:
                output = await self._session.cluster.read_announcement(self.name)
            except (ApiError, ApiUnreachableError) as error:
                self._raise_if_forbidden(error, "pods/log: get", "the log of its worker")
                self._awaited = f"LogUnavailable: the log of its worker cannot be read: {error}"
                self._quiet_until = 0.0
            else:
                announcement = announcement_in(output)
                if announcement is not None:
                    return announcement
                self._awaited = f"NotAnnounced: its worker did not announce itself; it wrote {output[-2000:]!r}"
            await asyncio.sleep(ASK_LOG_EVERY)

    async def _reach(self, entering: Coroutine[Any, Any, str]) -> str:
        self._awaited = "NoWay: no way to its worker was found yet"
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
        """Await a stage until the deadline, and report what it waits for when that takes long."""
        self._quiet_until = time.monotonic() + min(BOOT, self._left() / 2)
        try:
            return await wait_for(stage, self._describe, self._report_once, self._deadline + slack)
        except TimeoutError:
            text = f"its worker could not be called within startup_timeout={self._seconds:g} s; last seen: "
            raise StartError(text + self._awaited, reason=self._awaited.partition(":")[0]) from None

    def _describe(self) -> str:
        return self._awaited if time.monotonic() >= self._quiet_until else ""

    def _report_once(self, text: str) -> None:
        if text != self._reported:
            self._reported = text
            self._report(text)

    def _left(self) -> float:
        return self._deadline - time.monotonic()
