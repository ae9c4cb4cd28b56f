"""The fake refuses in the words of a real API server, and its pods end as real ones did.

The words are compared with the cluster that KUBECONFIG names; the ends with what was recorded of one in `statuses/`.
"""

from __future__ import annotations

import json
import os
import re
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from kubernetes import config

from rivers_k8s_testing import FakeCluster

HERE = Path(__file__).parent
STATUSES = HERE.parents[1] / "rivers-executor-k8s" / "tests" / "statuses"
"""Pods of a real cluster; `tests/cluster/test_statuses.py` of the executor records them."""
sys.path.append(str(HERE))

from fake_clients import Client, pod, states, until  # noqa: E402 - found by the line above

Ask = Callable[..., tuple[int, Any]]
Asked = tuple[str, str, Any]


def changed(**path_and_value: Any) -> dict[str, Any]:
    """A pod that is wrong in one place: `labels`, `name`, `containers`, or a field of its container."""
    given = pod()
    for name, value in path_and_value.items():
        if name in {"name", "labels", "namespace"}:
            given["metadata"][name] = value
        elif name == "containers":
            given["spec"]["containers"] = value
        else:
            given["spec"]["containers"][0][name] = value
    return given


LEASE = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": {}}
REFUSED: dict[str, Asked] = {
    "no pod": ("GET", "pods/none", None),
    "no log": ("GET", "pods/none/log", None),
    "no pod to delete": ("DELETE", "pods/none", None),
    "no lease": ("GET", "leases/none", None),
    "no lease to update": ("PUT", "leases/none", {**LEASE, "metadata": {"name": "other"}}),
    "nothing there": ("GET", "nothings", None),
    "version of the future": ("GET", "pods?resourceVersion=999999999", None),
    "selector": ("GET", "pods?fieldSelector=colour%3Dred", None),
    "name": ("POST", "pods", changed(name="Bad_Name")),
    "no name": ("POST", "pods", changed(name="")),
    "no containers": ("POST", "pods", changed(containers=[])),
    "no image": ("POST", "pods", changed(image="")),
    "quantity": ("POST", "pods", changed(resources={"requests": {"cpu": "100ABC"}})),
    "request above limit": ("POST", "pods", changed(resources={"requests": {"cpu": "2"}, "limits": {"cpu": "1"}})),
    "label": ("POST", "pods", changed(labels={"a": "b c"})),
    "other namespace": ("POST", "pods", changed(namespace="elsewhere")),
    "two faults": ("POST", "pods", changed(image="", labels={"a": "b c"})),
    "service account": ("POST", "pods", {**pod(), "spec": {**pod()["spec"], "serviceAccountName": "nobody"}}),
}
DENIED: dict[str, Asked] = {
    "create": ("POST", "pods", pod()),
    "get": ("GET", "pods/p", None),
    "list": ("GET", "pods", None),
    "watch": ("GET", "pods?watch=1", None),
    "delete": ("DELETE", "pods/p", None),
    "log": ("GET", "pods/p/log", None),
    "events": ("GET", "events", None),
    "lease": ("GET", "leases/l", None),
}


def path_of(namespace: str, what: str) -> str:
    group = "/apis/coordination.k8s.io/v1" if what.startswith("leases") else "/api/v1"
    return f"{group}/namespaces/{namespace}/{what}"


def said(answer: tuple[int, Any]) -> tuple[int, Any]:
    """Return a Status without the versions, for comparison."""
    status, body = answer
    return status, json.loads(re.sub(r"current: \d+", "current: …", json.dumps(body)))


@pytest.fixture(scope="module")
def real() -> Iterator[tuple[Ask, str]]:
    """The cluster that KUBECONFIG names, and a namespace of its own in it."""
    if not os.environ.get("KUBECONFIG"):
        pytest.skip("KUBECONFIG names no cluster to compare with")
    with config.new_client_from_config() as client:
        known = client.configuration
        pool = urllib3.PoolManager(ca_certs=known.ssl_ca_cert, cert_file=known.cert_file, key_file=known.key_file)
        token = known.get_api_key_with_prefix("authorization") or known.get_api_key_with_prefix("BearerToken")
        own = {"Content-Type": "application/json", **({"Authorization": token} if token else {})}

        def ask(method: str, path: str, body: Any = None, user: str = "") -> tuple[int, Any]:
            headers = {**own, **({"Impersonate-User": user} if user else {})}
            data = None if body is None else json.dumps(body)
            answer = pool.request(method, known.host + path, body=data, headers=headers, timeout=20.0, retries=False)
            return answer.status, answer.json()

        namespace = f"rivers-fake-{uuid.uuid4().hex[:8]}"
        meta = {"name": namespace}
        assert 201 == ask("POST", "/api/v1/namespaces", {"kind": "Namespace", "metadata": meta})[0]
        account = f"/api/v1/namespaces/{namespace}/serviceaccounts/default"
        while ask("GET", account)[0] != 200:  # the test's timeout ends it
            time.sleep(0.05)
        yield ask, namespace
        ask("DELETE", f"/api/v1/namespaces/{namespace}")
        pool.clear()


@pytest.fixture(scope="module")
def fake(real: tuple[Ask, str]) -> Iterator[tuple[FakeCluster, Ask]]:
    with FakeCluster(namespace=real[1]) as cluster:
        cluster.missing_service_account("nobody")
        client = Client(cluster.kubeconfig)
        yield cluster, client.ask
        client.close()


@pytest.mark.parametrize("asked", REFUSED.values(), ids=REFUSED.keys())
def test_refusals(real: tuple[Ask, str], fake: tuple[FakeCluster, Ask], asked: Asked) -> None:
    """Errors have the same Status as a real API server's, field for field."""
    (ask, namespace), (method, what, body) = real, asked
    path = path_of(namespace, what)

    assert said(ask(method, path, body)) == said(fake[1](method, path, body))


@pytest.mark.parametrize("asked", DENIED.values(), ids=DENIED.keys())
def test_denials(real: tuple[Ask, str], fake: tuple[FakeCluster, Ask], asked: Asked) -> None:
    """What a user may not do is refused in the same words."""
    (ask, namespace), (method, what, body) = real, asked
    path = path_of(namespace, what)
    fake[0].deny("*", "*")
    answer = said(fake[1](method, path, body))
    fake[0].allow("*", "*")

    assert said(ask(method, path, body, "rivers")) == answer


def test_quota(real: tuple[Ask, str], fake: tuple[FakeCluster, Ask]) -> None:
    """A quota refuses in the same words, as a dry run, too."""
    (ask, namespace), hard = real, {"requests.cpu": "1", "requests.memory": "1Gi"}
    path = path_of(namespace, "pods?dryRun=All")
    quotas = f"/api/v1/namespaces/{namespace}/resourcequotas"
    ask("POST", quotas, {"kind": "ResourceQuota", "metadata": {"name": "quota"}, "spec": {"hard": hard}})
    while "used" not in ask("GET", f"{quotas}/quota")[1].get("status", {}):
        time.sleep(0.05)
    fake[0].quota(**hard)
    large = changed(resources={"requests": {"cpu": "1500m", "memory": "1536Mi"}})
    for given in (pod(), large):
        assert said(ask("POST", path, given)) == said(fake[1]("POST", path, given))
    fake[0].quota()
    ask("DELETE", f"{quotas}/quota")


def test_conflicts(real: tuple[Ask, str], fake: tuple[FakeCluster, Ask]) -> None:
    """Names that are taken, versions that are old and uids of others are refused in the same words."""
    ask, namespace = real

    def conflicts(ask: Ask) -> list[tuple[int, Any]]:
        leases = path_of(namespace, "leases")
        _, made = ask("POST", leases, LEASE)
        again = ask("POST", leases, LEASE)
        ask("PUT", f"{leases}/l", {**made, "spec": {"holderIdentity": "a"}})
        old = ask("PUT", f"{leases}/l", made)
        del made["metadata"]["resourceVersion"]
        none = ask("PUT", f"{leases}/l", made)
        status, deleted = ask("DELETE", f"{leases}/l")
        deleted["details"].pop("uid")
        return [again, old, none, (status, deleted)]

    assert conflicts(ask) == conflicts(fake[1])


CODE = "import os; exec(os.environ['CODE'])"
WAITS = "import os, signal, time; signal.signal(signal.SIGTERM, lambda *_: os._exit(143)); time.sleep(60)"
RECORDED: dict[str, tuple[str, Callable[[FakeCluster], object]]] = {
    "exit-0": ("pass", lambda cluster: None),
    "exit-1": ("raise SystemExit(1)", lambda cluster: None),
    "exit-10": ("raise SystemExit(10)", lambda cluster: None),
    "segv": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", lambda cluster: None),
    "oom": (WAITS, lambda cluster: cluster.oom("p")),
    "killed-outside": (WAITS, lambda cluster: cluster.kill("p")),
    "evicted-emptydir": (
        WAITS,
        lambda cluster: cluster.evict("p", 'Usage of EmptyDir volume "w" exceeds the limit "4Mi". '),
    ),
}


@pytest.mark.parametrize("name", RECORDED)
def test_ends(name: str) -> None:
    """A pod of the fake ends as the one that was recorded: phase, reason, message, and its container's state."""
    recorded = json.loads((STATUSES / f"{name}.json").read_text())["pod"]
    code, end = RECORDED[name]
    with FakeCluster(command=[sys.executable, "-c", CODE]) as cluster:
        client = Client(cluster.kubeconfig)
        client.create("p", env=[{"name": "CODE", "value": code}])
        if code == WAITS:
            cluster.wait_for("p", "Running")
            end(cluster)
        until(lambda: "terminated" in states(cluster.pod("p")))
        ended = cluster.wait_for("p", recorded["status"]["phase"])
        client.close()

    assert reduced(recorded) == reduced(ended)


def reduced(pod: dict[str, Any]) -> dict[str, Any]:
    status = pod["status"]
    last = status["containerStatuses"][0]["state"]["terminated"]
    return {
        **{name: status.get(name) for name in ("phase", "reason", "message")},
        **{f"container's {name}": last.get(name) for name in ("exitCode", "signal", "reason")},
    }
