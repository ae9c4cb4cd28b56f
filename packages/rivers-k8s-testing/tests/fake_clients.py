"""Helpers of FakeCluster's tests: a plain client, pods to create, a check for leftovers."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import yaml
from running.left_behind import OF_GRPC, open_files

from rivers_k8s_testing import FakeCluster
from rivers_k8s_testing.node.guard import find_marked

PODS = "/api/v1/namespaces/default/pods"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
REVIEWS = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews"

EVENTS = "/api/v1/namespaces/default/events"
PROGRAM = "import os; exec(os.environ['CODE'])"
"""The program of containers: it runs the code of their manifest."""
WAITS = "import time; print('up', flush=True)\nwhile True: time.sleep(0.01)"
DEAF = "import signal; signal.signal(signal.SIGTERM, lambda *_: print('heard', flush=True))\n" + WAITS
HEARS = "import os, signal; signal.signal(signal.SIGTERM, lambda *_: os._exit(143))\n" + WAITS
BRINGS_UP = """
import subprocess, sys, time
subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"], start_new_session=True)
print('up', flush=True)
time.sleep(60)
"""


class Client:
    """Asks as the kubeconfig says at the time of its making; `last` is the answer's headers."""

    def __init__(self, kubeconfig: Path, timeout: float = 20.0) -> None:
        given = yaml.safe_load(kubeconfig.read_text())
        server = given["clusters"][0]["cluster"]["server"]
        self._headers = {"Authorization": f"Bearer {given['users'][0]['user']['token']}"}
        self._connection = http.client.HTTPConnection(server.removeprefix("http://"), timeout=timeout)
        self.last: dict[str, str] = {}

    def close(self) -> None:
        self._connection.close()

    def open(self, method: str, path: str, body: Any = None, **query: object) -> http.client.HTTPResponse:
        """The answer, its body unread."""
        if query:
            path += "?" + urllib.parse.urlencode(query)
        data = body if body is None or isinstance(body, bytes) else json.dumps(body)
        self._connection.request(method, path, data, self._headers)
        return self._connection.getresponse()

    def ask(self, method: str, path: str, body: Any = None, **query: object) -> tuple[int, Any]:
        """Status and body, decoded where it is JSON."""
        answer = self.open(method, path, body, **query)
        data = answer.read()
        self.last = {name.lower(): value for name, value in answer.getheaders()}
        return answer.status, json.loads(data) if self.last["content-type"] == "application/json" else data.decode()

    def get(self, path: str, **query: object) -> Any:
        """The object, or the text."""
        status, body = self.ask("GET", path, **query)
        assert 200 == status, body
        return body

    def create(self, name: str = "p", **more: Any) -> dict[str, Any]:
        """A new pod; what it was created as."""
        status, body = self.ask("POST", PODS, pod(name, **more))
        assert 201 == status, body
        return body

    def delete(self, name: str, **options: Any) -> tuple[int, Any]:
        return self.ask("DELETE", f"{PODS}/{name}", options or None)

    def lines(self, **query: object) -> Iterator[bytes]:
        """The lines of a watch of pods, until it ends."""
        answer = self.open("GET", PODS, watch=1, **query)
        assert 200 == answer.status
        yield from iter(answer.readline, b"")

    def until_idle(self, since: str) -> list[bytes]:
        """The lines of a watch up to its first bookmark, which comes when there is nothing else, or its end."""
        lines = self.lines(resourceVersion=since, allowWatchBookmarks="true")
        found = list(itertools.takewhile(lambda line: b'"type":"BOOKMARK"' not in line, lines))
        self.close()  # the next request opens another connection
        return found

    def events(self, **query: object) -> Iterator[tuple[str, dict[str, Any]]]:
        """Type and object of what a watch of pods tells."""
        for line in self.lines(**query):
            event = json.loads(line)
            yield event["type"], event["object"]


def pod(
    name: str = "p",
    *,
    labels: dict[str, str] | None = None,
    env: list[dict[str, Any]] | None = None,
    container: dict[str, Any] | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """A manifest."""
    step = {"name": "rivers-step", "image": "test:1", "env": env or [], **(container or {})}
    return {
        "kind": "Pod",
        "apiVersion": "v1",
        "metadata": {"name": name, "labels": labels or {}},
        "spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 5, "containers": [step], **spec},
    }


def state(pod: dict[str, Any]) -> dict[str, Any]:
    """The state of a pod's first container."""
    known: dict[str, Any] = pod["status"]["containerStatuses"][0]["state"]
    return known


def states(pod: dict[str, Any]) -> list[str]:
    """The words for the states of its containers."""
    return [next(iter(known["state"])) for known in pod["status"].get("containerStatuses", [])]


def reasons(client: Client, pod: dict[str, Any]) -> list[str]:
    """Of the events about a pod."""
    found = client.get(EVENTS, fieldSelector=f"involvedObject.uid={pod['metadata']['uid']}")
    return [event["reason"] for event in found["items"]]


def create(client: Client, code: str, name: str = "p", env: list[dict[str, Any]] | None = None, **more: Any) -> None:
    """A new pod that runs some code."""
    client.create(name, env=[{"name": "CODE", "value": code}, *(env or [])], **more)


def started(cluster: FakeCluster, client: Client, code: str, name: str = "p", **more: Any) -> dict[str, Any]:
    """A new pod, once its code has said `up`."""
    create(client, code, name, **more)
    running = cluster.wait_for(name, "Running")
    until(lambda: "up" in cluster.log(name))
    return running


def until(holds: Callable[[], object], patience: float = 20.0) -> None:
    """Wait for something to come true."""
    end = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.005)


@contextlib.contextmanager
def passing(**settings: Any) -> Iterator[FakeCluster]:
    """A cluster of which nothing is left; its containers run their CODE."""
    threads, files = set(threading.enumerate()), open_files(but=OF_GRPC)
    with FakeCluster(**{"command": [sys.executable, "-c", PROGRAM], "bookmarks": 0.1, **settings}) as cluster:
        yield cluster
        mark = cluster._mark
    assert [] == find_marked(mark)
    assert not cluster.folder.exists()
    assert set() == set(threading.enumerate()) - threads
    left = open_files(but=OF_GRPC) - files
    assert not left, left
