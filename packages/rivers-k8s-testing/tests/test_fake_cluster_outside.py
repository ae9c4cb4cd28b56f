"""The fake cluster from outside: by the official client, by port-forward, as a program, and after a kill."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from fake_clients import BRINGS_UP, HEARS, PODS, WAITS, Client, passing, pod, started, state, until
from kubernetes import client as kubernetes_client
from kubernetes import config, stream, watch

from rivers_k8s_testing import FakeCluster
from rivers_k8s_testing.node.guard import find_marked


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with passing() as cluster:
        yield cluster


@pytest.fixture
def client(cluster: FakeCluster) -> Iterator[Client]:
    client = Client(cluster.kubeconfig)
    yield client
    client.close()


@pytest.fixture
def start(cluster: FakeCluster, client: Client) -> Callable[..., dict[str, Any]]:
    """Create a pod that runs some code and wait until it has said `up`; its object."""
    return partial(started, cluster, client)


LISTENS = """
import socket
server = socket.create_server(("127.0.0.1", 0))
print(f"up {server.getsockname()[1]}", flush=True)  # in one write
while True:
    connection, _ = server.accept()
    while data := connection.recv(65536):
        connection.sendall(data.upper())
"""


def official(cluster: FakeCluster) -> kubernetes_client.CoreV1Api:
    """The client of the Kubernetes project."""
    return kubernetes_client.CoreV1Api(config.new_client_from_config(str(cluster.kubeconfig)))


def test_port_forward(cluster: FakeCluster, start: Callable[..., Any]) -> None:
    """A port of a pod is reached through the API server, by the protocol of the official client, in both directions."""
    start(LISTENS)
    port = int(cluster.log("p").split()[1])
    core = official(cluster)
    forward = stream.portforward(core.connect_get_namespaced_pod_portforward, "p", "default", ports=str(port))
    sock = forward.socket(port)
    sock.settimeout(10)
    sent = b"abc" * 50_000
    sender = threading.Thread(target=sock.sendall, args=(sent,))
    sender.start()
    got = b""
    while len(got) < len(sent):
        got += sock.recv(65536)
    sender.join()
    sock.close()
    forward.close()
    core.api_client.close()

    assert sent.upper() == got
    assert ("get", "pods/portforward", 101) == next(
        (asked.verb, asked.resource, asked.status) for asked in cluster.requests if asked.query.get("ports")
    )


def test_a_port_forward_is_refused(cluster: FakeCluster, client: Client, start: Callable[..., Any]) -> None:
    """Port-forward needs `create` as newer servers ask for it, and a websocket."""
    start(WAITS)
    cluster.deny("create", "pods/portforward")
    denied, _ = client.ask("GET", f"{PODS}/p/portforward", ports=1)
    cluster.allow("create", "pods/portforward")

    assert (403, 400) == (denied, client.ask("GET", f"{PODS}/p/portforward", ports=1)[0])


def test_the_official_client(cluster: FakeCluster) -> None:
    """The client of the Kubernetes project creates, lists, watches, reads the log, and deletes."""
    core = official(cluster)
    core.create_namespaced_pod("default", pod("p", env=[{"name": "CODE", "value": "print('out')"}]))
    seen = []
    for event in watch.Watch().stream(core.list_namespaced_pod, "default", timeout_seconds=10):
        seen.append(event["object"].status.phase)
        if seen[-1] == "Succeeded":
            break

    assert "Succeeded" == seen[-1]
    assert ["p"] == [item.metadata.name for item in core.list_namespaced_pod("default", limit=1).items]
    assert "out\n" == core.read_namespaced_pod_log("p", "default")
    core.delete_namespaced_pod("p", "default")
    assert [] == core.list_namespaced_pod("default").items
    core.api_client.close()


HOLDS = """
import sys, time
from rivers_k8s_testing import FakeCluster
sys.path += {path!r}
from fake_clients import Client
cluster = FakeCluster(command=[sys.executable, "-c", {code!r}])
Client(cluster.kubeconfig).create("p")
while "up" not in cluster.log("p"):
    time.sleep(0.01)
print(cluster._mark, cluster.folder, flush=True)
time.sleep(60)
"""


def test_a_killed_test_leaves_nothing() -> None:
    """When the process that holds a cluster is killed, its pods and its folder are gone soon after."""
    program = HOLDS.format(path=sys.path, code=BRINGS_UP)
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        try:
            mark, folder = holder.stdout.readline().split()
            running = find_marked(mark)
        finally:
            holder.kill()

    assert 2 == len(running)
    until(lambda: not find_marked(mark) and not Path(folder).exists())


@contextlib.contextmanager
def serving(*arguments: str, path: str = "") -> Iterator[tuple[subprocess.Popen[str], Path]]:
    """The program, and the kubeconfig that it prints."""
    command = [sys.executable, "-m", "rivers_k8s_testing", *arguments]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([path, *sys.path])}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env) as program:
        try:
            assert program.stdout is not None
            yield program, Path(program.stdout.readline().strip())
        finally:
            program.terminate()


def test_as_a_program(tmp_path: Path) -> None:
    """`python -m rivers_k8s_testing` prints its kubeconfig, serves, and leaves nothing at Ctrl-C."""
    (tmp_path / "stubs.py").write_text("def outcome(pod):\n    return 'from ' + pod['metadata']['name']\n")
    options = ("--stub", "stubs:outcome", "--namespace", "ns")
    with serving(*options, path=str(tmp_path)) as (program, kubeconfig):
        client = Client(kubeconfig)
        status, _ = client.ask("POST", "/api/v1/namespaces/ns/pods", pod("p"))
        told = state(client.get("/api/v1/namespaces/ns/pods/p"))["terminated"]["message"]
        client.close()
        program.send_signal(signal.SIGINT)
        ended = program.wait(10)

    assert (201, "from p", 0) == (status, told, ended)
    assert not kubeconfig.parent.exists()


def test_a_programs_pods_hear() -> None:
    """Pods of the program run what it was told, and hear SIGTERM: it has not blocked signals for them."""
    with serving("--", sys.executable, "-c", HEARS) as (_, kubeconfig):
        client = Client(kubeconfig)
        client.create("p")
        until(lambda: "up" in str(client.ask("GET", f"{PODS}/p/log")[1]))
        since = client.get(PODS)["metadata"]["resourceVersion"]
        client.delete("p", gracePeriodSeconds=30)
        last = next(pod for kind, pod in client.events(resourceVersion=since, timeoutSeconds=20) if kind == "DELETED")
        client.close()

    assert 143 == state(last)["terminated"]["exitCode"]


def test_the_kubeconfig_is_one(cluster: FakeCluster) -> None:
    """The kubeconfig has one context, of the cluster's namespace."""
    given = yaml.safe_load(cluster.kubeconfig.read_text())

    assert ["default"] == [known["context"]["namespace"] for known in given["contexts"]]
    assert [cluster.url] == [known["cluster"]["server"] for known in given["clusters"]]
