"""A pod of the fake cluster is a process of this machine, and its status is what a kubelet would write of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from fake_clients import PODS, Client, create, passing, pod, reasons, started, state, states, until

from rivers_k8s_testing import FakeCluster


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


def test_the_environment(cluster: FakeCluster, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A container sees its manifest's variables and what imports need, and nothing else of the test's process."""
    monkeypatch.setenv("TESTS_SECRET", "x")
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    field = {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
    address = {"name": "ADDRESS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}
    given = [field, address, {"name": "RIVERS_LISTEN", "value": "[::]:7433"}]
    create(client, "import json, os, fake_clients; print(json.dumps(dict(os.environ)))", env=given)
    cluster.wait_for("p", "Succeeded")

    seen = json.loads(cluster.log("p"))
    assert ("p", "127.0.0.1", "127.0.0.1:0") == (seen["NAME"], seen["ADDRESS"], seen["RIVERS_LISTEN"])
    assert "TESTS_SECRET" not in seen
    assert str(cluster.folder) in seen["TMPDIR"]


def test_scratch_folders_are_the_pods_own(cluster: FakeCluster, client: Client) -> None:
    """The folders that a worker empties are never this machine's, whatever the manifest says."""
    given = [{"name": "RIVERS_SCRATCH", "value": "/tmp:/home/rivers"}]
    create(client, "import os; print(os.environ['RIVERS_SCRATCH'], os.listdir(os.environ['TMPDIR']))", env=given)
    cluster.wait_for("p", "Succeeded")

    folder, _, listed = cluster.log("p").strip().partition(" ")
    assert folder.startswith(f"{cluster.folder}/")
    assert "[]" == listed


def test_how_a_pod_goes(cluster: FakeCluster, client: Client) -> None:
    """The phases and states of a pod come in the order in which a kubelet writes them, and events tell of them."""
    create(client, "print('out')")
    ended = cluster.wait_for("p", "Succeeded")

    told = [(event["type"], event["object"]) for event in map(json.loads, client.until_idle("100"))]
    seen = [(pod["status"]["phase"], *states(pod)) for _, pod in told]
    assert [("Pending",), ("Pending",), ("Pending", "waiting"), ("Running", "running")] == seen[:4]
    assert [("Running", "terminated"), ("Succeeded", "terminated")] == seen[4:]
    assert ["Scheduled", "Pulled", "Created", "Started"] == reasons(client, ended)


@pytest.mark.parametrize(
    ("code", "policy", "expected"),
    [
        ("print('out')", "File", ("Succeeded", 0, "Completed", "")),
        ("import sys; print('out', flush=True); sys.exit(3)", "File", ("Failed", 3, "Error", "")),
        ("import sys; print('out', flush=True); sys.exit(3)", "FallbackToLogsOnError", ("Failed", 3, "Error", "out\n")),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "File", ("Failed", 139, "Error", "")),
        ("open(os.environ['RIVERS_TERMINATION_LOG'], 'w').write('bye')", "File", ("Succeeded", 0, "Completed", "bye")),
    ],
)
def test_how_a_container_ends(
    cluster: FakeCluster, client: Client, code: str, policy: str, expected: tuple[object, ...]
) -> None:
    """Exit code, reason and message are those that a kubelet reports; a signal is 128 more than its number."""
    phase, *told = expected
    create(client, code, container={"terminationMessagePolicy": policy})

    last = state(cluster.wait_for("p", str(phase)))["terminated"]
    assert told == [last["exitCode"], last["reason"], last.get("message", "")]


def test_a_long_termination_message(cluster: FakeCluster, client: Client) -> None:
    """The last 4,096 bytes of a termination message are kept."""
    create(client, "open(os.environ['RIVERS_TERMINATION_LOG'], 'w').write('a' * 5000 + 'end')")

    message = state(cluster.wait_for("p", "Succeeded"))["terminated"]["message"]
    assert (4096, "aend") == (len(message), message[-4:])


def test_unschedulable(cluster: FakeCluster, client: Client) -> None:
    """A pod that no node takes is Pending with the scheduler's words, and starts once a node does."""
    words = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector."
    cluster.unschedulable(words)
    create(client, "pass")
    until(lambda: cluster.pod("p")["status"].get("conditions"))
    (condition,) = cluster.pod("p")["status"]["conditions"]
    noted = reasons(client, cluster.pod("p"))
    cluster.unschedulable("")

    assert ("PodScheduled", "False", "Unschedulable", words) == tuple(
        condition[name] for name in ("type", "status", "reason", "message")
    )
    assert ["FailedScheduling"] == noted
    assert cluster.wait_for("p", "Succeeded")


def test_image_errors(cluster: FakeCluster, client: Client) -> None:
    """A container that cannot start waits with a reason that may change, its log is refused, and it can start later."""
    cluster.image_error("ErrImagePull", "manifest unknown")
    create(client, "pass")
    until(lambda: state(cluster.pod("p")).get("waiting", {}).get("reason") == "ErrImagePull")
    refused, body = client.ask("GET", f"{PODS}/p/log")
    cluster.image_error("ImagePullBackOff", 'Back-off pulling image "test:1"')
    until(lambda: state(cluster.pod("p"))["waiting"]["reason"] == "ImagePullBackOff")
    cluster.image_error()

    assert 400 == refused
    assert 'container "rivers-step" in pod "p" is waiting to start: ErrImagePull' == body["message"]
    assert cluster.wait_for("p", "Succeeded")


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ({"secretKeyRef": {"name": "db", "key": "password"}}, 'secret "db" not found'),
        ({"configMapKeyRef": {"name": "settings", "key": "a"}}, 'configmap "settings" not found'),
    ],
)
def test_what_the_environment_needs(cluster: FakeCluster, client: Client, source: dict[str, Any], words: str) -> None:
    """A Secret or ConfigMap that is not there – none is – is a CreateContainerConfigError, unless it is optional."""
    optional = {kind: {**named, "optional": True} for kind, named in source.items()}
    create(client, "pass", "needs", env=[{"name": "X", "valueFrom": source}])
    create(client, "print('X' in os.environ)", "may", env=[{"name": "X", "valueFrom": optional}])
    until(lambda: state(cluster.pod("needs")).get("waiting", {}).get("reason") == "CreateContainerConfigError")

    assert words == state(cluster.pod("needs"))["waiting"]["message"]
    cluster.wait_for("may", "Succeeded")
    assert "False\n" == cluster.log("may")


def test_a_pending_pod_is_deleted(cluster: FakeCluster, client: Client) -> None:
    """A pod that waits for a node or for its image can be deleted, and never runs."""
    cluster.unschedulable()
    create(client, "pass", "one")
    until(lambda: cluster.pod("one")["status"].get("conditions"))
    client.delete("one")
    cluster.unschedulable("")
    cluster.start_delay = 60
    create(client, "pass", "two")
    until(lambda: cluster.pod("two")["status"].get("containerStatuses"))
    client.delete("two")

    cluster.wait_for("two", "Gone")
    assert [] == cluster.pods()


def test_an_entrypoint_that_is_not_there() -> None:
    """A command that does not exist is a StartError, as a missing entrypoint of an image is."""
    with FakeCluster(command=["/no/such/program"]) as cluster:
        client = Client(cluster.kubeconfig)
        client.create("p")
        last = state(cluster.wait_for("p", "Failed"))["terminated"]
        client.close()

    assert ("StartError", 128) == (last["reason"], last["exitCode"])
    assert "/no/such/program" in last["message"]


def test_side_cars(cluster: FakeCluster, client: Client) -> None:
    """A side-car goes on after the step's container has ended: the pod stays Running until it is deleted."""
    manifest = pod("p", env=[{"name": "CODE", "value": "pass"}])
    manifest["spec"]["containers"].insert(0, {"name": "proxy", "image": "x"})
    client.ask("POST", PODS, manifest)
    until(lambda: "terminated" in states(cluster.pod("p")))

    seen = cluster.pod("p")
    assert "Running" == seen["status"]["phase"]
    assert ["running", "terminated"] == states(seen)
    client.delete("p")
    cluster.wait_for("p", "Gone")


def test_logs(cluster: FakeCluster, client: Client) -> None:
    """A log can be had whole, by its last lines, by its first bytes; of another container it cannot."""
    create(client, "for n in range(5): print('line', n)")
    cluster.wait_for("p", "Succeeded")
    log = f"{PODS}/p/log"

    assert "line 3\nline 4\n" == client.get(log, tailLines=2, container="rivers-step")
    assert "" == client.get(log, tailLines=0)
    assert cluster.log("p") == client.get(log, tailLines=50) == client.get(log) == client.get(log, follow="true")
    assert "line 0\nl" == client.get(log, limitBytes=8)
    assert 400 == client.ask("GET", log, container="other")[0]
    assert 422 == client.ask("GET", log, limitBytes=0)[0]


def test_a_followed_log(cluster: FakeCluster, client: Client, start: Callable[..., Any]) -> None:
    """A followed log comes line by line while the container runs, and ends with it."""
    start("import sys, time\nprint('up', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)\nprint('went')")
    following = client.open("GET", f"{PODS}/p/log", follow="true")

    assert b"up\n" == following.readline()
    (cluster.folder / cluster.pod("p")["metadata"]["uid"] / "go").touch()
    assert b"went\n" == following.read()
    assert "Succeeded" == cluster.wait_for("p", "Succeeded")["status"]["phase"]
