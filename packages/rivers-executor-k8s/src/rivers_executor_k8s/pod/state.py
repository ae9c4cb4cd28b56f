"""Hold the latest state of one pod: the watch updates it, and the pod's attempt waits for changes."""

from __future__ import annotations

import asyncio
import contextlib
import time

from rivers_executor_k8s.pod.names import STEP_CONTAINER
from rivers_executor_k8s.pod.objects import ContainerState, Pod

__all__ = ["PodView"]


class PodView:
    """The latest state of a pod; `gone` is True after its deletion.

    `scheduled_at` and `running_at` are when it was first seen with a node, and its worker's container running, by the
    monotonic clock.
    """

    __slots__ = ("_changed", "gone", "pod", "running_at", "scheduled_at")

    def __init__(self) -> None:
        self.pod: Pod | None = None
        self.gone = False
        self.scheduled_at: float | None = None
        self.running_at: float | None = None
        self._changed = asyncio.Event()

    def update(self, pod: Pod) -> None:
        """Take a new state of the pod."""
        # A pod with another uid is a namesake that somebody else has created.
        if self.pod is not None and self.pod.metadata.uid != pod.metadata.uid:
            return
        self.pod = pod
        # By this clock: the pod's own times are in whole seconds of other machines' clocks.
        if self.scheduled_at is None and pod.spec.node_name:
            self.scheduled_at = time.monotonic()
        if self.running_at is None and self.container.running is not None:
            self.running_at = time.monotonic()
        self._changed.set()

    def mark_gone(self, pod: Pod) -> None:
        """Take the last state of the deleted pod."""
        if self.pod is not None and self.pod.metadata.uid != pod.metadata.uid:
            return
        self.pod, self.gone = pod, True
        self._changed.set()

    @property
    def container(self) -> ContainerState:
        """The state of the worker's container, empty as long as the kubelet has reported none."""
        status = self.pod.container(STEP_CONTAINER) if self.pod is not None else None
        return status.state if status is not None else ContainerState()

    @property
    def is_running(self) -> bool:
        """True if the worker's container has started and has an address."""
        return self.pod is not None and self.container.running is not None and bool(self.pod.status.pod_ip)

    @property
    def is_over(self) -> bool:
        """True if the worker's container has ended or will never start."""
        if self.gone or self.container.terminated is not None:
            return True
        return self.pod is not None and self.pod.status.phase in ("Succeeded", "Failed")

    async def wait_for_change(self, within: float) -> None:
        """Wait for the next change, at most `within` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, within)):
                await self._changed.wait()
        self._changed.clear()

    async def wait_until_over(self) -> None:
        """Wait until the worker's container has ended."""
        while not self.is_over:
            await self.wait_for_change(3600.0)
