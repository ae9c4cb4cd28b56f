"""Statuses of a real kubelet and scheduler for pending and ended pods are understood."""

from __future__ import annotations

import os
from typing import Any

import pytest
from namespaces import Namespace

from rivers.protocol import Ending, FailureReason, StepResult
from rivers_executor_k8s.pod.classify import classify_pod_end
from rivers_executor_k8s.pod.names import STEP_CONTAINER
from rivers_executor_k8s.pod.objects import Pod
from rivers_executor_k8s.pod.pending import PendingCause, find_cause

pytestmark = [pytest.mark.long, pytest.mark.timeout(120)]

IMAGE = os.environ.get("RIVERS_TEST_PYTHON_IMAGE", "localhost/python:3.11-slim")
"""Any image with a `python3` that the nodes have or can pull; it runs as root by itself."""
ATTEMPT = "run/step/1"
SLEEP = "import time; time.sleep(600)"
STARTS = 60.0


def pod(
    code: str = SLEEP, *, container: dict[str, Any] | None = None, user: bool = True, **spec: Any
) -> dict[str, Any]:
    """A pod that the restricted standard admits; its container is the worker's."""
    security: dict[str, Any] = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    if user:
        security["runAsUser"] = 10001
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "p"},
        "spec": {
            "restartPolicy": "Never",
            "dnsPolicy": "Default",
            "terminationGracePeriodSeconds": 1,
            "automountServiceAccountToken": False,
            "securityContext": security,
            "containers": [one(STEP_CONTAINER, code) | (container or {})],
            **spec,
        },
    }


def one(name: str, code: str) -> dict[str, Any]:
    return {
        "name": name,
        "image": IMAGE,
        "command": ["python3", "-c", code],
        "resources": {"requests": {"cpu": "20m", "memory": "16Mi"}, "limits": {"memory": "64Mi"}},
        "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
    }


def cause_in(namespace: Namespace, word: str, seconds: float = 20.0) -> PendingCause:
    """The cause of this word, once the cluster tells it."""

    def find() -> PendingCause | None:
        cause = find_cause(namespace.pod("p"), namespace.events("p"))
        return cause if cause is not None and cause.reason == word else None

    return namespace.until(find, seconds)


def end_in(namespace: Namespace, *, within: float = STARTS) -> StepResult:
    """How the pod's attempt ended, once it has."""

    def find() -> Pod | None:
        seen = namespace.pod("p")
        status = seen.container(STEP_CONTAINER)
        over = seen.status.phase in ("Failed", "Succeeded") or (status is not None and status.state.terminated)
        return seen if over else None

    return classify_pod_end(ATTEMPT, namespace.until(find, within), started=True)


def runs(namespace: Namespace) -> None:
    def find() -> bool | None:
        status = namespace.pod("p").container(STEP_CONTAINER)
        return True if status is not None and status.state.running is not None else None

    namespace.until(find, STARTS)


def from_map(name: str) -> dict[str, Any]:
    return {"envFrom": [{"configMapRef": {"name": name}}]}


PENDING = [
    (pod(nodeSelector={"rivers.io/nobody": "has-this"}), "Unschedulable", False, "nodes are available"),
    (pod(container={"image": "rivers-worker:latest+07"}), "InvalidImageName", True, "rivers-worker:latest+07"),
    (
        pod(container={"image": "localhost/missing:1", "imagePullPolicy": "Never"}),
        "ErrImageNeverPull",
        True,
        "'localhost/missing:1' is not on node",
    ),
    (pod(container={"image": "127.0.0.1:1/missing:1"}), "ErrImagePull", False, "connection refused"),
    (pod(container=from_map("nope")), "CreateContainerConfigError", True, 'configmap "nope" not found'),
    (
        pod(container={"envFrom": [{"secretRef": {"name": "nope"}}]}),
        "CreateContainerConfigError",
        True,
        'secret "nope" not found',
    ),
    (pod(user=False), "CreateContainerConfigError", True, "image will run as root"),
    (
        pod(
            volumes=[{"name": "v", "secret": {"secretName": "nope"}}],
            container={"volumeMounts": [{"name": "v", "mountPath": "/v"}]},
        ),
        "FailedMount",
        True,
        'secret "nope" not found',
    ),
    (pod(initContainers=[one("setup", SLEEP)]), "Initializing", False, "init container 'setup' runs"),
]


@pytest.mark.parametrize(
    ("manifest", "word", "fatal", "text"), PENDING, ids=[f"{word}-{text[:20]}" for _, word, _, text in PENDING]
)
def test_pending(namespace: Namespace, manifest: dict[str, Any], word: str, fatal: bool, text: str) -> None:
    """The cluster's own words for a pod that does not start become the cause, fatal or not."""
    namespace.create(manifest)
    cause = cause_in(namespace, word)

    assert fatal is cause.fatal
    assert text in cause.message


def test_a_missing_key(namespace: Namespace) -> None:
    """A ConfigMap that lacks the key is as good as none."""
    namespace.make("configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "here"}})
    source = {"configMapKeyRef": {"name": "here", "key": "nope"}}
    namespace.create(pod(container={"env": [{"name": "A", "valueFrom": source}]}))
    cause = cause_in(namespace, "CreateContainerConfigError")

    assert cause.fatal
    assert "find key nope in ConfigMap" in cause.message


def test_a_config_map_that_comes_late(namespace: Namespace) -> None:
    """A cause goes away when what was missing is made, and the pod starts: that is what the patience is for."""
    namespace.create(pod(container=from_map("late")))
    assert cause_in(namespace, "CreateContainerConfigError").patience > 0
    namespace.make("configmaps", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "late"}})
    runs(namespace)

    assert find_cause(namespace.pod("p"), namespace.events("p")) is None


EATS = "x = bytearray(256 << 20)\nfor i in range(0, len(x), 4096): x[i] = 1"
FILLS = "import time\nwith open('/w/f', 'wb') as f: f.write(bytes(32 << 20))\ntime.sleep(600)"
ENDS = [
    (pod(EATS), FailureReason.OUT_OF_MEMORY, True, "container reason OOMKilled; memory ? of 64 MiB"),
    (pod("raise SystemExit(0)"), FailureReason.INFRASTRUCTURE, True, "exited with code 0 before committing"),
    (pod("raise SystemExit(14)"), FailureReason.INFRASTRUCTURE, False, "another version of the protocol"),
    (pod("import ctypes; ctypes.string_at(0)"), FailureReason.INFRASTRUCTURE, True, "killed by SIGSEGV (11)"),
    (pod(activeDeadlineSeconds=5), FailureReason.TIMEOUT, True, "stopped for its timeout"),
    (
        pod(container={"command": ["rivers-worker", "serve"]}),
        FailureReason.INFRASTRUCTURE,
        False,
        f"rivers-worker was not found in image {IMAGE!r}",
    ),
    (
        pod(initContainers=[one("setup", "raise SystemExit(3)")]),
        FailureReason.INFRASTRUCTURE,
        True,
        "init container 'setup' exited with code 3",
    ),
]


@pytest.mark.parametrize(
    ("manifest", "reason", "transient", "text"), ENDS, ids=[f"{text[:30]}" for _, _, _, text in ENDS]
)
def test_ends(
    namespace: Namespace, manifest: dict[str, Any], reason: FailureReason, transient: bool, text: str
) -> None:
    """A container's end as the kubelet tells it is classified, and told in words."""
    namespace.create(manifest)
    result = end_in(namespace)

    assert Ending.FAILED is result.ending
    assert result.failure is not None
    assert (reason, transient) == (result.failure.reason, result.failure.transient)
    assert text in result.failure.message


@pytest.mark.timeout(240)
def test_too_much_in_an_empty_dir(namespace: Namespace) -> None:
    """The kubelet evicts a pod that fills its volume, and its words are told; it looks once a minute."""
    mount = {"volumeMounts": [{"name": "w", "mountPath": "/w"}]}
    namespace.create(pod(FILLS, volumes=[{"name": "w", "emptyDir": {"sizeLimit": "4Mi"}}], container=mount))
    result = end_in(namespace, within=200.0)

    assert result.failure is not None
    assert result.failure.evidence is not None
    assert (FailureReason.INFRASTRUCTURE, "Evicted") == (
        result.failure.reason,
        result.failure.evidence.container_reason,
    )
    assert 'Usage of EmptyDir volume "w" exceeds the limit "4Mi"' in result.failure.message


def test_a_side_car_that_stays(namespace: Namespace) -> None:
    """The worker's end counts while another container of the pod runs on."""
    manifest = pod("raise SystemExit(0)")
    manifest["spec"]["containers"].append(one("proxy", SLEEP))
    namespace.create(manifest)

    assert "exited with code 0" in (end_in(namespace).failure or pytest.fail("no failure")).message
    assert namespace.pod("p").status.phase != "Succeeded"


@pytest.mark.parametrize(("how", "word"), [("delete", "Deleted"), ("evict", "Evicted")])
def test_taken_away(namespace: Namespace, how: str, word: str) -> None:
    """A pod that somebody deletes or evicts is lost; the last that is seen of it says by whom."""
    # The finalizer keeps the object, so that its last status can be read at leisure.
    manifest = pod()
    manifest["metadata"]["finalizers"] = ["rivers.io/test"]
    namespace.create(manifest)
    runs(namespace)
    if how == "delete":
        namespace.delete("p")
    else:
        namespace.evict("p")
    result = end_in(namespace)
    namespace.unpin("p")

    assert result.failure is not None
    assert result.failure.evidence is not None
    assert (FailureReason.INFRASTRUCTURE, word) == (result.failure.reason, result.failure.evidence.container_reason)
