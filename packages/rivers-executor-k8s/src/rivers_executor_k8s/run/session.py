"""What the attempts of one run share: the watch, the line to workers, the pods that were made and have to go."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any

from rivers.protocol import Ending, StepEvent, StepResult, StepSpec, describe_exception
from rivers.spi import Executor
from rivers_executor_k8s.api.namespace import Cluster, NameTakenError, PodRefusedError
from rivers_executor_k8s.api.watch import PodWatch
from rivers_executor_k8s.pod.manifest import Owner, build_manifest, find_changes
from rivers_executor_k8s.pod.names import run_selector
from rivers_executor_k8s.pod.objects import Pod
from rivers_executor_k8s.pod.state import PodView
from rivers_executor_k8s.run.dial import Dialer, Way
from rivers_worker.client import Announcement, Deadlines, Identity, WorkerClient

__all__ = ["MOST_PENDING", "Session", "Setting"]

MOST_PENDING = 100
"""Pods that may wait to start at once: more would only make the scheduler's queue longer."""
API_OUTAGE = 600.0
"""Seconds for which an API server may be away before what depends on it is given up."""
LOOK_AGAIN = 0.5
"""Seconds between two looks for pods that are left, where the watch does not tell that they are gone."""


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What does not change during a run. `pickle_key` is empty where pickles are not allowed."""

    executor: Executor.Kubernetes
    run_id: str
    image: str
    template: Mapping[str, Any] | None = None
    owner: Owner | None = None
    way: Way | None = None
    epoch: int = 0
    pickle_key: bytes = b""


class Session:
    """One run in the cluster; everything here happens in the loop. `emit` takes events, and is quick."""

    def __init__(self, cluster: Cluster, setting: Setting, emit: Callable[[StepEvent], None]) -> None:
        self.cluster = cluster
        self.setting = setting
        self.executor = setting.executor
        self.emit = emit
        self.pending = asyncio.Semaphore(MOST_PENDING)
        self.dialer = Dialer(cluster, setting.way)
        self.views: dict[str, PodView] = {}
        self._identity = Identity.of_controller(setting.run_id)
        self._selector = run_selector(setting.run_id)
        self._watch = PodWatch(cluster, self._selector, self._changed, self._deleted)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._kept: set[str] = set()
        self._less = asyncio.Event()

    async def start(self) -> None:
        """Begin to watch."""
        await self._watch.start()

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Have something done that `close` waits for."""
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def client(self, target: str, announcement: Announcement, attempt_id: str) -> WorkerClient:
        """A client for the worker that announced itself."""
        setting = self.setting
        # What goes through the API server breaks with it, and no worker is worse off: it is taken up afterwards.
        lost = API_OUTAGE if self.dialer.way == "port-forward" else Deadlines().lost
        return WorkerClient(
            target,
            announcement,
            self._identity,
            run_id=setting.run_id,
            attempt_id=attempt_id,
            epoch=setting.epoch,
            deadlines=Deadlines(lost=lost),
        )

    def build_manifest(self, spec: StepSpec, nonce: int = 0) -> dict[str, Any]:
        """The pod of an attempt."""
        setting = self.setting
        return build_manifest(
            spec,
            setting.executor,
            image=setting.image,
            namespace=self.cluster.namespace,
            certificate=self._identity.text,
            owner=setting.owner,
            template=setting.template,
            epoch=setting.epoch,
            nonce=nonce,
        )

    async def create(self, spec: StepSpec, nonce: int, report: Callable[[str], None], deadline: float) -> Pod:
        """Create the pod of an attempt, until `deadline` on the monotonic clock; one that is cancelled is deleted."""
        unwanted = asyncio.Event()
        create = self.cluster.create_pod
        wanted = self.build_manifest(spec, nonce)
        making = self.spawn(create(wanted, deadline=deadline, on_wait=report, unwanted=unwanted))
        try:
            pod: Pod = await asyncio.shield(making)
        except asyncio.CancelledError:
            unwanted.set()
            making.add_done_callback(self._unwanted)
            raise
        self._watch.observe(pod)
        for change in find_changes(
            pod, wanted
        ):  # by a webhook: a mirror's image is fine, another program will not announce
            report(f"the cluster has changed it on its way in: {change}")
        return pod

    def _unwanted(self, making: asyncio.Task[Pod]) -> None:
        if not making.cancelled() and making.exception() is None:
            made = making.result().metadata
            self.spawn(self.cluster.delete_pod(made.name, made.uid, grace=1))

    async def leave(self, name: str, view: PodView, result: StepResult | None, *, hurry: bool = False) -> None:
        """An attempt is over: let its pod go, unless it is to be kept.

        Side-cars of one that succeeded have the pod's own grace; with `hurry` nothing has. With a cap on pods, no next
        one is made before this one's deletion was asked for.
        """
        if view.gone or view.pod is None:
            self.views.pop(name, None)
            return
        if result is not None and result.ending is Ending.FAILED and self.executor.keep_failed_pods:
            self._kept.add(name)
            return
        hurry = hurry or result is None or result.ending is not Ending.SUCCEEDED
        deleting = self.spawn(self.cluster.delete_pod(name, view.pod.metadata.uid, grace=1 if hurry else None))
        if self.executor.max_concurrent_steps is not None:
            await asyncio.wait((deleting,), timeout=10.0)

    # ── what the watch tells ──

    def _changed(self, pod: Pod) -> None:
        view = self.views.get(pod.metadata.name)
        if view is not None:
            view.update(pod)

    def _deleted(self, pod: Pod) -> None:
        view = self.views.pop(pod.metadata.name, None)
        if view is not None:
            view.mark_gone(pod)
        self._less.set()

    # ── the end ──

    async def close(self, until: float) -> list[str]:
        """Leave no pod of the run behind but those that are to be kept; returns what could not be done.

        `until` is a moment of the monotonic clock.
        """
        problems = await self._settle(until)
        left = await self._left_after(until)
        await self._watch.stop()
        if left:
            names = ", ".join(sorted(pod.metadata.name for pod in left)[:5])
            problems.append(
                f"{len(left)} pods of the run were still there when its time to close was over: {names}; their "
                f"deletion was asked for: kubectl get pods -n {self.cluster.namespace} -l {self._selector}"
            )
        return problems

    async def _settle(self, until: float) -> list[str]:
        problems: list[str] = []
        while self._tasks and time.monotonic() < until:
            done, _ = await asyncio.wait(self._tasks, timeout=until - time.monotonic())
            problems += [describe_exception(e) for task in done if (e := _error(task)) is not None]
        for task in self._tasks:
            task.cancel()
        return problems

    async def _left_after(self, until: float) -> list[Pod]:
        """Delete what carries the run's label until two looks find nothing, as a create may still be under way."""
        empty = 0
        left: list[Pod] = []
        while empty < 2:
            self._less.clear()
            pods, _ = await self.cluster.list_pods(self._selector)
            left = [pod for pod in pods if pod.metadata.name not in self._kept]
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
                    await self._less.wait()
            except TimeoutError:
                continue
        return left


def _error(task: asyncio.Task[Any]) -> BaseException | None:
    """What nobody else has heard of: that no pod was made is the result of its attempt."""
    error = None if task.cancelled() else task.exception()
    return None if isinstance(error, PodRefusedError | NameTakenError) else error
