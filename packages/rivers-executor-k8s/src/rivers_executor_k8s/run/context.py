"""Connect a backend to its cluster when it is first needed; the connection lasts from run to run."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeVar

from rivers.spi import Executor
from rivers_executor_k8s.api.client import load_api_client
from rivers_executor_k8s.api.namespace import Cluster
from rivers_executor_k8s.pod.template import read_template
from rivers_executor_k8s.run.controller_pod import image_and_owner
from rivers_executor_k8s.run.dial import route_from_environment
from rivers_executor_k8s.run.session import ClusterRunSettings
from rivers_worker.event_loop import acquire_loop

__all__ = ["ClusterContext"]

T = TypeVar("T")
CLOSE = 5.0


class ClusterContext:
    """The cluster of a backend, and the event loop that its requests run in.

    `checked` holds what preflight has found good, by image and refs.

    Raises:
        ConfigurationError: no cluster is configured, or not this context; the pod template cannot be read.
    """

    def __init__(self, executor: Executor.Kubernetes) -> None:
        self.executor = executor
        self._template = _template(executor)
        self._route = route_from_environment()
        api = load_api_client(executor.context)
        self._loop = acquire_loop()
        self.cluster = Cluster(api, executor.namespace or api.namespace)
        self.checked: set[tuple[str, bytes]] = set()

    def run(self, coroutine: Coroutine[Any, Any, T], timeout: float) -> T:
        """Run a coroutine in the loop, from another thread, for at most `timeout` seconds."""
        return self._loop.run(coroutine, timeout)

    def post(self, call: Callable[..., object], *arguments: object) -> None:
        """Call a function in the loop, soon."""
        self._loop.post(call, *arguments)

    def close(self) -> None:
        """Close the connections to the cluster, and release the loop."""
        self._loop.run(self.cluster.close(), CLOSE)
        self._loop.release()

    async def settings_for(self, run_id: str, *, epoch: int = 0, key: bytes = b"") -> ClusterRunSettings:
        """Return the settings that all attempts of a run share; `key` signs its pickles."""
        image, owner = await image_and_owner(self.cluster, self.executor.worker_image)
        return ClusterRunSettings(
            executor=self.executor,
            run_id=run_id,
            image=image,
            template=self._template,
            owner=owner,
            route=self._route,
            epoch=epoch,
            pickle_key=key if self.executor.allow_pickle else b"",
        )


def _template(executor: Executor.Kubernetes) -> Mapping[str, Any] | None:
    given = executor.pod_template
    if given is None or isinstance(given, Mapping):
        return given
    return read_template(str(given), allow_insecure=executor.allow_insecure_pod)
