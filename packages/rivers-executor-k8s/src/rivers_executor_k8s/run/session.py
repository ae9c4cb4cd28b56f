"""Share the watch, the routes to workers and the clean-up of pods between the attempts of one run."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rivers.protocol import Ending, StepEvent, StepResult, StepSpec, describe_exception
from rivers.spi import Executor
from rivers_executor_k8s.api.namespace import Cluster, NameTakenError, PodRefusedError
from rivers_executor_k8s.api.watch import PodWatch
from rivers_executor_k8s.pod.manifest import Owner, build_manifest, find_changes
from rivers_executor_k8s.pod.names import run_selector
from rivers_executor_k8s.pod.objects import Pod
from rivers_executor_k8s.pod.reuse import is_warm
from rivers_executor_k8s.pod.state import PodView
from rivers_executor_k8s.run.announcements import KeptAnnouncements
from rivers_executor_k8s.run.dial import Dialer, Route
from rivers_worker.client import Announcement, Deadlines, Identity, WorkerClient

__all__ = ["MAX_PENDING", "ClusterRunSettings", "Session"]

MAX_PENDING = 100
"""Pods that may wait to start at once: more would only make the scheduler's queue longer."""
API_OUTAGE = 600.0
"""Seconds of an outage of the API server after which what depends on it is given up."""
LOOK_AGAIN = 0.5
"""Seconds between two lists of the pods that are left, if the watch does not report their deletion."""


@dataclass(frozen=True, kw_only=True)
class ClusterRunSettings:
    """The settings that hold for a whole run; `pickle_key` is empty if pickles are not allowed.

    The workers of one that is `durable` outlive their controller.
    """

    executor: Executor.Kubernetes
    run_id: str
    image: str
    template: Mapping[str, Any] | None = None
    owner: Owner | None = None
    route: Route | None = None
    epoch: int = 0
    pickle_key: bytes = b""
    durable: bool = False


class Session:
    """One run's shared state in the cluster, used in the event loop only; `emit` takes events and must be quick.

    `views` holds the known state of each pod by name, `pending` the places for pods that start. `identity` is that of
    the run's controllers, by default a new one, and `folder` the private one of a durable run.
    """

    def __init__(
        self,
        cluster: Cluster,
        settings: ClusterRunSettings,
        emit: Callable[[StepEvent], None],
        identity: Identity | None = None,
        folder: Path | None = None,
    ) -> None:
        self.cluster = cluster
        self.settings = settings
        self.executor = settings.executor
        self.emit = emit
        self.pending = asyncio.Semaphore(MAX_PENDING)
        self.dialer = Dialer(cluster, settings.route)
        self.views: dict[str, PodView] = {}
        self._identity = identity or Identity.of_controller(settings.run_id)
        self.announcements = KeptAnnouncements(folder)
        self._selector = run_selector(settings.run_id)
        self._watch = PodWatch(cluster, self._selector, self._changed, self._deleted)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._kept: set[str] = set()
        self._created: set[str] = set()
        self._holds_lease = False
        self._deleted_one = asyncio.Event()

    async def start(self) -> None:
        """Start to watch the run's pods."""
        await self._watch.start()

    def hold_lease(self, settings: ClusterRunSettings, emit: Callable[[StepEvent], None]) -> None:
        """Take the settings of a run whose lease is held: from now on all pods with its label belong to it.

        Until then, in preflight, another controller may carry out the run.
        """
        self.settings, self.emit, self._holds_lease = settings, emit, True

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Start a task that `close()` awaits."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def client(self, target: str, announcement: Announcement, attempt_id: str) -> WorkerClient:
        """Return a client for the worker that has announced itself."""
        settings = self.settings
        # A forwarded port breaks with the API server, but the worker goes on: the stream is resumed afterwards.
        lost = API_OUTAGE if self.dialer.route == "port-forward" else Deadlines().lost
        return WorkerClient(
            target,
            announcement,
            self._identity,
            run_id=settings.run_id,
            attempt_id=attempt_id,
            epoch=settings.epoch,
            deadlines=Deadlines(lost=lost),
        )

    def build_manifest(self, spec: StepSpec, nonce: int = 0) -> dict[str, Any]:
        """Return the manifest of an attempt's pod."""
        settings = self.settings
        return build_manifest(
            spec,
            settings.executor,
            image=settings.image,
            namespace=self.cluster.namespace,
            certificate=self._identity.text,
            owner=settings.owner,
            template=settings.template,
            epoch=settings.epoch,
            nonce=nonce,
            is_warm=is_warm(spec, settings.executor),
        )

    async def list_pods(self) -> list[Pod]:
        """Return all pods of the run.

        Raises:
            ApiError, ApiUnreachableError: the API server refuses, or does not answer.
        """
        pods, _ = await self.cluster.list_pods(self._selector)
        return list(pods)

    async def create(self, spec: StepSpec, nonce: int, report: Callable[[str], None], deadline: float) -> Pod:
        """Create the pod of an attempt, until `deadline` on the monotonic clock; one that is cancelled is deleted."""
        cancelled = asyncio.Event()
        create = self.cluster.create_pod
        wanted = self.build_manifest(spec, nonce)
        making = self.spawn(create(wanted, deadline=deadline, on_wait=report, unwanted=cancelled))
        self._created.add(wanted["metadata"]["name"])
        try:
            pod: Pod = await asyncio.shield(making)
        except asyncio.CancelledError:
            cancelled.set()
            making.add_done_callback(self._delete_when_created)
            raise
        self._watch.observe(pod)
        # An admission webhook may have changed it: a mirror's image is fine, another program will not announce itself.
        for change in find_changes(pod, wanted):
            report(f"the cluster has changed it on its way in: {change}")
        return pod

    def _delete_when_created(self, making: asyncio.Task[Pod]) -> None:
        if not making.cancelled() and making.exception() is None:
            made = making.result().metadata
            self.spawn(self.cluster.delete_pod(made.name, made.uid, grace=1))

    async def release_pod(self, name: str, view: PodView, result: StepResult | None, *, hurry: bool = False) -> None:
        """Delete the pod of an attempt that is over, unless it is to be kept.

        If the attempt has succeeded, side-cars get the pod's own grace period; otherwise, or with `hurry`, one second.
        With `max_concurrent_steps`, return once the deletion has been requested: the next pod takes its slot.
        """
        if view.gone or view.pod is None:
            self.views.pop(name, None)
            return
        if result is not None and result.ending is Ending.FAILED and self.executor.keep_failed_pods:
            self._kept.add(name)
            return
        self.announcements.drop(name)
        hurry = hurry or result is None or result.ending is not Ending.SUCCEEDED
        deleting = self.spawn(self.cluster.delete_pod(name, view.pod.metadata.uid, grace=1 if hurry else None))
        if self.executor.max_concurrent_steps is not None:
            await asyncio.wait((deleting,), timeout=10.0)

    # ── the watch ──

    def _changed(self, pod: Pod) -> None:
        view = self.views.get(pod.metadata.name)
        if view is not None:
            view.update(pod)

    def _deleted(self, pod: Pod) -> None:
        view = self.views.pop(pod.metadata.name, None)
        if view is not None:
            view.mark_gone(pod)
        self._deleted_one.set()

    # ── the end ──

    async def close(self, until: float) -> list[str]:
        """Delete all pods of the run but those that are to be kept, and return what could not be done.

        `until` is a moment of the monotonic clock.
        """
        problems = await self._finish_tasks(until)
        left = await self._delete_remaining(until)
        await self._watch.stop()
        if left:
            names = ", ".join(sorted(pod.metadata.name for pod in left)[:5])
            problems.append(
                f"{len(left)} pods of the run were still there when its time to close was over: {names}; their "
                f"deletion is requested: kubectl get pods -n {self.cluster.namespace} -l {self._selector}"
            )
        return problems

    async def _finish_tasks(self, until: float) -> list[str]:
        problems: list[str] = []
        while self._tasks and time.monotonic() < until:
            done, _ = await asyncio.wait(self._tasks, timeout=until - time.monotonic())
            problems += [describe_exception(e) for task in done if (e := _unexpected_error(task)) is not None]
        for task in self._tasks:
            task.cancel()
        return problems

    async def _delete_remaining(self, until: float) -> list[Pod]:
        """Delete every pod that carries the run's label, until two lists are empty: a create may be under way."""
        empty = 0
        left: list[Pod] = []
        while empty < 2:
            self._deleted_one.clear()
            pods, _ = await self.cluster.list_pods(self._selector)
            left = [pod for pod in pods if self._is_ours(pod.metadata.name) and pod.metadata.name not in self._kept]
            if not left:
                empty += 1
                continue
            empty = 0
            if time.monotonic() >= until:
                break
            for pod in left:
                if pod.metadata.deletion_timestamp is None:
                    await self.cluster.delete_pod(pod.metadata.name, pod.metadata.uid, grace=1)
            try:
                async with asyncio.timeout(LOOK_AGAIN):
                    await self._deleted_one.wait()
            except TimeoutError:
                continue
        return left

    def _is_ours(self, name: str) -> bool:
        return self._holds_lease or name in self._created


def _unexpected_error(task: asyncio.Task[Any]) -> BaseException | None:
    """Return a task's error, unless it is that no pod was created: that is its attempt's result already."""
    error = None if task.cancelled() else task.exception()
    return None if isinstance(error, PodRefusedError | NameTakenError) else error
