"""What is known of one pod: the watch writes it, the pod's attempt waits for it to change."""

from __future__ import annotations

import asyncio
import contextlib

from rivers_executor_k8s.pod.names import STEP_CONTAINER
from rivers_executor_k8s.pod.objects import ContainerState, Pod

__all__ = ["PodView"]


class PodView:
    """The latest of a pod. `gone` is whether it is not there any more, `changed` tells of either."""

    __slots__ = ("_changed", "gone", "pod")

    def __init__(self) -> None:
        self.pod: Pod | None = None
        self.gone = False
        self._changed = asyncio.Event()

    def update(self, pod: Pod) -> None:
        """The pod is like this now. One of another uid is a namesake, and none of ours."""
        if self.pod is not None and self.pod.metadata.uid != pod.metadata.uid:
            return
        self.pod = pod
        self._changed.set()

    def lose(self, pod: Pod) -> None:
        """The pod was deleted, and was last like this."""
        if self.pod is not None and self.pod.metadata.uid != pod.metadata.uid:
            return
        self.pod, self.gone = pod, True
        self._changed.set()

    @property
    def container(self) -> ContainerState:
        """The state of the worker's container; nothing is known of it at first."""
        status = self.pod.container(STEP_CONTAINER) if self.pod is not None else None
        return status.state if status is not None else ContainerState()

    @property
    def runs(self) -> bool:
        """Whether the worker's container has started and can be called."""
        return self.pod is not None and self.container.running is not None and bool(self.pod.status.pod_ip)

    @property
    def over(self) -> bool:
        """Whether the worker's container runs no more, or never will."""
        if self.gone or self.container.terminated is not None:
            return True
        return self.pod is not None and self.pod.status.phase in ("Succeeded", "Failed")

    async def change(self, within: float) -> None:
        """Wait until it changes, at most `within` seconds."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(max(0.0, within)):
                await self._changed.wait()
        self._changed.clear()

    async def until_over(self) -> None:
        """Wait until the worker's container runs no more."""
        while not self.over:
            await self.change(3600.0)
