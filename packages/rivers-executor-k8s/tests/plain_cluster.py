"""A fake cluster of pods that are not started, spoken to by the package's own client."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from running.left_behind import OF_GRPC, open_files

from rivers_executor_k8s.api.auth import load_api_config
from rivers_executor_k8s.api.client import ApiClient
from rivers_executor_k8s.api.namespace import Cluster
from rivers_executor_k8s.pod.names import DIGEST
from rivers_k8s_testing import FakeCluster

LABEL = "rivers-test"
SELECTOR = f"{LABEL}=plain"


@contextlib.contextmanager
def plain_cluster(**more: Any) -> Iterator[FakeCluster]:
    """A cluster whose pods have succeeded at once; no thread and no descriptor is left of it, or of its clients."""
    threads, files = set(threading.enumerate()), open_files(but=OF_GRPC)
    with FakeCluster(stub=lambda pod: "done", bookmarks=0.1, **more) as cluster:
        yield cluster
    assert set() == set(threading.enumerate()) - threads
    left = open_files(but=OF_GRPC) - files
    assert not left, left


def api_of(cluster: FakeCluster) -> ApiClient:
    """The client's API of a fake cluster."""
    return ApiClient(load_api_config(None, {"KUBECONFIG": str(cluster.kubeconfig)}))


@contextlib.asynccontextmanager
async def opened(cluster: FakeCluster) -> AsyncIterator[Cluster]:
    """The namespace of a fake cluster, closed at the end."""
    own = Cluster(api_of(cluster), cluster.namespace)
    try:
        yield own
    finally:
        await own.close()


def plain_pod(name: str, digest: str = "abc", **spec: Any) -> dict[str, Any]:
    """The manifest of a pod."""
    container = {"name": "rivers-step", "image": "test:1", "command": ["true"]}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {LABEL: "plain"}, "annotations": {DIGEST: digest}},
        "spec": {"restartPolicy": "Never", "containers": [container], **spec},
    }


def asked(cluster: FakeCluster, verb: str, resource: str = "pods") -> int:
    """Return the number of requests with a verb and resource."""
    return sum((verb, resource) == (request.verb, request.resource) for request in cluster.requests)


async def until(true: Callable[[], bool], seconds: float = 10.0) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not become true in time"
        await asyncio.sleep(0.01)
