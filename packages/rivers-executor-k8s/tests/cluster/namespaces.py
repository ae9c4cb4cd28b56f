"""A namespace of a real cluster, as its administrator sees it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import msgspec

from rivers_executor_k8s.api.client import ApiClient, ApiError
from rivers_executor_k8s.pod.objects import Event, EventList, Pod

__all__ = ["Namespace"]

T = TypeVar("T")

LOOK_EVERY = 0.1


class Namespace:
    """One namespace of the cluster, as its administrator sees it; every method returns when the API server has."""

    def __init__(self, name: str, api: ApiClient, runner: asyncio.Runner) -> None:
        self.name = name
        self.path = f"/api/v1/namespaces/{name}"
        self.leases = f"/apis/coordination.k8s.io/v1/namespaces/{name}/leases"
        self._api = api
        self._runner = runner

    def ask(
        self, method: str, path: str, body: object = None, query: Mapping[str, str] | None = None, kind: Any = Any
    ) -> Any:
        """Any request; `path` begins with `/api`."""
        return msgspec.json.decode(self._runner.run(self._api.request(method, path, query=query, body=body)), type=kind)

    def make(self, path: str, body: Mapping[str, Any]) -> None:
        """An object of the namespace: `make("configmaps", …)`."""
        self.ask("POST", f"{self.path}/{path}", body)

    def create(self, pod: Mapping[str, Any]) -> None:
        """A pod by its manifest."""
        self.make("pods", pod)

    def pod(self, name: str) -> Pod:
        """The pod as it is now."""
        pod: Pod = self.ask("GET", f"{self.path}/pods/{name}", kind=Pod)
        return pod

    def events(self, name: str) -> tuple[Event, ...]:
        """What was noted about a pod."""
        query = {"fieldSelector": f"involvedObject.name={name}"}
        found: EventList = self.ask("GET", f"{self.path}/events", query=query, kind=EventList)
        return found.items

    def log(self, name: str) -> str:
        """What a pod has written so far; nothing before it has started."""
        try:
            answer: bytes = self._runner.run(self._api.request("GET", f"{self.path}/pods/{name}/log"))
        except ApiError:
            return ""
        return answer.decode()

    def evict(self, name: str) -> None:
        """As a drain does."""
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": self.name}}
        self.make(f"pods/{name}/eviction", eviction)

    def delete(self, name: str, grace: int | None = None) -> None:
        """Ask for a pod's deletion; `grace` are its seconds to end."""
        options = {} if grace is None else {"gracePeriodSeconds": grace}
        self.ask("DELETE", f"{self.path}/pods/{name}", {"kind": "DeleteOptions", "apiVersion": "v1", **options})

    def unpin(self, name: str) -> None:
        """Let go of a pod that a finalizer keeps; its name stays the same."""
        whole = self.ask("GET", f"{self.path}/pods/{name}")
        whole["metadata"]["finalizers"] = []
        self.ask("PUT", f"{self.path}/pods/{name}", whole)

    def until(self, find: Callable[[], T | None], seconds: float = 30.0) -> T:
        """What is found at last; the test fails when it takes longer."""
        end = time.monotonic() + seconds
        while (found := find()) is None:
            assert time.monotonic() < end, f"not found within {seconds:g} s"
            time.sleep(LOOK_EVERY)
        return found
