"""What a real API server and a real kubelet make of the pods of attempts (K52)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

import pytest
from namespaces import Namespace

import rivers as rs
from rivers.exceptions import ConfigurationError
from rivers.protocol import Compute, ImportRef, StepSpec
from rivers.spi import check_pod_template
from rivers_executor_k8s.api.client import ApiError
from rivers_executor_k8s.pod.manifest import HOME, Owner, build_manifest, find_changes
from rivers_executor_k8s.pod.names import STEP_CONTAINER, is_ours, run_selector
from rivers_executor_k8s.pod.objects import Pod, PodList

pytestmark = pytest.mark.timeout(120)

IMAGE = os.environ.get("RIVERS_TEST_PYTHON_IMAGE", "localhost/python:3.11-slim")
"""Any image with a `python3` that the nodes have or can pull; it runs as root by itself."""
SMALL = {"worker_cpu": "20m", "worker_memory": "64Mi"}


def pod(namespace: Namespace, spec: Mapping[str, Any] | None = None, **settings: Any) -> dict[str, Any]:
    executor = rs.Executor.kubernetes("unused", **settings)
    attempt = StepSpec(
        run_id="Run/1 ä",
        step="shop/orders[2024-01-01]",
        attempt_id="Run/1 ä-7",
        function=ImportRef(module="shop", qualname="orders"),
        **(spec or {}),
    )
    return build_manifest(
        attempt,
        executor,
        image=IMAGE,
        namespace=namespace.name,
        certificate="Q0VSVA==",
        owner=Owner("controller", "7d6e7d0a-0000-4000-8000-000000000000"),
        template=executor.pod_template,  # type: ignore[arg-type]  # none of these is a path
        epoch=1,
    )


def dry_run(namespace: Namespace, made: Mapping[str, Any], *, kind: Any = Any) -> Any:
    """What the API server would make of a pod; a field that it does not know is an error."""
    query = {"dryRun": "All", "fieldValidation": "Strict"}
    return namespace.ask("POST", f"{namespace.path}/pods", made, query, kind)


@pytest.fixture
def account(namespace: Namespace) -> Namespace:
    """A namespace with the service account of worker pods."""
    namespace.make(
        "serviceaccounts", {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "rivers-executor"}}
    )
    return namespace


def held(given: Any, found: Any, path: str = "") -> list[str]:
    """Paths of what was given and is not found again."""
    if isinstance(given, Mapping):
        lost = [f"{path}.{name}" for name in given if name not in found]
        return lost + [
            one for name in given if name in found for one in held(given[name], found[name], f"{path}.{name}")
        ]
    if isinstance(given, list):
        pairs = zip(given, found, strict=False)
        return [path] * (len(given) > len(found)) + [
            o for n, (g, f) in enumerate(pairs) for o in held(g, f, f"{path}[{n}]")
        ]
    return [] if str(given) == str(found) else [path]


EVERYTHING: dict[str, Any] = {
    "metadata": {"labels": {"team": "data"}, "annotations": {"a.example/b": "c"}, "creationTimestamp": None},
    "spec": {
        "affinity": {"podAntiAffinity": {}},
        "automountServiceAccountToken": False,
        "dnsConfig": {"options": [{"name": "ndots", "value": "1"}]},
        "dnsPolicy": "Default",
        "enableServiceLinks": False,
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a"]}],
        "hostname": "worker",
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"disk": "ssd"},
        "os": {"name": "linux"},
        "readinessGates": [{"conditionType": "a.example/ready"}],
        "restartPolicy": "Never",
        "schedulerName": "other",
        "securityContext": {
            "fsGroup": 2000,
            "fsGroupChangePolicy": "Always",
            "runAsUser": None,
            "seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"},
            "seLinuxOptions": {"level": "s0:c1", "type": "container_t"},
            "supplementalGroups": [3000],
            "sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}],
        },
        "tolerations": [{"key": "batch", "operator": "Exists", "effect": "NoSchedule"}],
        "topologySpreadConstraints": [
            {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}}
        ],
        "volumes": [
            {"name": "a", "configMap": {"name": "c"}},
            {"name": "b", "csi": {"driver": "d.example"}},
            {"name": "c", "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            {"name": "d", "emptyDir": {"medium": "Memory"}},
            {"name": "f", "persistentVolumeClaim": {"claimName": "p"}},
            {"name": "g", "secret": {"secretName": "s"}},
            {
                "name": "h",
                "projected": {"sources": [{"serviceAccountToken": {"audience": "sts.example", "path": "t"}}]},
            },
            {"name": "rivers-tmp", "emptyDir": {"sizeLimit": "5Gi"}},
        ],
        "containers": [
            {
                "name": STEP_CONTAINER,
                "env": [
                    {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                    {"name": "RIVERS_ALLOW_PICKLE", "value": "1"},
                ],
                "envFrom": [{"secretRef": {"name": "s"}}],
                "resources": {"limits": {"ephemeral-storage": "8Gi"}},
                "volumeMounts": [{"name": "a", "mountPath": "/a", "readOnly": True}],
                "workingDir": "/app",
            },
            {
                "name": "log",
                "image": "log:1",
                "args": ["-v"],
                "livenessProbe": {"httpGet": {"port": 80, "path": "/"}},
                "ports": [{"containerPort": 80}],
                "securityContext": {"readOnlyRootFilesystem": False},
                "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
            },
        ],
        "initContainers": [{"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"}],
    },
}


class TestAdmitted:
    @pytest.mark.parametrize(
        ("spec", "settings"),
        [
            ({}, {}),
            ({"timeout": 3600.0}, {"image_pull_policy": "Never", "env": {"A": "$(x)"}}),
            ({"compute": Compute(cpu="1500m", memory="1536Mi", gpu="1")}, {"keep_failed_pods": True}),
            ({"compute": Compute(gpu="2")}, {"pod_template": EVERYTHING}),
        ],
    )
    def test_as_it_is(self, account: Namespace, spec: dict[str, Any], settings: dict[str, Any]) -> None:
        """The restricted standard admits every pod that rivers makes, and no field of it is dropped or changed."""
        made = pod(account, spec, **settings)
        found = dry_run(account, made)

        assert [] == held(made, found)

    def test_recognised(self, account: Namespace) -> None:
        """What comes back is recognised as ours and unchanged."""
        made = pod(account)
        found = dry_run(account, made, kind=Pod)

        assert is_ours(found, made)
        assert [] == find_changes(found, made)

    @pytest.mark.parametrize(
        "template",
        [
            {"securityContext": {"runAsUser": 0}},
            {"hostNetwork": True},
            {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]},
            {"containers": [{"name": STEP_CONTAINER, "securityContext": {"privileged": True}}]},
            {"containers": [{"name": STEP_CONTAINER, "securityContext": {"capabilities": {"add": ["SYS_ADMIN"]}}}]},
            {"containers": [{"name": "a", "image": "a:1", "ports": [{"containerPort": 1, "hostPort": 1}]}]},
            {"containers": [{"name": "a", "image": "a:1", "livenessProbe": {"tcpSocket": {"port": 1, "host": "x"}}}]},
        ],
    )
    def test_insecure(self, account: Namespace, template: dict[str, Any]) -> None:
        """What a template may loosen makes a valid pod, which the namespace's own standard has the last word on."""
        made = pod(account, pod_template={"spec": template}, allow_insecure_pod=True)

        with pytest.raises(ApiError, match='violates PodSecurity "restricted') as caught:
            dry_run(account, made)

        assert 403 == caught.value.status


@pytest.mark.parametrize(
    ("kind", "around"),
    [
        ("PodSpec", lambda inner: inner),
        ("Container", lambda inner: {"containers": [{"name": STEP_CONTAINER, **inner}]}),
        pytest.param(
            "Container", lambda inner: {"containers": [{"name": "a", "image": "a:1", **inner}]}, id="side-car"
        ),
        ("PodSecurityContext", lambda inner: {"securityContext": inner}),
        ("SecurityContext", lambda inner: {"containers": [{"name": STEP_CONTAINER, "securityContext": inner}]}),
        ("Volume", lambda inner: {"volumes": [{"name": "v", **inner}]}),
        ("VolumeMount", lambda inner: {"containers": [{"name": STEP_CONTAINER, "volumeMounts": [inner]}]}),
        ("VolumeProjection", lambda inner: {"volumes": [{"name": "v", "projected": {"sources": [inner]}}]}),
        ("EnvVar", lambda inner: {"containers": [{"name": STEP_CONTAINER, "env": [inner]}]}),
        ("Toleration", lambda inner: {"tolerations": [inner]}),
    ],
)
def test_every_field_is_judged(namespace: Namespace, kind: str, around: Any) -> None:
    """A pod has no field in this cluster that the check of templates has never heard of."""
    schemas = namespace.ask("GET", "/openapi/v3/api/v1")["components"]["schemas"]
    fields = schemas[f"io.k8s.api.core.v1.{kind}"]["properties"]
    unknown = []
    for field in fields:
        try:
            check_pod_template({"spec": around({field: "x"})}, allow_insecure=False)
        except ConfigurationError as error:
            unknown += [field] if error.message.endswith("this is none") else []

    assert fields
    assert [] == unknown


LOOK = """
import json, os, pathlib
def written(folder):
    try:
        pathlib.Path(folder, "x").write_text("x")
        return True
    except OSError as error:
        return error.strerror
print(json.dumps({
    "env": dict(os.environ), "ids": [os.getuid(), os.getgid()],
    "written": {folder: written(folder) for folder in ("/", "/tmp", os.path.expanduser("~"))},
    "token": os.path.exists("/var/run/secrets/kubernetes.io/serviceaccount/token"),
    "rights": [line.split()[1] for line in open("/proc/self/status") if line.startswith(("CapEff", "NoNewPrivs"))],
}))
"""


def test_inside(account: Namespace) -> None:
    """In the pod: no root, no token, no rights to gain, only its own folders to write to, and variables as given."""
    values = {"A": "$(HOME) $$ $", "B": "$(RIVERS_RUN_ID)"}
    made = pod(account, pod_template={"spec": {"dnsPolicy": "Default"}}, env=values, **SMALL)
    made["metadata"].pop("ownerReferences")
    made["spec"]["containers"][0]["command"] = ["python3", "-c", LOOK]
    account.create(made)
    name = made["metadata"]["name"]
    account.until(lambda: account.pod(name).status.phase in ("Succeeded", "Failed") or None, 60.0)
    seen = account.ask("GET", f"{account.path}/pods/{name}/log", query={"container": STEP_CONTAINER})

    assert values.items() <= seen["env"].items()
    assert {"RIVERS_RUN_ID": "Run/1 ä", "RIVERS_WORKER": name, "HOME": HOME}.items() <= seen["env"].items()
    assert [] == [one for one in seen["env"] if one.endswith("_SERVICE_HOST") and not one.startswith("KUBERNETES_")]
    assert [10001, 10001] == seen["ids"]
    assert {"/": "Read-only file system", "/tmp": True, HOME: True} == seen["written"]
    assert seen["token"] is False
    assert ["0000000000000000", "1"] == seen["rights"]


def test_selected(account: Namespace) -> None:
    """A run's pods are found by its selector, whatever its id is made of."""
    made = pod(account, **SMALL)
    made["metadata"].pop("ownerReferences")
    account.create(made)
    found = account.ask("GET", f"{account.path}/pods", query={"labelSelector": run_selector("Run/1 ä")}, kind=PodList)

    assert [made["metadata"]["name"]] == [one.metadata.name for one in found.items]
    assert made["metadata"]["labels"] == found.items[0].metadata.labels
