"""What a user's pod template may say: `check_pod_template`, and the table that it goes by.

A template is a Pod manifest (Kubernetes API reference, Pod v1) that the kubernetes executor merges its own with. Two
things are refused in it: what rivers sets itself, and what would loosen the pod below the `restricted` pod security
standard and what rivers adds to that. `allow_insecure_pod=True` lets the second through, and with it fields that are
not known here, as nobody can tell what they do.

The table names every field of a pod, a container and a security context of Kubernetes 1.34. Null is "not given".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rivers._definitions.kubernetes.pod_rules import (
    Rule,
    both,
    each,
    fields,
    free,
    items,
    mapping,
    one_of,
    ours,
    refused,
    safe,
    text,
)

__all__ = ["RESERVED_ENV", "check_pod_template"]

STEP_CONTAINER = "rivers-step"
"""The worker's container; a container of this name in a template is merged with it, others are side-cars."""
_TOLD = "RUN_ID ATTEMPT_ID CONTROLLER_CERTIFICATE LISTEN WORKER ORPHAN_TTL GRACE HEARTBEAT MODULES TERMINATION_LOG"
RESERVED_ENV = frozenset(f"RIVERS_{name}" for name in _TOLD.split())
"""What rivers tells a worker by its environment. Others are for images and templates, such as RIVERS_ALLOW_PICKLE."""


def check_pod_template(template: Mapping[str, Any], *, allow_insecure: bool) -> None:
    """Refuse a pod template that changes what rivers sets or, unless `allow_insecure`, that loosens the pod's security.

    Whether it is a valid Pod otherwise is for the API server to say.

    Raises:
        ConfigurationError: names the path, what was given, what is allowed and what comes nearest to it.
    """
    _POD(template, "pod_template", allow_insecure)


# ── security contexts (kubernetes.io/docs/concepts/security/pod-security-standards) ──

_no = safe(lambda value: value is False, "False")
_yes = safe(lambda value: value is True, "True")
_never = safe(lambda value: False, "nothing")
_other_than_root = safe(
    lambda value: isinstance(value, int) and not isinstance(value, bool) and value > 0,
    "a whole number of at least 1, as 0 is root, or null, which leaves it to image and cluster,",
)
_SECCOMP = fields("a seccomp profile", "localhostProfile", type=one_of("RuntimeDefault", "Localhost"))
_APPARMOR = fields("an AppArmor profile", "localhostProfile", type=one_of("RuntimeDefault", "Localhost"))
_SELINUX = fields(
    "SELinux options",
    "level",
    type=one_of("", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"),
    user=one_of(""),
    role=one_of(""),
)
_CAPABILITIES = fields(
    "capabilities",
    add=both(items(text), safe(lambda value: value == [], "an empty list")),
    drop=both(items(text), safe(lambda value: "ALL" in value, "a list with 'ALL'")),
)
_IDS: Mapping[str, Rule] = {
    "runAsNonRoot": _yes,
    "runAsUser": _other_than_root,
    "runAsGroup": _other_than_root,
    "seccompProfile": _SECCOMP,
    "appArmorProfile": _APPARMOR,
    "seLinuxOptions": _SELINUX,
    "windowsOptions": _never,
}
_SYSCTLS = (
    *("kernel.shm_rmid_forced", "net.ipv4.ip_local_port_range", "net.ipv4.ip_unprivileged_port_start"),
    *("net.ipv4.tcp_syncookies", "net.ipv4.ping_group_range", "net.ipv4.ip_local_reserved_ports"),
    *("net.ipv4.tcp_keepalive_time", "net.ipv4.tcp_fin_timeout", "net.ipv4.tcp_keepalive_intvl"),
    "net.ipv4.tcp_keepalive_probes",
)
_POD_SECURITY = fields(
    "a pod's security context",
    "fsGroupChangePolicy seLinuxChangePolicy supplementalGroupsPolicy",
    **_IDS,
    fsGroup=_other_than_root,
    supplementalGroups=items(_other_than_root),
    sysctls=items(fields("a sysctl", "value", name=one_of(*_SYSCTLS)), "name"),
)


def _container_security(root: Rule) -> Rule:
    return fields(
        "a container's security context",
        **_IDS,
        allowPrivilegeEscalation=_no,
        capabilities=_CAPABILITIES,
        privileged=_no,
        procMount=one_of("Default"),
        readOnlyRootFilesystem=root,
    )


# ── containers ──

_itself = safe(lambda value: value == "", "no host, which is the pod itself,")
_ACTIONS: Mapping[str, Rule] = {
    "httpGet": fields("an HTTP request", "httpHeaders path port scheme", host=_itself),
    "tcpSocket": fields("a TCP socket", "port", host=_itself),
}
_PROBE = fields(
    "a probe",
    "exec failureThreshold grpc initialDelaySeconds periodSeconds successThreshold terminationGracePeriodSeconds "
    "timeoutSeconds",
    **_ACTIONS,
)
_HOOK = fields("a lifecycle handler", "exec sleep", **_ACTIONS)
_MOUNT = fields(
    "a volume mount",
    "mountPath name readOnly recursiveReadOnly subPath subPathExpr",
    mountPropagation=one_of("None", "HostToContainer"),
)
_FREE_IN_CONTAINERS = "envFrom name resizePolicy volumeDevices workingDir"
_MOUNTS = items(_MOUNT, "mountPath")
_watched = ours("rivers watches its worker itself")
_AMOUNTS = mapping(
    lambda name: (
        ours(f"write rs.Executor.kubernetes(worker_{name}=…), or compute= of an asset or task")
        if name in ("cpu", "memory")
        else free
    )
)


def _worker_env_name(value: Any, path: str, insecure: bool) -> None:
    text(value, path, insecure)
    if value in RESERVED_ENV:
        raise refused(path, value, "another name, as rivers sets this one,")


def _env(name: Rule) -> Rule:
    return items(fields("an environment variable", "valueFrom", name=name, value=text))


_WORKER = fields(
    "a container",
    _FREE_IN_CONTAINERS,
    args=ours("the worker is the image's program rivers-worker"),
    command=ours("the worker is the image's program rivers-worker"),
    env=_env(_worker_env_name),
    image=ours("write rs.Executor.kubernetes(worker_image=…)"),
    imagePullPolicy=ours("write rs.Executor.kubernetes(image_pull_policy=…)"),
    ports=ours("the worker has one port; let a side-car have others"),
    resources=fields("resource requirements", "claims", requests=_AMOUNTS, limits=_AMOUNTS),
    securityContext=_container_security(root=_yes),
    volumeMounts=_MOUNTS,
    **each("lifecycle livenessProbe readinessProbe startupProbe", _watched),
    **each("restartPolicy restartPolicyRules", ours("a retry is another pod: write rs.RetryPolicy(…)")),
    **each("stdin stdinOnce tty", ours("a worker has no terminal", False)),
    **each("terminationMessagePath terminationMessagePolicy", ours("the worker writes its result there")),
)
_SIDE_CAR = fields(
    "a container",
    f"{_FREE_IN_CONTAINERS} args command image imagePullPolicy resources restartPolicy restartPolicyRules stdin "
    "stdinOnce terminationMessagePath terminationMessagePolicy tty",
    env=_env(text),
    lifecycle=fields("a lifecycle", "stopSignal", postStart=_HOOK, preStop=_HOOK),
    ports=items(
        fields(
            "a port",
            "containerPort hostIP name protocol",
            hostPort=safe(lambda value: value == 0, "no port of the node"),
        )
    ),
    securityContext=_container_security(root=free),
    volumeMounts=_MOUNTS,
    **each("livenessProbe readinessProbe startupProbe", _PROBE),
)


def _container(value: Any, path: str, insecure: bool) -> None:
    if isinstance(value, Mapping) and value.get("name") == STEP_CONTAINER:
        return _WORKER(value, path, insecure)
    _SIDE_CAR(value, path, insecure)
    if not value.get("image"):
        hint = f"the worker's container is named {STEP_CONTAINER!r}"
        raise refused(f"{path}.image", value.get("image"), "the image of a side-car", hint)
    return None


def _init_container(value: Any, path: str, insecure: bool) -> None:
    if isinstance(value, Mapping) and value.get("name") == STEP_CONTAINER:
        raise refused(f"{path}.name", STEP_CONTAINER, "another name, as the worker has this one,")
    _container(value, path, insecure)


# ── volumes ──

_VOLUME_KINDS = "configMap csi downwardAPI emptyDir ephemeral persistentVolumeClaim projected secret"
_OTHER_VOLUMES = (
    "awsElasticBlockStore azureDisk azureFile cephfs cinder fc flexVolume flocker gcePersistentDisk gitRepo glusterfs "
    "hostPath image iscsi nfs photonPersistentDisk portworxVolume quobyte rbd scaleIO storageos vsphereVolume"
)
_other_volume = safe(lambda value: False, f"a volume of one of the kinds {', '.join(_VOLUME_KINDS.split())}")


def _token(value: Any, path: str, insecure: bool) -> None:
    """A token for somebody else than the API server is how a body gets an identity; one for the API server is not."""
    audience = value.get("audience") if isinstance(value, Mapping) else None
    elsewhere = isinstance(audience, str) and audience and "kubernetes.default" not in audience
    if not insecure and not elsewhere:
        raise refused(f"{path}.audience", audience, "an audience other than the API server", "name who is to accept it")


_VOLUME = fields(
    "a volume",
    f"name {_VOLUME_KINDS}",
    projected=fields(
        "a projected volume",
        "defaultMode",
        sources=items(
            fields(
                "a source of a projected volume",
                "clusterTrustBundle configMap downwardAPI secret",
                podCertificate=_never,
                serviceAccountToken=_token,
            )
        ),
    ),
    **each(_OTHER_VOLUMES, _other_volume),
)

# ── the pod ──

_labels_ours = ours("labels of rivers begin with rivers.io/; choose other names")


def _label(name: str) -> Rule:
    if name == "sidecar.istio.io/inject":
        return ours("a proxy in between would break the TLS of controller and worker", "false")
    if name == "app.kubernetes.io/managed-by":
        return ours("it is how rivers finds its pods", "rivers")
    return _labels_ours if name.startswith("rivers.io/") else text


def _annotation(name: str) -> Rule:
    if name.startswith("container.apparmor.security.beta.kubernetes.io/"):
        return safe(lambda value: value == "runtime/default", "'runtime/default'")
    return _labels_ours if name.startswith("rivers.io/") else text


def _named(value: Any, path: str, insecure: bool) -> None:
    if not isinstance(value, Mapping):
        raise refused(path, value, 'an object, such as {"name": …},')


_cluster_sets = ours("the cluster sets it")
_METADATA = fields(
    "metadata",
    labels=mapping(_label),
    annotations=mapping(_annotation),
    name=ours("a pod's name is its attempt's"),
    generateName=ours("a pod's name is its attempt's"),
    namespace=ours("write rs.Executor.kubernetes(namespace=…)"),
    ownerReferences=ours("worker pods belong to their controller"),
    finalizers=ours("a pod goes when its attempt is over"),
    **each("creationTimestamp deletionGracePeriodSeconds deletionTimestamp generation managedFields", _cluster_sets),
    **each("resourceVersion selfLink uid", _cluster_sets),
)
_SPEC = fields(
    "a pod's spec",
    "affinity dnsConfig dnsPolicy evictionResponders hostUsers hostname hostnameOverride nodeName nodeSelector "
    "overhead preemptionPolicy priority priorityClassName readinessGates runtimeClassName schedulerName "
    "schedulingGroup setHostnameAsFQDN subdomain",
    activeDeadlineSeconds=ours("write timeout= of an asset or task; the pod's deadline follows from it"),
    automountServiceAccountToken=_no,
    containers=items(_container, "name"),
    enableServiceLinks=_no,
    ephemeralContainers=ours("nobody can make a pod with them"),
    initContainers=items(_init_container, "name"),
    os=fields("an operating system", name=ours("workers run on Linux", "linux")),
    resources=ours("write worker_cpu= and worker_memory=, or compute= of an asset or task"),
    restartPolicy=ours("a retry is another pod: write rs.RetryPolicy(…)", "Never"),
    securityContext=_POD_SECURITY,
    serviceAccount=ours("write rs.Executor.kubernetes(service_account=…)"),
    serviceAccountName=ours("write rs.Executor.kubernetes(service_account=…)"),
    terminationGracePeriodSeconds=ours("write rs.Executor.kubernetes(grace=…)"),
    tolerations=items(fields("a toleration", "effect key operator tolerationSeconds value")),
    volumes=items(_VOLUME, "name"),
    **each("hostIPC hostNetwork hostPID shareProcessNamespace", _no),
    **each("hostAliases imagePullSecrets resourceClaims schedulingGates topologySpreadConstraints", items(_named)),
)
_POD = fields(
    "a Pod",
    apiVersion=ours("a template is a Pod", "v1"),
    kind=ours("a template is a Pod", "Pod"),
    metadata=_METADATA,
    spec=_SPEC,
    status=ours("the cluster sets it", {}),
)
