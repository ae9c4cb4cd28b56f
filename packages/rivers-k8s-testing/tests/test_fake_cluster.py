"""The fake API server keeps, lists, watches and refuses what a real one does."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest
from fake_clients import LEASES, PODS, REVIEWS, Client, passing, pod, state

from rivers_k8s_testing import FakeCluster


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    """A cluster of instant pods."""
    with passing(stub=lambda pod: f"done {pod['metadata']['name']}") as cluster:
        yield cluster


@pytest.fixture
def client(cluster: FakeCluster) -> Iterator[Client]:
    client = Client(cluster.kubeconfig)
    yield client
    client.close()


@pytest.fixture
def other(cluster: FakeCluster) -> Iterator[Client]:
    """A second connection, as a watch occupies one."""
    client = Client(cluster.kubeconfig)
    yield client
    client.close()


def names(listed: Any) -> list[str]:
    return [item["metadata"]["name"] for item in listed["items"]]


def test_a_pod_is_kept(cluster: FakeCluster, client: Client) -> None:
    """A created pod has uid, version and defaults, is found by its name, and ends at once where it is stubbed."""
    created = client.create("p", labels={"a": "b"})

    ended = cluster.wait_for("p", "Succeeded")
    assert created["metadata"]["uid"] == ended["metadata"]["uid"]
    assert {"a": "b"} == ended["metadata"]["labels"]
    assert "default" == created["spec"]["serviceAccountName"]
    assert int(created["metadata"]["resourceVersion"]) < int(ended["metadata"]["resourceVersion"])
    assert "done p" == state(ended)["terminated"]["message"]
    assert ended == client.get(f"{PODS}/p")


def test_a_name_is_made(client: Client) -> None:
    """`generateName` makes a name that begins so."""
    given = pod()
    given["metadata"] = {"generateName": "step-"}

    _, made = client.ask("POST", PODS, given)

    assert made["metadata"]["name"].startswith("step-")


def test_a_dry_run_leaves_nothing(client: Client) -> None:
    """A dry run answers with the pod, refuses what is invalid, and keeps nothing."""
    status, body = client.ask("POST", PODS, pod("dry"), dryRun="All")
    refused, _ = client.ask("POST", PODS, pod("Dry"), dryRun="All")

    assert (201, "dry", 422) == (status, body["metadata"]["name"], refused)
    assert [] == names(client.get(PODS))


def test_lists_come_in_pages(cluster: FakeCluster, client: Client) -> None:
    """Pages show the list as it was when the first was asked for, and say how much is left."""
    for name in "abcde":
        client.create(name)
    first = client.get(PODS, limit=2)
    client.create("f")
    second = client.get(PODS, limit=2, **{"continue": first["metadata"]["continue"]})
    third = client.get(PODS, limit=2, **{"continue": second["metadata"]["continue"]})

    assert ["ab", "cd", "e"] == ["".join(names(page)) for page in (first, second, third)]
    assert 3 == first["metadata"]["remainingItemCount"]
    assert "continue" not in third["metadata"]
    assert 1 == len({page["metadata"]["resourceVersion"] for page in (first, second, third)})


def test_a_page_of_a_forgotten_list(cluster: FakeCluster, client: Client) -> None:
    """After a compaction a list's next page is answered with 410, and a token that is none with 400."""
    for name in "abc":
        client.create(name)
    first = client.get(PODS, limit=2)
    cluster.compact()

    gone, body = client.ask("GET", PODS, limit=2, **{"continue": first["metadata"]["continue"]})

    assert (410, "Expired") == (gone, body["reason"])
    assert 400 == client.ask("GET", PODS, **{"continue": "x"})[0]


def test_a_list_from_the_future(client: Client) -> None:
    """A version that is not there yet is answered with 504 and when to come again."""
    status, body = client.ask("GET", PODS, resourceVersion=10**9)

    assert (504, 1, "1") == (status, body["details"]["retryAfterSeconds"], client.last["retry-after"])


@pytest.mark.parametrize(
    ("selector", "found"),
    [
        ("run=1", "ab"),
        ("run==1,step=x", "a"),
        ("run!=1", "cd"),
        ("run in (1, 2)", "abc"),
        ("run notin (1,2),step", ""),
        ("step", "ab"),
        ("!step", "cd"),
        ("rivers.io/kind=z", "d"),
    ],
)
def test_labels_select(client: Client, selector: str, found: str) -> None:
    """A label selector selects what Kubernetes says that it does."""
    shown = {"a": {"run": "1", "step": "x"}, "b": {"run": "1", "step": "y"}, "c": {"run": "2"}}
    for name, labels in {**shown, "d": {"rivers.io/kind": "z"}}.items():
        client.create(name, labels=labels)

    assert list(found) == names(client.get(PODS, labelSelector=selector))


def test_selectors_that_are_none(client: Client) -> None:
    """A selector that cannot be read is answered with 400."""
    assert 400 == client.ask("GET", PODS, labelSelector="a===b")[0]
    assert 400 == client.ask("GET", PODS, fieldSelector="spec.colour=red")[0]


def test_a_watch_goes_on_from_a_list(cluster: FakeCluster, client: Client, other: Client) -> None:
    """A watch tells what has changed since the version of a list, only of the pods selected, in order."""
    client.create("before", labels={"run": "1"})
    cluster.wait_for("before", "Succeeded")
    listed = client.get(PODS)
    client.create("other", labels={"run": "2"})
    client.create("after", labels={"run": "1"})
    cluster.wait_for("after", "Succeeded")
    client.delete("after")

    since = listed["metadata"]["resourceVersion"]
    told = list(other.events(labelSelector="run=1", resourceVersion=since, timeoutSeconds=1))

    assert ["ADDED", "MODIFIED", "MODIFIED", "MODIFIED", "DELETED"] == [kind for kind, _ in told]
    assert {"after"} == {pod["metadata"]["name"] for _, pod in told}
    assert ["Pending", "Running", "Succeeded"] == [pod["status"]["phase"] for _, pod in told[:3]]
    versions = [int(pod["metadata"]["resourceVersion"]) for _, pod in told]
    assert versions == sorted(set(versions))


def test_a_watch_without_a_version(client: Client, other: Client) -> None:
    """A watch without a version begins with what is there."""
    client.create("p")

    assert ("ADDED", "p") == next((kind, pod["metadata"]["name"]) for kind, pod in other.events())


def test_a_watch_ends_in_time(client: Client) -> None:
    """`timeoutSeconds` ends a watch as streams end, and the connection serves further requests."""
    assert [] == list(client.events(timeoutSeconds=1))
    assert [] == names(client.get(PODS))


def test_bookmarks(client: Client, other: Client) -> None:
    """A watch that asks for bookmarks gets some while it is idle, with the newest version of all objects."""
    listed = client.get(PODS, labelSelector="run=1")
    client.create("other")

    since = listed["metadata"]["resourceVersion"]
    told = other.events(labelSelector="run=1", allowWatchBookmarks="true", resourceVersion=since)
    kind, bookmark = next(told)

    assert ("BOOKMARK", "Pod") == (kind, bookmark["kind"])
    assert int(bookmark["metadata"]["resourceVersion"]) > int(since)


def test_a_forgotten_version(cluster: FakeCluster, client: Client) -> None:
    """After a compaction a watch from an older version is an ERROR 410, and one from a new list works."""
    since = client.get(PODS)["metadata"]["resourceVersion"]
    cluster.compact()

    told = list(client.events(resourceVersion=since))
    newer = client.get(PODS)["metadata"]["resourceVersion"]

    assert [("ERROR", 410)] == [(kind, status["code"]) for kind, status in told]
    assert [] == list(client.events(resourceVersion=newer, timeoutSeconds=1))


def test_deletes_mean_one_pod(cluster: FakeCluster, client: Client) -> None:
    """A precondition's uid protects a namesake; a pod that is gone is 404; one that has ended is gone at once."""
    client.create("p")
    uid = cluster.wait_for("p", "Succeeded")["metadata"]["uid"]

    assert 409 == client.delete("p", preconditions={"uid": "another"})[0]
    assert 200 == client.delete("p", preconditions={"uid": uid})[0]
    assert 404 == client.delete("p", preconditions={"uid": uid})[0]


def test_a_lease_has_one_writer(client: Client) -> None:
    """Of two updates from one version the second is a conflict; a lease can be deleted and made anew."""
    lease = {"kind": "Lease", "metadata": {"name": "run"}, "spec": {"holderIdentity": "a"}}
    _, made = client.ask("POST", LEASES, lease)
    made["spec"]["holderIdentity"] = "b"

    assert (200, 409) == (client.ask("PUT", f"{LEASES}/run", made)[0], client.ask("PUT", f"{LEASES}/run", made)[0])
    assert 409 == client.ask("POST", LEASES, lease)[0]
    assert "b" == client.get(f"{LEASES}/run")["spec"]["holderIdentity"]
    assert 200 == client.ask("DELETE", f"{LEASES}/run")[0]
    assert (404, 201) == (client.ask("PUT", f"{LEASES}/run", made)[0], client.ask("POST", LEASES, lease)[0])


def test_labels_can_be_patched(client: Client) -> None:
    """A merge patch sets and removes labels and annotations, of the pod with its uid only, and of nothing else."""
    made = client.create("p", labels={"a": "1", "b": "2"})
    client._headers["Content-Type"] = "application/merge-patch+json"
    patch = {"metadata": {"uid": made["metadata"]["uid"], "labels": {"a": "3", "b": None}, "annotations": {"c": "4"}}}

    assert 200 == client.ask("PATCH", f"{PODS}/p", patch)[0]
    found = client.get(f"{PODS}/p")["metadata"]
    assert ({"a": "3"}, {"c": "4"}) == (found["labels"], found["annotations"])
    assert 409 == client.ask("PATCH", f"{PODS}/p", {"metadata": {"uid": "other", "labels": {"a": "5"}}})[0]
    assert 404 == client.ask("PATCH", f"{PODS}/none", patch)[0]
    assert 422 == client.ask("PATCH", f"{PODS}/p", {"spec": {"containers": []}})[0]


def test_permissions(cluster: FakeCluster, client: Client) -> None:
    """Denied requests get 403, and access reviews agree; `allow` undoes it."""
    cluster.deny("create", "pods")
    cluster.deny("get", "pods/log")
    asked = {"verb": "get", "resource": "pods", "subresource": "log"}

    _, review = client.ask("POST", REVIEWS, {"spec": {"resourceAttributes": asked}})
    status, body = client.ask("POST", PODS, pod())
    cluster.allow("create", "pods")

    assert review["status"]["allowed"] is False
    assert 403 == status
    assert 'User "rivers" cannot create resource "pods" in API group "" in the namespace "default"' in body["message"]
    assert 201 == client.ask("POST", PODS, pod())[0]


def test_quota(cluster: FakeCluster, client: Client) -> None:
    """A pod beyond the quota is refused in a server's words, also as a dry run; ended pods do not count."""
    cluster.quota(**{"pods": 1, "requests.cpu": "1"})
    sized = {"resources": {"requests": {"cpu": "600m"}}}
    bare, unsized = client.ask("POST", PODS, pod("unsized"))
    two = pod("two", container=sized)
    two["spec"]["containers"].append({"name": "side", "image": "x", **sized})
    status, body = client.ask("POST", PODS, two, dryRun="All")

    assert (403, 403) == (bare, status)
    assert unsized["message"].endswith("failed quota: quota: must specify requests.cpu for: rivers-step")
    words = "exceeded quota: quota, requested: requests.cpu=1200m, used: requests.cpu=0, limited: requests.cpu=1"
    assert f'pods "two" is forbidden: {words}' == body["message"]
    client.create("one", container=sized)
    cluster.wait_for("one", "Succeeded")
    client.create("next", container=sized)


def test_tokens_expire(cluster: FakeCluster, client: Client) -> None:
    """An expired token is answered with 401; the kubeconfig gets another when it is renewed."""
    cluster.expire_token()
    expired, body = client.ask("GET", PODS)
    cluster.renew_token()
    fresh = Client(cluster.kubeconfig)

    assert (401, "Unauthorized") == (expired, body["message"])
    assert [] == names(fresh.get(PODS))
    assert ["", "rivers"] == [request.user for request in cluster.requests]
    fresh.close()


def test_namespaces_that_are_not_there(cluster: FakeCluster, client: Client) -> None:
    """Pods in a namespace that is not there, or is ending, or with a service account that is not, are refused."""
    missing, _ = client.ask("POST", "/api/v1/namespaces/none/pods", pod())
    cluster.missing_service_account("nobody")
    account, said = client.ask("POST", PODS, pod(serviceAccountName="nobody"))
    cluster.terminate_namespace()
    ending, body = client.ask("POST", PODS, pod())

    assert (404, 403, 403) == (missing, account, ending)
    assert 'error looking up service account default/nobody: serviceaccount "nobody" not found' in said["message"]
    assert "NamespaceTerminating" == body["details"]["causes"][0]["reason"]


def test_a_server_that_is_away(cluster: FakeCluster, client: Client, other: Client) -> None:
    """While the server is away connections are cut and refused; then it is back at its address, with all it had."""
    client.create("p")
    cluster.wait_for("p", "Succeeded")
    watch = other.open("GET", PODS, watch=1, resourceVersion=cluster.pod("p")["metadata"]["resourceVersion"])

    with cluster.away():
        with pytest.raises((ConnectionResetError, http.client.IncompleteRead)):
            watch.read()
        client.close()
        with pytest.raises(ConnectionRefusedError):
            client.ask("GET", PODS)
        client.close()

    assert ["p"] == names(client.get(PODS))


def test_requests_are_remembered(cluster: FakeCluster, client: Client) -> None:
    """A cluster tells what it was asked, by whom, what that means, and how it was answered."""
    client.ask("GET", f"{PODS}/none/log", container="c")

    (request,) = cluster.requests
    assert ("GET", f"{PODS}/none/log", {"container": "c"}) == (request.method, request.path, request.query)
    assert ("get", "pods/log", "none") == (request.verb, request.resource, request.name)
    assert ("rivers", 404, "") == (request.user, request.status, request.fault)


def test_strangers(cluster: FakeCluster) -> None:
    """Without a token nothing is shown but the version and the health."""
    client = Client(cluster.kubeconfig)
    client._headers = {}

    assert 403 == client.ask("GET", PODS)[0]
    assert "34" == client.get("/version")["minor"]
    client.close()


def test_what_the_fake_does_not_know(cluster: FakeCluster, client: Client) -> None:
    """A path or a method that the fake does not serve is 404 or 405; none of it ends the connection."""
    client.create("p")

    assert 404 == client.ask("GET", "/apis/apps/v1/namespaces/default/deployments")[0]
    assert 405 == client.ask("PATCH", f"{LEASES}/run", {})[0]
    assert 415 == client.ask("PATCH", f"{PODS}/p", {})[0]
    assert 405 == client.ask("DELETE", PODS)[0]
    assert 404 == client.ask("POST", f"{PODS}/p/exec")[0]
    assert 400 == client.ask("POST", PODS, b"{garbage")[0]


def test_the_kubeconfig_is_private(cluster: FakeCluster) -> None:
    """Nobody else can read the token."""
    assert 0o600 == cluster.kubeconfig.stat().st_mode & 0o777
    assert 0o700 == cluster.folder.stat().st_mode & 0o777


def test_a_closed_cluster() -> None:
    """A cluster can be closed twice, and says that it is closed."""
    cluster = FakeCluster()
    cluster.close()
    cluster.close()

    with pytest.raises(RuntimeError, match="is closed"):
        cluster.pods()


def test_a_pod_that_is_not_there(cluster: FakeCluster, client: Client) -> None:
    """A missing pod is reported with the existing ones, a timeout with the last status."""
    client.create("there")

    with pytest.raises(LookupError, match=r"no pod 'here' in this cluster; there are: there"):
        cluster.kill("here")
    cluster.wait_for("there", "Succeeded")
    with pytest.raises(TimeoutError, match=r"'there' is not Running after 0.05 s; .*Succeeded"):
        cluster.wait_for("there", "Running", timeout=0.05)


def test_objects_are_copies(cluster: FakeCluster, client: Client) -> None:
    """Changes to a returned object do not reach the cluster."""
    client.create("p")
    cluster.pods()[0]["metadata"]["name"] = "changed"

    assert "p" == json.loads(json.dumps(cluster.pod("p")))["metadata"]["name"]
