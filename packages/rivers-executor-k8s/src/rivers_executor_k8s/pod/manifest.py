"""Build the pod of an attempt from rivers' settings and the user's template.

    defaults  <  the template  <  required fields

The defaults meet the pod security standard `restricted` and more; a template that passed `check_pod_template` can
change them but not loosen them. The required fields make the pod a worker of rivers. Nothing in the manifest is secret:
the controller's certificate is public, and Secrets that a template names are not read here.

A warm pod serves attempts one after another. It has no deadline, since that of its first attempt would end a later one:
its worker ends itself without a controller (`orphan_ttl`) or without an attempt, and the controller ends the attempts.

`hostUsers: false` would isolate the pod further. It is left to templates, as nodes without user namespaces refuse it.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from rivers.protocol import ImportRef, StepSpec
from rivers.spi import Executor
from rivers_executor_k8s.pod.names import (
    DIGEST,
    OF_ATTEMPT,
    PORT,
    STEP_CONTAINER,
    WORKER_ATTEMPT,
    build_annotations,
    build_labels,
    pod_name,
)
from rivers_executor_k8s.pod.objects import Container, Pod
from rivers_executor_k8s.pod.template import merge_template

__all__ = ["HOME", "Owner", "build_manifest", "build_shape", "find_changes"]

# The user and group of the body. Any but root would do; the rivers-worker image has this one.
USER = 10001
# The folder that a body may write to, beside /tmp: the rest of its file system is read-only
HOME = "/home/rivers"
HOME_SIZE, TMP_SIZE = "1Gi", "2Gi"
# Request and limit of the disk space for both folders and the log
LEAST_DISK, MOST_DISK = "256Mi", "4Gi"
# Seconds that a pod stays bound to a node that does not answer; the cluster's default is 300
UNREACHABLE = 60
# Seconds for the worker's start and end beyond what is limited otherwise: the deadline ends what nobody else could
SLACK = 60.0
# Seconds for which an unused warm worker outlives `idle_ttl`, in case nobody deletes its pod
IDLE_SLACK = 60.0
# Volumes of ours that a step may write to and the next one must not see
SCRATCH_VOLUMES = ("rivers-tmp", "rivers-home")
_encode = msgspec.json.Encoder(order="sorted").encode
_MOST_SECONDS = 2**31 - 1
# Fields that differ between the pods of two attempts though these are interchangeable
TEXTS = ("labels", "annotations")
ENV_OF_ATTEMPT = frozenset({"RIVERS_ATTEMPT_ID", "RIVERS_WORKER", "RIVERS_MODULES"})
_GPU, _DISK = "nvidia.com/gpu", "ephemeral-storage"


@dataclass(frozen=True, slots=True)
class Owner:
    """The object that Kubernetes deletes pods with: the controller's pod, or the Lease of a durable run."""

    name: str
    uid: str
    kind: str = "Pod"
    api_version: str = "v1"

    def reference(self) -> dict[str, Any]:
        """Return an entry for `ownerReferences`; blocking the owner's deletion would need another permission."""
        return {
            "apiVersion": self.api_version,
            "kind": self.kind,
            "name": self.name,
            "uid": self.uid,
            "blockOwnerDeletion": False,
        }


def build_manifest(
    spec: StepSpec,
    executor: Executor.Kubernetes,
    *,
    image: str,
    namespace: str,
    certificate: str,
    owner: Owner | None,
    template: Mapping[str, Any] | None,
    epoch: int,
    nonce: int = 0,
    is_warm: bool = False,
) -> dict[str, Any]:
    """Return the manifest of an attempt's pod; equal arguments give equal manifests.

    `certificate` is the controller's, as base64 of DER, `template` a checked one. A pod that `is_warm` serves other
    attempts of the run afterwards. An annotation holds the digest of the whole manifest (see `names.is_ours`).
    """
    name = pod_name(spec.step, spec.attempt_id, nonce)
    given = {key: template[key] for key in template} if template is not None else {}
    env = _env(spec, executor, name, certificate) + (_warm_env(executor) if is_warm else [])
    metadata = {
        "name": name,
        "namespace": namespace,
        "labels": build_labels(spec, keep_failed=executor.keep_failed_pods),
        "annotations": build_annotations(spec, epoch=epoch, is_warm=is_warm),
        **({"ownerReferences": [owner.reference()]} if owner is not None else {}),
    }
    required = _required(spec, executor, image, env)
    if is_warm:
        required.pop("activeDeadlineSeconds", None)
    ours = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": required}
    pod = merge_template(merge_template({"spec": _build_defaults(given, env)}, given), ours)
    if is_warm:
        _name_scratch_folders(pod["spec"])
    pod["metadata"]["annotations"][DIGEST] = hashlib.sha256(_encode(pod)).hexdigest()
    return pod


def build_shape(manifest: Mapping[str, Any]) -> str:
    """Return the digest of what warm pods must have in common: the manifest without the fields of its attempt."""
    metadata = manifest["metadata"]
    own = OF_ATTEMPT | {WORKER_ATTEMPT}
    texts = {part: {key: metadata[part][key] for key in metadata[part].keys() - own} for part in TEXTS}
    spec = {**manifest["spec"], "containers": list(map(_without_attempt, manifest["spec"]["containers"]))}
    shape = {**manifest, "metadata": {**metadata, "name": "", **texts}, "spec": spec}
    return hashlib.sha256(_encode(shape)).hexdigest()


def _without_attempt(container: Mapping[str, Any]) -> Mapping[str, Any]:
    if container["name"] != STEP_CONTAINER:
        return container
    return {**container, "env": [one for one in container["env"] if one["name"] not in ENV_OF_ATTEMPT]}


def find_changes(pod: Pod, manifest: Mapping[str, Any]) -> list[str]:
    """Return the changes that admission webhooks have made to the worker's image and command."""
    wanted = next(one for one in manifest["spec"]["containers"] if one["name"] == STEP_CONTAINER)
    made = next((one for one in pod.spec.containers if one.name == STEP_CONTAINER), Container())
    pairs: tuple[tuple[str, object, object], ...] = (
        ("image", made.image, wanted["image"]),
        ("command", list(made.command), wanted["command"]),
        ("args", list(made.args), []),
    )
    return [f"{name} {now!r} instead of {was!r}" for name, now, was in pairs if now != was]


# ── required fields ──


def _required(spec: StepSpec, executor: Executor.Kubernetes, image: str, env: list[dict[str, Any]]) -> dict[str, Any]:
    amounts = _amounts(spec, executor)
    worker: dict[str, Any] = {
        "name": STEP_CONTAINER,
        "image": image,
        "command": ["rivers-worker", "serve"],
        "ports": [{"name": "grpc", "containerPort": PORT, "protocol": "TCP"}],
        "env": [*_literal(executor.env), *env],
        "resources": {"requests": amounts, "limits": amounts},
        "terminationMessagePath": "/dev/termination-log",
        "terminationMessagePolicy": "FallbackToLogsOnError",  # the last lines of one that ended without a word
    }
    if executor.image_pull_policy is not None:
        worker["imagePullPolicy"] = executor.image_pull_policy
    must: dict[str, Any] = {
        "restartPolicy": "Never",
        "serviceAccountName": executor.service_account,
        "terminationGracePeriodSeconds": _seconds(executor.grace),
        "containers": [worker],
    }
    if spec.timeout is not None:
        waits = executor.startup_timeout + executor.grace + executor.orphan_ttl
        must["activeDeadlineSeconds"] = _seconds(spec.timeout + waits + SLACK)
    return must


def _amounts(spec: StepSpec, executor: Executor.Kubernetes) -> dict[str, str]:
    """Return the resources of the attempt."""
    # The same amounts are request and limit, so that neighbours cannot take them.
    compute = spec.compute
    amounts = {
        "cpu": (compute.cpu if compute is not None else None) or executor.worker_cpu,
        "memory": (compute.memory if compute is not None else None) or executor.worker_memory,
    }
    if compute is not None and compute.gpu is not None:
        amounts[_GPU] = compute.gpu
    return amounts


def _env(spec: StepSpec, executor: Executor.Kubernetes, name: str, certificate: str) -> list[dict[str, Any]]:
    """Return the worker's environment; a template's variables may refer to it."""
    functions = [spec.function, *(step.function for step in spec.inner)]
    modules = dict.fromkeys(ref.module for ref in functions if isinstance(ref, ImportRef))
    variables = {
        "RIVERS_RUN_ID": spec.run_id,
        "RIVERS_ATTEMPT_ID": spec.attempt_id,
        "RIVERS_CONTROLLER_CERTIFICATE": certificate,
        "RIVERS_LISTEN": f"[::]:{PORT}",
        "RIVERS_WORKER": name,
        "RIVERS_ORPHAN_TTL": str(executor.orphan_ttl),
        "RIVERS_GRACE": str(executor.grace),
    }
    if modules:
        variables["RIVERS_MODULES"] = ",".join(modules)
    return _literal(variables)


def _warm_env(executor: Executor.Kubernetes) -> list[dict[str, Any]]:
    idle = str(executor.idle_ttl + IDLE_SLACK)
    return _literal({"RIVERS_MAX_ATTEMPTS": str(executor.max_steps_per_worker), "RIVERS_IDLE_TTL": idle})


def _name_scratch_folders(spec: dict[str, Any]) -> None:
    """Have the worker empty our volumes after each attempt, unless the template has replaced one."""
    worker = next(one for one in spec["containers"] if one["name"] == STEP_CONTAINER)
    ours = {one["name"] for one in spec["volumes"] if one["name"] in SCRATCH_VOLUMES and "emptyDir" in one}
    folders = [mount["mountPath"] for mount in worker["volumeMounts"] if mount["name"] in ours]
    worker["env"] = [*worker["env"], *_literal({"RIVERS_SCRATCH": ":".join(folders)})] if folders else worker["env"]


def _literal(variables: Mapping[str, str]) -> list[dict[str, Any]]:
    """Return environment variables with literal values: Kubernetes would expand `$(NAME)`."""
    return [{"name": name, "value": value.replace("$", "$$")} for name, value in variables.items()]


def _seconds(amount: float) -> int:
    """Round seconds up, to the largest number that Kubernetes accepts at most."""
    return math.ceil(min(amount, _MOST_SECONDS))


# ── defaults ──


def _build_defaults(given: Mapping[str, Any], env: list[dict[str, Any]]) -> dict[str, Any]:
    spec = given.get("spec") or {}
    ids = {"runAsUser": USER, "runAsGroup": USER, "fsGroup": USER}
    defaults: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "securityContext": {
            "runAsNonRoot": (spec.get("securityContext") or {}).get("runAsUser") != 0,
            **ids,
            "fsGroupChangePolicy": "OnRootMismatch",  # a big volume is not walked through before every step
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "tolerations": [
            {"key": f"node.kubernetes.io/{state}", "operator": "Exists", "effect": "NoExecute"}
            | {"tolerationSeconds": UNREACHABLE}
            for state in ("not-ready", "unreachable")
        ],
        "volumes": [
            {"name": "rivers-tmp", "emptyDir": {"sizeLimit": TMP_SIZE}},
            {"name": "rivers-home", "emptyDir": {"sizeLimit": HOME_SIZE}},
        ],
    }
    worker: Mapping[str, Any] = {"name": STEP_CONTAINER}
    others = {}
    for kind in ("containers", "initContainers"):
        containers = spec.get(kind) or ()
        worker = next((one for one in containers if one["name"] == STEP_CONTAINER), worker)
        others[kind] = [_side_car(one) for one in containers if one["name"] != STEP_CONTAINER]
    defaults["containers"] = [_worker(worker, env), *others["containers"]]
    return defaults | ({"initContainers": others["initContainers"]} if others["initContainers"] else {})


def _worker(given: Mapping[str, Any], env: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the defaults of the worker's container; `given` is the template's."""
    resources = {} if _names_disk(given) else {"requests": {_DISK: LEAST_DISK}, "limits": {_DISK: MOST_DISK}}
    return {
        "name": STEP_CONTAINER,
        # Kubernetes expands a variable only in later ones: ours precede those of a template, which may refer to them.
        "env": [*(env if given.get("env") else ()), *_literal({"HOME": HOME})],
        "resources": resources,
        "volumeMounts": [
            {"name": "rivers-tmp", "mountPath": "/tmp"},  # noqa: S108 - the pod's own
            {"name": "rivers-home", "mountPath": HOME},
        ],
        "securityContext": {**_security(given), "readOnlyRootFilesystem": True},
    }


def _names_disk(container: Mapping[str, Any]) -> bool:
    resources = container.get("resources") or {}
    return any(_DISK in (resources.get(kind) or {}) for kind in ("requests", "limits"))


def _side_car(given: Mapping[str, Any]) -> dict[str, Any]:
    return {"name": given["name"], "securityContext": _security(given)}


def _security(given: Mapping[str, Any]) -> dict[str, Any]:
    """Return a container's restrictions, less those that contradict a setting of its template."""
    context = given.get("securityContext") or {}
    restricted: dict[str, Any] = {"capabilities": {"drop": ["ALL"]}}
    added = (context.get("capabilities") or {}).get("add") or ()
    if not (context.get("privileged") or {"SYS_ADMIN", "CAP_SYS_ADMIN"}.intersection(added)):
        restricted["allowPrivilegeEscalation"] = False
    if context.get("runAsUser") == 0:
        restricted["runAsNonRoot"] = False
    return restricted
