"""The client against a real API server: refusals, watches, logs, port-forward, tokens."""

from __future__ import annotations

import asyncio
import os
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from kubernetes.config import load_kube_config
from namespaces import Namespace
from test_statuses import pod

from rivers_executor_k8s.api.auth import ApiConfig, load_api_config
from rivers_executor_k8s.api.client import ApiClient, ApiError
from rivers_executor_k8s.api.namespace import Cluster, NameTakenError, PodRefusedError
from rivers_executor_k8s.api.watch import PodWatch
from rivers_executor_k8s.pod.names import DIGEST
from rivers_executor_k8s.pod.objects import Pod

pytestmark = pytest.mark.timeout(120)

ECHO = """
import socket, threading
listening = socket.create_server(("", 7433))
print("listening", flush=True)
def echo(one):
    while data := one.recv(65536):
        one.sendall(data)
while True:
    threading.Thread(target=echo, args=(listening.accept()[0],)).start()
"""


def named(name: str, code: str = "pass", digest: str = "d", **spec: Any) -> dict[str, Any]:
    """A pod's manifest, with what the client looks at."""
    made = pod(code, **spec)
    made["metadata"] = {"name": name, "labels": {"rivers-test": "real"}, "annotations": {DIGEST: digest}}
    return made


def within(namespace: Namespace, use: Callable[[Cluster], Awaitable[Any]], access: ApiConfig | None = None) -> Any:
    """What use of the namespace returns, as the kubeconfig's user or another one."""

    async def scenario() -> Any:
        cluster = Cluster(ApiClient(access or load_api_config(None)), namespace.name)
        try:
            return await use(cluster)
        finally:
            await cluster.close()

    return asyncio.run(scenario())


async def created(cluster: Cluster, manifest: dict[str, Any]) -> Pod:
    return await cluster.create_pod(manifest, deadline=time.monotonic() + 20, on_wait=print)


async def until(true: Callable[[], bool]) -> None:
    """Wait until something is true."""
    for _ in range(1200):
        if true():
            return
        await asyncio.sleep(0.05)
    raise AssertionError("it did not become true within a minute")


async def running(cluster: Cluster, name: str) -> Pod:
    """The pod, once it runs."""
    for _ in range(600):
        seen = await cluster.get_pod(name)
        if seen is not None and seen.status.phase == "Running":
            return seen
        await asyncio.sleep(0.1)
    raise AssertionError(f"pod {name} does not run")


def account(namespace: Namespace, name: str, rules: list[dict[str, Any]]) -> ApiConfig:
    """A service account that may do so much, as a user of the cluster from outside."""
    roles = f"/apis/rbac.authorization.k8s.io/v1/namespaces/{namespace.name}"
    namespace.make("serviceaccounts", {"metadata": {"name": name}})
    namespace.ask("POST", f"{roles}/roles", {"metadata": {"name": name}, "rules": rules})
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace.name}
    reference = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}
    binding = {"metadata": {"name": name}, "subjects": [subject], "roleRef": reference}
    namespace.ask("POST", f"{roles}/rolebindings", binding)
    token = token_of(namespace, name)

    def load(configuration: Any) -> None:
        load_kube_config(config_file=os.environ["KUBECONFIG"], client_configuration=configuration)
        configuration.cert_file = configuration.key_file = configuration.refresh_api_key_hook = None
        configuration.api_key = {"authorization": f"Bearer {token}"}

    return ApiConfig(load, namespace=namespace.name, in_cluster=False)


def token_of(namespace: Namespace, name: str) -> str:
    asked = {"kind": "TokenRequest", "apiVersion": "authentication.k8s.io/v1", "spec": {"expirationSeconds": 600}}
    answer = namespace.ask("POST", f"{namespace.path}/serviceaccounts/{name}/token", asked)
    token: str = answer["status"]["token"]
    return token


def test_a_pod_from_its_making_to_its_deletion(namespace: Namespace) -> None:
    """A pod is made once, its states, log and events are seen, a namesake is respected, and its deletion is told."""
    phases: list[str] = []
    gone: list[str] = []

    async def use(cluster: Cluster) -> tuple[str, tuple[Any, ...]]:
        watch = PodWatch(
            cluster,
            "rivers-test=real",
            lambda pod: phases.append(pod.status.phase),
            lambda pod: gone.append(pod.metadata.name),
        )
        await watch.start()
        first = await created(cluster, named("p", "print('hello')"))
        again = await created(cluster, named("p", "print('hello')"))
        assert first.metadata.uid == again.metadata.uid
        with pytest.raises(NameTakenError):
            await created(cluster, named("p", digest="other"))
        await until(lambda: "Succeeded" in phases)
        log, events = await cluster.read_log_tail("p"), await cluster.list_events(first)
        await cluster.delete_pod("p", "another")
        assert await cluster.get_pod("p") is not None
        await cluster.delete_pod("p", first.metadata.uid)
        await until(lambda: bool(gone))
        await cluster.delete_pod("p", first.metadata.uid)
        await watch.stop()
        return log, events

    log, events = within(namespace, use)
    assert "hello\n" == log
    assert "Scheduled" in {event.reason for event in events}
    assert ["p"] == gone
    assert sorted(phases, key=["Pending", "Running", "Succeeded"].index) == phases


def test_refusals(namespace: Namespace) -> None:
    """Each refusal of a real API server has its word, and is final or not as it should be."""
    wrong = named("p")
    wrong["spec"]["containers"][0]["image"] = ""
    unreadable = named("p", container={"resources": {"limits": {"cpu": "100ABC"}}})
    insecure = named("p", container={"securityContext": {"privileged": True}})
    accountless = named("p", serviceAccountName="nobody")

    async def use(cluster: Cluster) -> list[tuple[str, bool]]:
        seen = []
        for manifest in (wrong, unreadable, insecure, accountless):
            with pytest.raises(PodRefusedError) as refused:
                await created(cluster, manifest)
            seen.append((refused.value.reason, refused.value.transient))
        return seen

    assert [
        ("Invalid", False),
        ("BadRequest", False),
        ("PodSecurity", False),
        ("ServiceAccountNotFound", False),
    ] == within(namespace, use)


def test_quota_is_waited_for(namespace: Namespace) -> None:
    """A pod over the quota is tried only in a dry run's words, and made as soon as there is room (K3)."""
    namespace.make("resourcequotas", {"metadata": {"name": "one"}, "spec": {"hard": {"pods": "1"}}})
    said: list[str] = []

    async def use(cluster: Cluster) -> str:
        first = await created(cluster, named("a", "import time; time.sleep(60)"))
        with pytest.raises(PodRefusedError) as refused:
            await cluster.dry_run(named("b"))
        assert ("ExceededQuota", True) == (refused.value.reason, refused.value.transient)
        making = asyncio.ensure_future(
            cluster.create_pod(named("b"), deadline=time.monotonic() + 60, on_wait=said.append)
        )
        await until(lambda: bool(said))
        await cluster.delete_pod("a", first.metadata.uid, grace=0)
        return (await making).metadata.name

    assert "b" == within(namespace, use)
    assert "exceeded quota: one" in said[0]


def test_a_namespace_that_is_not_there(namespace: Namespace) -> None:
    """Pods in a namespace that does not exist are refused by its name (K4)."""

    async def use(cluster: Cluster) -> str:
        nowhere = Cluster(cluster._api, "rivers-test-nowhere")
        with pytest.raises(PodRefusedError) as refused:
            await created(nowhere, named("p"))
        return refused.value.reason

    assert "NamespaceNotFound" == within(namespace, use)


def test_permissions(namespace: Namespace) -> None:
    """What may be done is what the Role says, and what may not is refused with the API server's words (K2)."""
    access = account(namespace, "reader", [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}])

    async def use(cluster: Cluster) -> list[Any]:
        with pytest.raises(PodRefusedError) as refused:
            await created(cluster, named("p"))
        with pytest.raises(ApiError, match="403 Forbidden"):
            await cluster.get_lease("l")
        pods, _ = await cluster.list_pods("a=b")
        return [
            refused.value.reason,
            pods,
            await cluster.is_allowed("list", "pods"),
            await cluster.is_allowed("get", "pods", subresource="log"),
        ]

    assert ["NotPermitted", (), True, False] == within(namespace, use, access)


def test_leases(namespace: Namespace) -> None:
    """A lease is made, renewed by its version and deleted by its uid; its microseconds come back as they were."""
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "l"},
        "spec": {"holderIdentity": "me", "renewTime": "2026-01-01T00:00:00.000001Z", "leaseTransitions": 0},
    }

    async def use(cluster: Cluster) -> list[Any]:
        made = await cluster.create_lease(lease)
        again = await cluster.create_lease(lease)  # as after an answer that was lost
        renewed = await cluster.update_lease("l", {**made, "spec": {**made["spec"], "leaseTransitions": 1}})
        with pytest.raises(ApiError, match="409 Conflict"):
            await cluster.update_lease("l", {**made, "spec": {**made["spec"], "holderIdentity": "you"}})
        await cluster.delete_lease("l", "another")
        kept = await cluster.get_lease("l")
        await cluster.delete_lease("l", made["metadata"]["uid"])
        return [made == again, renewed == kept, await cluster.get_lease("l")]

    assert [True, True, None] == within(namespace, use)


def test_port_forward(namespace: Namespace) -> None:
    """Bytes go to a pod's port and back, over several connections, also many of them."""
    payloads = [b"x", os.urandom(100_000), os.urandom(2_000_000)]

    async def use(cluster: Cluster) -> list[bool]:
        await created(cluster, named("p", ECHO))
        await running(cluster, "p")
        for _ in range(200):
            if "listening" in await cluster.read_log_tail("p"):
                break
            await asyncio.sleep(0.05)
        forward = await cluster.port_forward("p", 7433)
        same = [await _echoed(forward.target, payload) for payload in payloads]
        await forward.close()
        with pytest.raises(ApiError, match="404"):
            await cluster.port_forward("another", 7433)
        return same

    assert [True] * len(payloads) == within(namespace, use)


async def _echoed(target: str, payload: bytes) -> bool:
    reader, writer = await asyncio.open_unix_connection(target.removeprefix("unix:"))

    async def send() -> None:
        writer.write(payload)
        await writer.drain()

    sending = asyncio.ensure_future(send())
    got = await asyncio.wait_for(reader.readexactly(len(payload)), 30)
    await sending
    writer.close()
    await writer.wait_closed()
    return got == payload


@pytest.mark.parametrize(
    ("verbs", "old", "new"), [("get", True, False), ("create", False, False), ("both", True, True)]
)
def test_verbs_of_port_forward(namespace: Namespace, verbs: str, old: bool, new: bool) -> None:
    """A WebSocket is a GET, so it needs the verb get, and from 1.35 on create as well."""
    allowed = ["get", "create"] if verbs == "both" else [verbs]
    rule = {"apiGroups": [""], "resources": ["pods/portforward"], "verbs": allowed}
    access = account(namespace, "forwarder", [rule])
    version = namespace.ask("GET", "/version")

    async def make(cluster: Cluster) -> None:
        await created(cluster, named("p", ECHO))
        await running(cluster, "p")

    async def use(cluster: Cluster) -> bool:
        try:
            await (await cluster.port_forward("p", 7433)).close()
        except ApiError as error:
            return error.status != 403
        return True

    within(namespace, make)
    minor = int(version["minor"].rstrip("+"))
    assert (new if minor >= 35 else old) is within(namespace, use, access)


def test_a_service_account_whose_token_is_rotated(namespace: Namespace, tmp_path: Path) -> None:
    """As in a pod: a token that is not accepted any more is read again from its file (K1, K47)."""
    outside = account(namespace, "controller", [{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}])
    endpoint = outside.endpoint
    assert endpoint.tls is not None
    authorities = [_pem(der) for der in endpoint.tls.get_ca_certs(binary_form=True)]
    (tmp_path / "ca.crt").write_text("".join(authorities))
    (tmp_path / "namespace").write_text(namespace.name)
    (tmp_path / "token").write_text("not.a.token")
    server = urlsplit(endpoint.server)
    environ = {"KUBERNETES_SERVICE_HOST": str(server.hostname), "KUBERNETES_SERVICE_PORT": str(server.port or 443)}
    access = load_api_config(None, environ, tmp_path)
    (tmp_path / "token").write_text(token_of(namespace, "controller"))

    async def use(cluster: Cluster) -> tuple[Pod, ...]:
        return (await cluster.list_pods("a=b"))[0]

    assert () == within(namespace, use, access)
    assert (True, namespace.name) == (access.in_cluster, access.namespace)


def _pem(der: bytes) -> str:
    return ssl.DER_cert_to_PEM_cert(der)
