"""Faults of FakeCluster's pods look as in a real cluster, and no process outlives them."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from fake_clients import BRINGS_UP, DEAF, HEARS, PODS, WAITS, Client, passing, reasons, started, state, until

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


@pytest.mark.parametrize(
    ("end", "expected"),
    [
        (lambda cluster: cluster.kill("p"), (137, "Error", None)),
        (lambda cluster: cluster.oom("p"), (137, "OOMKilled", None)),
        (lambda cluster: cluster.kill("p", signal.SIGTERM), (143, "Error", None)),
        (lambda cluster: cluster.evict("p"), (137, "Error", "Evicted")),
    ],
    ids=["kill", "oom", "term", "evict"],
)
def test_what_ends_a_pod(
    cluster: FakeCluster, start: Callable[..., Any], end: Callable[[FakeCluster], None], expected: tuple[object, ...]
) -> None:
    """A killed, an out-of-memory, a terminated and an evicted pod look as they do in a cluster."""
    start(HEARS)
    end(cluster)
    until(lambda: "terminated" in state(cluster.pod("p")))

    failed = cluster.wait_for("p", "Failed")
    last = state(failed)["terminated"]
    assert expected == (last["exitCode"], last["reason"], failed["status"].get("reason"))


def test_an_eviction_says_why(cluster: FakeCluster, client: Client, start: Callable[..., Any]) -> None:
    """An evicted pod carries the kubelet's message, a DisruptionTarget condition and an event."""
    start(WAITS)
    cluster.evict("p", "The node was low on resource: ephemeral-storage.")

    evicted = cluster.wait_for("p", "Failed")
    condition = next(known for known in evicted["status"]["conditions"] if known["type"] == "DisruptionTarget")
    assert "The node was low on resource: ephemeral-storage." == evicted["status"]["message"]
    assert ("True", "TerminationByKubelet") == (condition["status"], condition["reason"])
    assert "Evicted" in reasons(client, evicted)


def test_a_pod_takes_all_its_processes_along(cluster: FakeCluster, start: Callable[..., Any]) -> None:
    """Descendants end with their container, even in another session, however it ends."""
    uid = start(BRINGS_UP)["metadata"]["uid"]
    mark = f"{cluster._mark}/{uid}"
    before = len(find_marked(mark))
    cluster.kill("p", signal.SIGTERM)  # for the first process alone
    cluster.wait_for("p", "Failed")

    assert (2, []) == (before, find_marked(mark))


def test_a_graceful_delete(cluster: FakeCluster, client: Client, start: Callable[..., Any]) -> None:
    """A deleted pod gets SIGTERM, tells how it has ended, and only then is gone."""
    uid = start(HEARS)["metadata"]["uid"]
    since = client.get(PODS)["metadata"]["resourceVersion"]
    _, answer = client.delete("p", preconditions={"uid": uid})
    cluster.wait_for("p", "Gone")

    told = [(event["type"], event["object"]) for event in map(json.loads, client.until_idle(since))]
    kinds, objects = [kind for kind, _ in told], [pod for _, pod in told]
    assert (5, 5, 0) == (
        answer["metadata"]["deletionGracePeriodSeconds"],
        objects[0]["metadata"]["deletionGracePeriodSeconds"],
        objects[-1]["metadata"]["deletionGracePeriodSeconds"],
    )
    assert "DELETED" == kinds[-1]
    assert ("Failed", 143) == (objects[-1]["status"]["phase"], state(objects[-1])["terminated"]["exitCode"])


def test_a_deaf_pod_is_killed(cluster: FakeCluster, client: Client, start: Callable[..., Any]) -> None:
    """A pod that does not end by SIGTERM is killed after its grace, which a second delete can shorten."""
    start(DEAF)
    since = client.get(PODS)["metadata"]["resourceVersion"]
    client.delete("p", gracePeriodSeconds=60)
    until(lambda: "heard" in cluster.log("p"))
    client.delete("p", gracePeriodSeconds=1)
    gone = cluster.wait_for("p", "Gone")

    last = json.loads(client.until_idle(since)[-1])["object"]
    assert gone["metadata"]["uid"] == last["metadata"]["uid"]
    assert 137 == state(last)["terminated"]["exitCode"]


def test_a_forced_delete(cluster: FakeCluster, start: Callable[..., Any]) -> None:
    """A forced delete removes the object at once; its processes are gone soon."""
    uid = start(DEAF)["metadata"]["uid"]
    cluster.delete("p", force=True)

    assert [] == cluster.pods()
    until(lambda: not find_marked(f"{cluster._mark}/{uid}"))


def test_a_drain(cluster: FakeCluster, client: Client, start: Callable[..., Any]) -> None:
    """A drained pod is marked as disrupted, and deleted."""
    start(HEARS)
    since = client.get(PODS)["metadata"]["resourceVersion"]
    cluster.drain("p")
    cluster.wait_for("p", "Gone")

    first = json.loads(client.until_idle(since)[0])["object"]
    assert "EvictionByEvictionAPI" in {known.get("reason") for known in first["status"]["conditions"]}


def test_a_lost_node(cluster: FakeCluster, client: Client, start: Callable[..., Any]) -> None:
    """Of a lost node nothing is heard: its pod is marked and to be deleted, and stays until the node is back."""
    start(HEARS)
    cluster.lose_node("p", toleration=0.05)
    until(lambda: "deletionTimestamp" in cluster.pod("p")["metadata"])
    log, body = client.ask("GET", f"{PODS}/p/log")
    lost = cluster.pod("p")
    cluster.restore_nodes()
    cluster.wait_for("p", "Gone")

    conditions = {known["type"]: known for known in lost["status"]["conditions"]}
    assert (500, True) == (log, "no route to host" in body["message"])
    assert ("Running", "NodeNotReady") == (lost["status"]["phase"], conditions["Ready"]["reason"])
    assert "DeletionByTaintManager" == conditions["DisruptionTarget"]["reason"]


def test_a_pod_outlives_its_object_on_a_lost_node(cluster: FakeCluster, start: Callable[..., Any]) -> None:
    """A pod that is forced away while its node is lost goes on as a process until the node is back."""
    uid = start(WAITS)["metadata"]["uid"]
    cluster.lose_node("p", frozen=False)
    cluster.delete("p", force=True)

    assert 1 == len(find_marked(f"{cluster._mark}/{uid}"))
    cluster.restore_nodes()
    until(lambda: not find_marked(f"{cluster._mark}/{uid}"))


def test_a_pods_deadline(cluster: FakeCluster, start: Callable[..., Any]) -> None:
    """A pod that is active for longer than its deadline fails for that."""
    start(HEARS, activeDeadlineSeconds=1)

    failed = cluster.wait_for("p", "Failed")
    assert "DeadlineExceeded" == failed["status"]["reason"]
