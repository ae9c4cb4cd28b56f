"""The Roles that preflight prints and those in `deploy/` are one; what is deployed is safe and fits together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from rivers_executor_k8s.pod.names import MANAGED, PORT
from rivers_executor_k8s.pod.roles import (
    OPTIONAL,
    OUTSIDE,
    REQUIRED,
    WARM,
    Permission,
    required_permissions,
    role_name,
    role_yaml,
)

ROOT = Path(__file__).parents[3]
DEPLOY = ROOT / "deploy"
Rights = set[tuple[str, str, str]]

pytestmark = pytest.mark.skipif(not DEPLOY.is_dir(), reason="deploy/ is part of the repository, not of the package")


def documents(folder: Path) -> list[dict[str, Any]]:
    """Every object of a kustomization."""
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    texts = [(folder / name).read_text() for name in kustomization["resources"]]
    return [document for text in texts for document in yaml.safe_load_all(text)]


def one(kind: str, name: str | None = None, folder: Path = DEPLOY) -> Any:
    found = [d for d in documents(folder) if d["kind"] == kind and name in (None, d["metadata"]["name"])]
    assert 1 == len(found), f"{kind} {name}"
    return found[0]


def rights(role: dict[str, Any]) -> Rights:
    return {
        (group, resource, verb)
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }


def of(*permissions: Permission) -> Rights:
    return {(permission.group, permission.target, permission.verb) for permission in permissions}


# ---- the Roles ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outside", [False, True])
def test_the_printed_role_is_the_published_one(outside: bool) -> None:
    """The Role that preflight prints equals the one in `deploy/` and the permissions in the code."""
    printed = yaml.safe_load(role_yaml("rivers", outside))
    published = one("Role", role_name(outside))

    assert rights(published) == rights(printed) == of(*required_permissions(outside), *OPTIONAL)
    assert ("rivers", role_name(outside)) == (printed["metadata"]["namespace"], printed["metadata"]["name"])


@pytest.mark.parametrize("outside", [False, True])
def test_warm_pods_need_one_right_more(outside: bool) -> None:
    """It is asked for with `worker_reuse="run"` only, and published in a Role that is bound to nobody."""
    more = rights(one("Role", "rivers-controller-warm"))

    assert {("", "pods", "patch")} == more == of(*WARM)
    assert not more & of(*required_permissions(outside))
    assert more <= of(*required_permissions(outside, True))
    assert more <= rights(yaml.safe_load(role_yaml("rivers", outside, True)))


def test_the_rights_themselves() -> None:
    """They are these thirteen and no other: none on Secrets, none to exec or attach, none to change a pod."""
    leases = "coordination.k8s.io"
    inside = {("", "pods", verb) for verb in ("create", "get", "list", "watch", "delete")}
    inside |= {(leases, "leases", verb) for verb in ("create", "get", "list", "update", "delete")}
    inside |= {("", "pods/log", "get")}

    assert inside == of(*REQUIRED)
    assert {("", "pods/portforward", "get"), ("", "pods/portforward", "create")} == of(*OUTSIDE)
    assert {("", "events", "list")} == of(*OPTIONAL)


def test_every_right_has_a_reason() -> None:
    """The reason is there for the page on permissions, and no right is asked for twice."""
    everything = (*REQUIRED, *OUTSIDE, *WARM, *OPTIONAL)

    assert all(permission.why for permission in everything)
    assert len(everything) == len(of(*everything))


def test_how_a_right_is_told() -> None:
    """A missing right is named as `kubectl auth can-i` takes it, with its group."""
    told = [str(permission) for permission in (REQUIRED[0], REQUIRED[5], REQUIRED[6])]

    assert ["create pods", "get pods/log", "create leases (coordination.k8s.io)"] == told


# ---- what is deployed -----------------------------------------------------------------------------------------------


def test_nothing_reaches_beyond_the_namespace() -> None:
    """No ClusterRole, no ClusterRoleBinding, no custom resource, no Secret, in either kustomization."""
    kinds = {document["kind"] for folder in (DEPLOY, DEPLOY / "job") for document in documents(folder)}

    assert {"Namespace", "ServiceAccount", "Role", "RoleBinding", "NetworkPolicy", "Job"} == kinds


def test_every_file_is_deployed() -> None:
    """A manifest that no kustomization names is none, but for the example of a quota, which is applied by itself."""
    for folder, apart in ((DEPLOY, {"resource-quota.yaml"}), (DEPLOY / "job", {"pod-template.yaml"})):
        there = {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
        kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())

        assert there - apart == set(kustomization["resources"])
        assert "rivers" == kustomization["namespace"]
    assert "ResourceQuota" == yaml.safe_load((DEPLOY / "resource-quota.yaml").read_text())["kind"]


def test_the_namespace_is_restricted() -> None:
    """The pod security standard is enforced, audited and warned of."""
    labels = one("Namespace")["metadata"]["labels"]
    modes = {f"pod-security.kubernetes.io/{mode}" for mode in ("enforce", "audit", "warn")}

    assert dict.fromkeys(modes, "restricted") == labels


@pytest.mark.parametrize("name", ["rivers-controller", "rivers-executor"])
def test_no_token_unless_it_is_asked_for(name: str) -> None:
    """Neither account hands its token to pods by itself."""
    assert one("ServiceAccount", name)["automountServiceAccountToken"] is False


def test_workers_have_no_rights() -> None:
    """The one binding is the controller's."""
    binding = one("RoleBinding")

    assert [("ServiceAccount", "rivers-controller")] == [(s["kind"], s["name"]) for s in binding["subjects"]]
    assert ("Role", role_name(outside=False)) == (binding["roleRef"]["kind"], binding["roleRef"]["name"])


def test_the_binding_follows_the_kustomizations_namespace() -> None:
    """A namespace written into the subject would stay where somebody's own kustomization names another one."""
    assert [] == [subject for subject in one("RoleBinding")["subjects"] if "namespace" in subject]


def test_who_may_connect_to_workers() -> None:
    """Only pods labelled as controllers reach the port that workers listen on; egress is not touched."""
    spec = one("NetworkPolicy")["spec"]
    key, _, value = MANAGED.partition("=")
    controllers = one("Job", folder=DEPLOY / "job")["spec"]["template"]["metadata"]["labels"]

    assert {key: value} == spec["podSelector"]["matchLabels"]
    assert ["Ingress"] == spec["policyTypes"]
    assert [
        {"from": [{"podSelector": {"matchLabels": controllers}}], "ports": [{"protocol": "TCP", "port": PORT}]}
    ] == spec["ingress"]
    assert key not in controllers


# ---- the Job --------------------------------------------------------------------------------------------------------


def test_the_job_meets_the_restricted_standard() -> None:
    """Its pod is not root, keeps no capability, writes to no root file system, and asks for its token."""
    spec = one("Job", folder=DEPLOY / "job")["spec"]["template"]["spec"]
    container = spec["containers"][0]

    assert ("rivers-controller", True) == (spec["serviceAccountName"], spec["automountServiceAccountToken"])
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert "RuntimeDefault" == spec["securityContext"]["seccompProfile"]["type"]
    assert {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    } == container["securityContext"]
    assert all(set(volume) <= {"name", "emptyDir", "configMap"} for volume in spec["volumes"])


def test_the_job_is_a_controller_that_runs_once() -> None:
    """It knows its own pod, so that workers' pods belong to it; a run that failed is not begun again by the cluster."""
    job = one("Job", folder=DEPLOY / "job")["spec"]
    spec = job["template"]["spec"]
    env = {entry["name"]: entry for entry in spec["containers"][0]["env"]}

    assert (0, "Never") == (job["backoffLimit"], spec["restartPolicy"])
    assert "metadata.name" == env["RIVERS_POD_NAME"]["valueFrom"]["fieldRef"]["fieldPath"]


def test_the_jobs_image_and_template() -> None:
    """The image is the placeholder that the kustomization replaces; the workers' template is the example's own."""
    kustomization = yaml.safe_load((DEPLOY / "job" / "kustomization.yaml").read_text())
    image = one("Job", folder=DEPLOY / "job")["spec"]["template"]["spec"]["containers"][0]["image"]

    assert "rivers-flights:0.1" == image
    assert [image] == [f"{entry['name']}:{entry['newTag']}" for entry in kustomization["images"]]
    assert ["pod-template.yaml"] == kustomization["configMapGenerator"][0]["files"]
    template = (DEPLOY / "job" / "pod-template.yaml").read_text()
    assert (ROOT / "examples" / "flights" / "pod.yaml").read_text() == template
