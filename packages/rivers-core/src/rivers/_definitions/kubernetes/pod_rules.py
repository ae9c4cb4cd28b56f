"""The rules for pod templates, as tables by the position in a Pod.

    "spec.hostPID"                    a field of the pod's spec
    "worker.image"                    of the container `rivers-step`
    "sidecar.ports", "port.hostPort"  of any other container; of one of its ports
    "securityContext.privileged"      of any security context, the pod's and the containers'

`OWNED` fields are set by rivers and always refused. `SAFE` fields may not loosen the pod below the `restricted` pod
security standard (kubernetes.io/docs/concepts/security/pod-security-standards). What is in no table is left to the API
server, except where an unknown field could loosen the pod:

    closed, only fields of a table    security contexts with all that is in them, kinds of volumes, projected sources
    open, but no name like `host…`    a pod's spec, containers, ports
    open                              everything else
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

__all__ = ["CLOSED", "LISTS", "OBJECTS", "OPEN_TO_HOSTS", "OWNED", "SAFE", "SAME_RULES", "SUSPICIOUS"]


class Owned(NamedTuple):
    """A field that rivers sets: `hint` says why, or how to set it; only `same` values may be given."""

    hint: str
    same: tuple[Any, ...] = ()


class Safe(NamedTuple):
    """A field that may hold what `accepts` takes and `expected` describes."""

    accepts: Callable[[Any], bool]
    expected: str


def _each(at: str, names: str, rule: Any) -> dict[str, Any]:
    return {f"{at}.{name}": rule for name in names.split()}


def _one_of(*values: Any) -> Safe:
    # By type, too: 0 is not False, and True is not 1.
    known = {(type(value), value) for value in values}
    expected = " or ".join(map(repr, values))
    return Safe(lambda given: isinstance(given, str | int) and (type(given), given) in known, expected)


_PROGRAM = Owned("the worker is the image's program rivers-worker")
_WATCHED = Owned("rivers watches its worker itself")
_RETRY = "a retry is another pod: write rs.RetryPolicy(…)"
_CLUSTER = Owned("the cluster sets it")
_AMOUNTS = {
    f"worker.resources.{kind}.{name}": Owned(
        f"write rs.Executor.kubernetes(worker_{name}=…), or compute= of an asset or task"
    )
    for kind in ("requests", "limits")
    for name in ("cpu", "memory")
}
OWNED: Mapping[str, Owned] = {
    "apiVersion": Owned("a template is a Pod", ("v1",)),
    "kind": Owned("a template is a Pod", ("Pod",)),
    "status": Owned("the cluster sets it", ({},)),
    **_each("metadata", "name generateName", Owned("a pod's name is its attempt's")),
    "metadata.namespace": Owned("write rs.Executor.kubernetes(namespace=…)"),
    "metadata.ownerReferences": Owned("worker pods belong to their controller"),
    "metadata.finalizers": Owned("a pod goes when its attempt is over"),
    **_each("metadata", "creationTimestamp deletionGracePeriodSeconds deletionTimestamp generation", _CLUSTER),
    **_each("metadata", "managedFields resourceVersion selfLink uid", _CLUSTER),
    "metadata.labels.sidecar.istio.io/inject": Owned(
        "a proxy would break the TLS of controller and worker", ("false",)
    ),
    "metadata.labels.app.kubernetes.io/managed-by": Owned("it is how rivers finds its pods", ("rivers",)),
    "spec.activeDeadlineSeconds": Owned("write timeout= of an asset or task; the pod's deadline follows from it"),
    "spec.ephemeralContainers": Owned("nobody can make a pod with them"),
    "spec.os.name": Owned("workers run on Linux", ("linux",)),
    "spec.resources": Owned("write worker_cpu= and worker_memory=, or compute= of an asset or task"),
    "spec.restartPolicy": Owned(_RETRY, ("Never",)),
    **_each("spec", "serviceAccount serviceAccountName", Owned("write rs.Executor.kubernetes(service_account=…)")),
    "spec.terminationGracePeriodSeconds": Owned("write rs.Executor.kubernetes(grace=…)"),
    **_each("worker", "args command", _PROGRAM),
    "worker.image": Owned("write rs.Executor.kubernetes(worker_image=…)"),
    "worker.imagePullPolicy": Owned("write rs.Executor.kubernetes(image_pull_policy=…)"),
    "worker.ports": Owned("the worker has one port; let a side-car have others"),
    **_each("worker", "lifecycle livenessProbe readinessProbe startupProbe", _WATCHED),
    **_each("worker", "restartPolicy restartPolicyRules", Owned(_RETRY)),
    **_each("worker", "stdin stdinOnce tty", Owned("a worker has no terminal", (False,))),
    **_each("worker", "terminationMessagePath terminationMessagePolicy", Owned("the worker writes its result there")),
    **_AMOUNTS,
}

_NO = _one_of(False)
_YES = _one_of(True)
_NOTHING = Safe(lambda given: False, "nothing")
_NOT_ROOT = Safe(
    lambda given: isinstance(given, int) and not isinstance(given, bool) and given > 0,
    "a whole number of at least 1, as 0 is root, or null, which leaves it to image and cluster",
)
_PROFILE = _one_of("RuntimeDefault", "Localhost")
_SYSCTLS = (
    *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start"),
    *("net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports"),
    *("net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl"),
    "net.ipv4.tcp_keepalive_probes",
)
SAFE: Mapping[str, Safe] = {
    **_each("spec", "automountServiceAccountToken enableServiceLinks", _NO),
    **_each("spec", "hostIPC hostNetwork hostPID shareProcessNamespace", _NO),
    "securityContext.runAsNonRoot": _YES,
    **_each("securityContext", "runAsUser runAsGroup fsGroup", _NOT_ROOT),
    "securityContext.supplementalGroups[]": _NOT_ROOT,
    **_each("securityContext", "seccompProfile.type appArmorProfile.type", _PROFILE),
    "securityContext.seLinuxOptions.type": _one_of(
        "", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"
    ),
    **_each("securityContext", "seLinuxOptions.user seLinuxOptions.role", _one_of("")),
    "securityContext.windowsOptions": _NOTHING,
    "securityContext.sysctls[].name": _one_of(*_SYSCTLS),
    **_each("securityContext", "allowPrivilegeEscalation privileged", _NO),
    "securityContext.procMount": _one_of("Default"),
    "securityContext.capabilities.add": Safe(lambda given: given == [], "an empty list"),
    "securityContext.capabilities.drop": Safe(lambda given: "ALL" in given, "a list with 'ALL'"),
    "port.hostPort": Safe(lambda given: given == 0, "no port of the node"),
    "mount.mountPropagation": _one_of("None", "HostToContainer"),
    "source.podCertificate": _NOTHING,
}

CLOSED: Mapping[str, str] = {
    "securityContext": "fsGroupChangePolicy seLinuxChangePolicy supplementalGroupsPolicy supplementalGroups sysctls "
    "capabilities seccompProfile appArmorProfile seLinuxOptions readOnlyRootFilesystem",
    "securityContext.seccompProfile": "localhostProfile",
    "securityContext.appArmorProfile": "localhostProfile",
    "securityContext.seLinuxOptions": "level",
    "securityContext.capabilities": "",
    "securityContext.sysctls[]": "value",
    "volume": "name configMap csi downwardAPI emptyDir ephemeral persistentVolumeClaim projected secret",
    "source": "clusterTrustBundle configMap downwardAPI secret serviceAccountToken",
}
"""Objects whose unknown fields are refused: their fields besides those of `SAFE`."""

SUSPICIOUS = re.compile(r"host|privileg|securit|capabilit|shareprocess|unsafe", re.IGNORECASE)
"""The start of a field's name that promises access to the node."""
OPEN_TO_HOSTS = frozenset({"spec", "worker", "sidecar", "port"})
"""Objects whose unknown fields are refused where their names are suspicious."""
SAME_RULES: Mapping[str, str] = {f"{at}.securityContext": "securityContext" for at in ("spec", "worker", "sidecar")}
"""Positions whose rules stand under another one."""

_OBJECTS = (
    "metadata metadata.labels metadata.annotations spec spec.os worker worker.resources worker.resources.requests "
    "worker.resources.limits sidecar mount port volume volume.projected source source.serviceAccountToken "
    "worker.env[] sidecar.env[] item"
)
OBJECTS = frozenset((*_OBJECTS.split(), *CLOSED))
"""Positions where an object is expected, whose fields are looked at."""
LISTS: Mapping[str, tuple[str, str | None]] = {
    "spec.containers": ("container", "name"),
    "spec.initContainers": ("initContainer", "name"),
    "spec.volumes": ("volume", "name"),
    **_each("spec", "hostAliases imagePullSecrets resourceClaims schedulingGates", ("item", None)),
    **_each("spec", "tolerations topologySpreadConstraints", ("item", None)),
    "worker.env": ("worker.env[]", "name"),
    "sidecar.env": ("sidecar.env[]", "name"),
    **_each("worker", "volumeMounts", ("mount", "mountPath")),
    **_each("sidecar", "volumeMounts", ("mount", "mountPath")),
    "sidecar.ports": ("port", None),
    "volume.projected.sources": ("source", None),
    "securityContext.supplementalGroups": ("securityContext.supplementalGroups[]", None),
    "securityContext.sysctls": ("securityContext.sysctls[]", "name"),
    **_each("securityContext.capabilities", "add drop", ("text", None)),
}
"""Positions where a list is expected: the position of its items, and the field that tells them apart."""
