"""A backend's connection to its cluster: made when it is first needed, kept from run to run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from rivers.spi import Executor
from rivers_executor_k8s.api.client import load_api_client
from rivers_executor_k8s.api.event_loop import acquire_loop
from rivers_executor_k8s.api.namespace import Cluster
from rivers_executor_k8s.pod.template import read_template
from rivers_executor_k8s.run.controller_pod import image_and_owner
from rivers_executor_k8s.run.dial import way_of
from rivers_executor_k8s.run.session import Setting

__all__ = ["Connection"]

T = TypeVar("T")
CLOSE = 5.0


class Connection:
    """The cluster, and the loop in which it is spoken to.

    Raises:
        ConfigurationError: there is no configuration of a cluster, or not this context; the template cannot be read.
    """

    def __init__(self, executor: Executor.Kubernetes) -> None:
        self.executor = executor
        self._template = _template(executor)
        self._way = way_of()
        api = load_api_client(executor.context)
        self._loop = acquire_loop()
        self.cluster = Cluster(api, executor.namespace or api.namespace)
        self.checked: set[tuple[str, bytes]] = set()

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float) -> T:
        """Run something in the loop, from another thread."""
        return self._loop.run(coroutine, timeout)

    def post(self, call: Callable[..., object], *arguments: object) -> None:
        """Have something called in the loop."""
        self._loop.post(call, *arguments)

    def close(self) -> None:
        """Let go of the cluster and of the loop."""
        self._loop.run(self.cluster.close(), CLOSE)
        self._loop.release()

    async def setting(self, run_id: str, *, epoch: int = 0, key: bytes = b"") -> Setting:
        """What a run of this executor has for all its attempts."""
        image, owner = await image_and_owner(self.cluster, self.executor.worker_image)
        return Setting(
            executor=self.executor,
            run_id=run_id,
            image=image,
            template=self._template,
            owner=owner,
            way=self._way,
            epoch=epoch,
            pickle_key=key if self.executor.allow_pickle else b"",
        )


def _template(executor: Executor.Kubernetes) -> Mapping[str, Any] | None:
    given = executor.pod_template
    if given is None or isinstance(given, Mapping):
        return given
    return read_template(str(given), allow_insecure=executor.allow_insecure_pod)
