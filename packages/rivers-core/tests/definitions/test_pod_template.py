from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rivers._definitions.executor import Executor
from rivers._definitions.kubernetes.pod_template import RESERVED_ENV, check_pod_template
from rivers.exceptions import ConfigurationError

WORKER = "rivers-step"


def spec(**fields: Any) -> dict[str, Any]:
    return {"spec": fields}


def worker(**fields: Any) -> dict[str, Any]:
    return spec(containers=[{"name": WORKER, **fields}])


def side_car(**fields: Any) -> dict[str, Any]:
    return spec(containers=[{"name": "log", "image": "log:1", **fields}])


def volume(**fields: Any) -> dict[str, Any]:
    return spec(volumes=[{"name": "v", **fields}])


def refusal_of(template: dict[str, Any], *, allow_insecure: bool = False) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        check_pod_template(template, allow_insecure=allow_insecure)
    return caught.value


EVERYTHING = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {
        "labels": {"team": "data", "sidecar.istio.io/inject": "false", "app.kubernetes.io/managed-by": "rivers"},
        "annotations": {"a.example/b": "c", "container.apparmor.security.beta.kubernetes.io/log": "runtime/default"},
        "creationTimestamp": None,
    },
    "spec": {
        "affinity": {"nodeAffinity": {}},
        "automountServiceAccountToken": False,
        "dnsPolicy": "Default",
        "enableServiceLinks": False,
        "hostAliases": [{"ip": "10.0.0.1", "hostnames": ["a"]}],
        "hostNetwork": False,
        "hostUsers": False,
        "imagePullSecrets": [{"name": "registry"}],
        "nodeSelector": {"disk": "ssd"},
        "os": {"name": "linux"},
        "priorityClassName": "batch",
        "restartPolicy": "Never",
        "runtimeClassName": "gvisor",
        "schedulerName": "other",
        "securityContext": {
            "fsGroup": 2000,
            "fsGroupChangePolicy": "Always",
            "runAsUser": None,
            "runAsNonRoot": True,
            "seccompProfile": {"type": "Localhost", "localhostProfile": "p.json"},
            "seLinuxOptions": {"level": "s0:c1", "type": "container_t"},
            "supplementalGroups": [3000],
            "sysctls": [{"name": "net.ipv4.tcp_syncookies", "value": "1"}],
        },
        "shareProcessNamespace": False,
        "tolerations": [{"key": "batch", "operator": "Exists", "effect": "NoSchedule"}],
        "topologySpreadConstraints": [{"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "DoNotSchedule"}],
        "volumes": [
            {"name": "a", "configMap": {"name": "c"}},
            {"name": "b", "csi": {"driver": "d"}},
            {"name": "c", "downwardAPI": {}},
            {"name": "d", "emptyDir": {"medium": "Memory"}},
            {"name": "e", "ephemeral": {}},
            {"name": "f", "persistentVolumeClaim": {"claimName": "p"}},
            {"name": "g", "secret": {"secretName": "s"}},
            {
                "name": "h",
                "projected": {"sources": [{"serviceAccountToken": {"audience": "sts.example", "path": "t"}}]},
            },
        ],
        "containers": [
            {
                "name": WORKER,
                "env": [
                    {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                    {"name": "RIVERS_ALLOW_PICKLE", "value": "1"},
                    {"name": "RIVERS_ALLOWED_MODULES", "value": "shop"},
                ],
                "envFrom": [{"secretRef": {"name": "s"}}],
                "resources": {"limits": {"ephemeral-storage": "8Gi", "amd.com/gpu": 1}},
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "capabilities": {"drop": ["ALL"]},
                    "readOnlyRootFilesystem": True,
                    "runAsUser": 2000,
                },
                "stdin": False,
                "volumeMounts": [{"name": "a", "mountPath": "/a"}],
                "workingDir": "/app",
            },
            {
                "name": "log",
                "image": "log:1",
                "args": ["-v"],
                "livenessProbe": {"httpGet": {"port": 80, "path": "/", "host": ""}},
                "ports": [{"containerPort": 80}],
                "securityContext": {"readOnlyRootFilesystem": False},
                "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
            },
        ],
        "initContainers": [{"name": "proxy", "image": "proxy:1", "restartPolicy": "Always"}],
    },
    "status": {},
}

OURS = [
    ({"apiVersion": "v2"}, "pod_template.apiVersion='v2': expected 'v1', as"),
    ({"kind": "Job"}, "pod_template.kind='Job': expected 'Pod', as"),
    ({"metadata": {"name": "x"}}, "pod_template.metadata.name='x': expected nothing, as rivers sets it"),
    ({"metadata": {"namespace": "x"}}, "pod_template.metadata.namespace="),
    ({"metadata": {"finalizers": ["x"]}}, "pod_template.metadata.finalizers (a list)"),
    ({"metadata": {"ownerReferences": [{}]}}, "pod_template.metadata.ownerReferences (a list)"),
    ({"metadata": {"uid": "x"}}, "pod_template.metadata.uid='x'"),
    ({"metadata": {"labels": {"rivers.io/role": "controller"}}}, "pod_template.metadata.labels['rivers.io/role']="),
    ({"metadata": {"labels": {"app.kubernetes.io/managed-by": "x"}}}, "pod_template.metadata.labels['app."),
    ({"metadata": {"labels": {"sidecar.istio.io/inject": "true"}}}, "pod_template.metadata.labels['sidecar."),
    ({"metadata": {"annotations": {"rivers.io/digest": "x"}}}, "pod_template.metadata.annotations['rivers.io/digest']"),
    (spec(restartPolicy="Always"), "pod_template.spec.restartPolicy='Always': expected 'Never', as rivers sets it"),
    (spec(serviceAccountName="x"), "pod_template.spec.serviceAccountName="),
    (spec(serviceAccount="x"), "pod_template.spec.serviceAccount="),
    (spec(activeDeadlineSeconds=5), "pod_template.spec.activeDeadlineSeconds=5"),
    (spec(terminationGracePeriodSeconds=5), "pod_template.spec.terminationGracePeriodSeconds=5"),
    (spec(ephemeralContainers=[]), "pod_template.spec.ephemeralContainers"),
    (spec(resources={}), "pod_template.spec.resources (an object)"),
    (spec(os={"name": "windows"}), "pod_template.spec.os.name='windows'"),
    (worker(image="x"), "pod_template.spec.containers[0].image='x'"),
    (worker(command=["sh"]), "pod_template.spec.containers[0].command (a list)"),
    (worker(args=["--password=x"]), "pod_template.spec.containers[0].args (a list)"),
    (worker(imagePullPolicy="Always"), "pod_template.spec.containers[0].imagePullPolicy="),
    (worker(ports=[{"containerPort": 1}]), "pod_template.spec.containers[0].ports (a list)"),
    (worker(lifecycle={}), "pod_template.spec.containers[0].lifecycle"),
    (worker(livenessProbe={}), "pod_template.spec.containers[0].livenessProbe"),
    (worker(restartPolicy="Always"), "pod_template.spec.containers[0].restartPolicy"),
    (worker(tty=True), "pod_template.spec.containers[0].tty=True: expected False, as"),
    (worker(terminationMessagePath="/x"), "pod_template.spec.containers[0].terminationMessagePath"),
    (worker(resources={"limits": {"cpu": 2}}), "pod_template.spec.containers[0].resources.limits['cpu']=2"),
    (worker(resources={"requests": {"memory": "1Gi"}}), "pod_template.spec.containers[0].resources.requests['memory']"),
    (worker(env=[{"name": "RIVERS_RUN_ID", "value": "x"}]), "pod_template.spec.containers[0].env[0].name='RIVERS_RUN"),
    (spec(initContainers=[{"name": WORKER, "image": "x"}]), "pod_template.spec.initContainers[0].name='rivers-step'"),
]
MALFORMED = [
    ({"metadata": []}, "pod_template.metadata (a list): expected an object"),
    ({"spec": "x"}, "pod_template.spec='x': expected an object"),
    ({"metadata": {"labels": {"version": 1}}}, "pod_template.metadata.labels['version'] (a number): expected a str"),
    (spec(containers={}), "pod_template.spec.containers (an object): expected a list"),
    (spec(containers=[None]), "pod_template.spec.containers[0]=None: expected an object"),
    (spec(containers=[{"image": "x"}]), "pod_template.spec.containers[0].name=None"),
    (spec(containers=[{"name": 1, "image": "x"}]), "pod_template.spec.containers[0].name (a number)"),
    (
        spec(containers=[{"name": WORKER}, {"name": WORKER}]),
        "pod_template.spec.containers[1].name='rivers-step': expected anoth",
    ),
    (spec(containers=[{"name": "rivers_step"}]), "pod_template.spec.containers[0].image=None"),
    (spec(imagePullSecrets=["x"]), "pod_template.spec.imagePullSecrets[0]='x': expected an object"),
    (worker(env={"A": "x"}), "pod_template.spec.containers[0].env (an object): expected a list"),
    (worker(env=[{"name": ["x"]}]), "pod_template.spec.containers[0].env[0].name (a list)"),
    (worker(env=[{"name": "PASSWORD", "value": 12345}]), "pod_template.spec.containers[0].env[0].value (a number)"),
    (worker(volumeMounts=[{"name": "x"}]), "pod_template.spec.containers[0].volumeMounts[0].mountPath=None"),
    (worker(securityContext={"capabilities": {"add": 5}}), "pod_template.spec.containers[0].securityContext.capabilit"),
    (worker(securityContext=[]), "pod_template.spec.containers[0].securityContext (a list)"),
]
INSECURE = [
    ({"metadata": {"annotations": {"container.apparmor.security.beta.kubernetes.io/log": "unconfined"}}}, "metadata."),
    *((spec(**{name: True}), f"spec.{name}=True: expected False") for name in ("hostIPC", "hostNetwork", "hostPID")),
    (spec(shareProcessNamespace=True), "spec.shareProcessNamespace=True"),
    (spec(automountServiceAccountToken=True), "spec.automountServiceAccountToken=True"),
    (spec(enableServiceLinks=True), "spec.enableServiceLinks=True"),
    (spec(securityContext={"runAsUser": 0}), "spec.securityContext.runAsUser=0: expected a whole number of at least 1"),
    (spec(securityContext={"runAsUser": True}), "spec.securityContext.runAsUser=True"),
    (spec(securityContext={"runAsGroup": 0}), "spec.securityContext.runAsGroup=0"),
    (spec(securityContext={"fsGroup": 0}), "spec.securityContext.fsGroup=0"),
    (spec(securityContext={"supplementalGroups": [1, 0]}), "spec.securityContext.supplementalGroups[1]=0"),
    (spec(securityContext={"runAsNonRoot": False}), "spec.securityContext.runAsNonRoot=False: expected True"),
    (spec(securityContext={"runAsNonRoot": "true"}), "spec.securityContext.runAsNonRoot='true': expected True"),
    (spec(securityContext={"seccompProfile": {"type": "Unconfined"}}), "spec.securityContext.seccompProfile.type="),
    (spec(securityContext={"appArmorProfile": {"type": "Unconfined"}}), "spec.securityContext.appArmorProfile.type="),
    (spec(securityContext={"seLinuxOptions": {"type": "spc_t"}}), "spec.securityContext.seLinuxOptions.type='spc_t'"),
    (spec(securityContext={"seLinuxOptions": {"user": "u"}}), "spec.securityContext.seLinuxOptions.user='u'"),
    (spec(securityContext={"windowsOptions": {}}), "spec.securityContext.windowsOptions (an object)"),
    (spec(securityContext={"sysctls": [{"name": "kernel.msgmax", "value": "1"}]}), "spec.securityContext.sysctls[0]"),
    *(
        (make(securityContext=context), f"spec.containers[0].securityContext.{path}")
        for make in (worker, side_car)
        for context, path in (
            ({"privileged": True}, "privileged=True: expected False"),
            ({"privileged": "false"}, "privileged='false': expected False"),
            ({"allowPrivilegeEscalation": True}, "allowPrivilegeEscalation=True"),
            ({"capabilities": {"add": ["NET_BIND_SERVICE"]}}, "capabilities.add (a list): expected an empty list"),
            ({"capabilities": {"drop": ["NET_RAW"]}}, "capabilities.drop (a list): expected a list with 'ALL'"),
            ({"capabilities": {"drop": []}}, "capabilities.drop (a list)"),
            ({"procMount": "Unmasked"}, "procMount='Unmasked'"),
            ({"runAsUser": 0}, "runAsUser=0"),
            ({"runAsNonRoot": False}, "runAsNonRoot=False"),
            ({"seccompProfile": {"type": "Unconfined"}}, "seccompProfile.type='Unconfined'"),
        )
    ),
    (worker(securityContext={"readOnlyRootFilesystem": False}), "spec.containers[0].securityContext.readOnlyRootFiles"),
    (
        worker(volumeMounts=[{"mountPath": "/a", "name": "a", "mountPropagation": "Bidirectional"}]),
        "spec.containers[0]",
    ),
    (side_car(ports=[{"containerPort": 1, "hostPort": 1}]), "spec.containers[0].ports[0].hostPort=1: expected no port"),
    (side_car(livenessProbe={"tcpSocket": {"host": "x"}}), "spec.containers[0].livenessProbe.tcpSocket.host='x'"),
    (side_car(lifecycle={"postStart": {"httpGet": {"host": "x"}}}), "spec.containers[0].lifecycle.postStart.httpGet.h"),
    (
        spec(initContainers=[{"name": "i", "image": "x", "securityContext": {"privileged": True}}]),
        "spec.initContainers",
    ),
    (
        volume(hostPath={"path": "/"}),
        "spec.volumes[0].hostPath (an object): expected one of the fields c",
    ),
    (volume(nfs={}), "spec.volumes[0].nfs (an object)"),
    (volume(projected={"sources": [{"serviceAccountToken": {"path": "t"}}]}), "spec.volumes[0].projected.sources[0]"),
    (
        volume(projected={"sources": [{"serviceAccountToken": {"audience": "https://kubernetes.default.svc"}}]}),
        "spec.volumes[0].projected.sources[0].serviceAccountToken.audience='https://kubernetes.default.svc'",
    ),
    (volume(projected={"sources": [{"podCertificate": {}}]}), "spec.volumes[0].projected.sources[0].podCertificate"),
    (worker(privileged=True), "spec.containers[0].privileged=True: expected a field that rivers knows to be safe"),
    (worker(hostDevices=["/dev/sda"]), "spec.containers[0].hostDevices (a list)"),
    (side_car(privilegedMode="x"), "spec.containers[0].privilegedMode='x'"),
    (side_car(ports=[{"containerPort": 1, "hostPortRange": "1-9"}]), "spec.containers[0].ports[0].hostPortRange='1-9'"),
    (spec(hostProcess=True), "spec.hostProcess=True: expected a field that rivers knows to be safe"),
    (spec(HostNetwork=True), "spec.HostNetwork=True"),
    (spec(securityContext={"newInKubernetes2": 1}), "spec.securityContext.newInKubernetes2=1"),
    (
        worker(securityContext={"capabilities": {"grant": ["x"]}}),
        "spec.containers[0].securityContext.capa",
    ),
    (
        worker(securityContext={"seccompProfile": {"extra": 1}}),
        "spec.containers[0].securityContext.seccompPro",
    ),
    (volume(hostDevice={}), "spec.volumes[0].hostDevice (an object): expected one of the fields"),
    (volume(projected={"sources": [{"hostFile": {}}]}), "spec.volumes[0].projected.sources[0].hostFile"),
    (
        side_car(livenessProbe={"newAction": {"nested": [{"host": "10.0.0.1"}]}}),
        "spec.containers[0].livenessProbe.newAction.nested[0].host='10.0.0.1': expected no host",
    ),
]


@pytest.mark.parametrize("allow_insecure", [False, True])
class TestAlways:
    def test_everything(self, allow_insecure: bool) -> None:
        """A template with all that is useful passes."""
        check_pod_template(EVERYTHING, allow_insecure=allow_insecure)

    def test_nothing(self, allow_insecure: bool) -> None:
        """So does an empty one, and one whose fields are null."""
        check_pod_template({}, allow_insecure=allow_insecure)
        check_pod_template({"metadata": None, "spec": None}, allow_insecure=allow_insecure)

    @pytest.mark.parametrize(("template", "start"), OURS)
    def test_ours(self, template: dict[str, Any], start: str, allow_insecure: bool) -> None:
        """What rivers sets is refused by its path whatever is allowed, with the way to set it."""
        error = refusal_of(template, allow_insecure=allow_insecure)

        assert error.message.startswith(f"invalid {start}")
        assert error.hint or "another name" in error.message

    @pytest.mark.parametrize(("template", "start"), MALFORMED)
    def test_malformed(self, template: dict[str, Any], start: str, allow_insecure: bool) -> None:
        """What cannot be merged is refused by its path, whatever is allowed."""
        assert refusal_of(template, allow_insecure=allow_insecure).message.startswith(f"invalid {start}")

    @pytest.mark.parametrize("name", sorted(RESERVED_ENV))
    def test_reserved_variables(self, name: str, allow_insecure: bool) -> None:
        """A template cannot set the variables that rivers sets for a worker."""
        template = worker(env=[{"name": "A"}, {"name": name, "value": "x"}])

        assert (
            f".env[1].name='{name}': expected another name"
            in refusal_of(template, allow_insecure=allow_insecure).message
        )


class TestInsecure:
    @pytest.mark.parametrize(("template", "start"), INSECURE)
    def test_refused(self, template: dict[str, Any], start: str) -> None:
        """What loosens the pod, or may, is refused by its path with what is allowed, and passes when it is wanted."""
        error = refusal_of(template)

        assert error.message.startswith(f"invalid pod_template.{start}")
        check_pod_template(template, allow_insecure=True)

    def test_way_out(self) -> None:
        """The refusal names the parameter that lets it through."""
        assert "allow_insecure_pod=True" in str(refusal_of(spec(hostPID=True)).hint)

    def test_of_a_side_car_alone(self) -> None:
        """A side-car may write to its own file system: the standard does not forbid it, and its image may need it."""
        check_pod_template(side_car(securityContext={"readOnlyRootFilesystem": False}), allow_insecure=False)


NEW = [
    {"newInKubernetes2": 1},
    spec(newInKubernetes2=True),
    worker(newInKubernetes2={"a": [1]}),
    side_car(newInKubernetes2=1),
    side_car(ports=[{"containerPort": 1, "newInKubernetes2": 1}]),
    side_car(livenessProbe={"newAction": {"port": 1}}),
    worker(volumeMounts=[{"name": "a", "mountPath": "/a", "newInKubernetes2": 1}]),
    spec(tolerations=[{"key": "a", "newInKubernetes2": 1}]),
    spec(hostnameOverride="a"),
]


@pytest.mark.parametrize("template", NEW, ids=str)
def test_new_fields(template: dict[str, Any]) -> None:
    """A field of a later Kubernetes is left to the API server, where it cannot loosen the pod."""
    check_pod_template(template, allow_insecure=False)


class TestTexts:
    @pytest.mark.parametrize(
        ("template", "hint"),
        [
            (worker(securityContext={"runAsuser": 5}), "did you mean 'runAsUser'?"),
            (volume(persistentVolumeClaims={}), "did you mean 'persistentVolumeClaim'?"),
            (worker(securityContext={"runAsNonroot": True}), "did you mean 'runAsNonRoot'?"),
            (worker(securityContext={"capabilities": {"dropp": ["ALL"]}}), "did you mean 'drop'?"),
        ],
    )
    def test_closest(self, template: dict[str, Any], hint: str) -> None:
        """Where unknown fields are refused, the nearest field is named."""
        assert str(refusal_of(template).hint).startswith(hint)

    @pytest.mark.parametrize(
        "template",
        [
            worker(args=["--password=hunter2"]),
            worker(env=[{"name": "PASSWORD", "value": ["hunter2"]}]),
            worker(securityContext={"environ": [{"name": "PASSWORD", "value": "hunter2"}]}),
            {"metadata": {"finalizers": ["hunter2"]}},
        ],
    )
    def test_no_secrets(self, template: dict[str, Any]) -> None:
        """An error shows no list, no object, and no value of a variable: a password may be in it."""
        assert "hunter2" not in str(refusal_of(template))


class TestExecutor:
    def test_dict(self) -> None:
        """A template that is given as a dict is checked when the value is made."""
        with pytest.raises(ConfigurationError, match=r"pod_template\.spec\.hostPID=True: expected False"):
            Executor.kubernetes(pod_template=spec(hostPID=True))

    def test_allowed(self) -> None:
        """`allow_insecure_pod` lets through what loosens, and nothing of what rivers sets."""
        executor = Executor.kubernetes(pod_template=spec(hostPID=True), allow_insecure_pod=True)

        assert executor.pod_template == spec(hostPID=True)
        with pytest.raises(ConfigurationError, match="restartPolicy"):
            Executor.kubernetes(pod_template=spec(restartPolicy="Always"), allow_insecure_pod=True)

    def test_replaced(self) -> None:
        """A copy that takes the permission back is checked again."""
        executor = Executor.kubernetes(pod_template=spec(hostPID=True), allow_insecure_pod=True)

        with pytest.raises(ConfigurationError, match="hostPID"):
            dataclasses.replace(executor, allow_insecure_pod=False)

    @pytest.mark.parametrize("name", sorted(RESERVED_ENV))
    def test_env(self, name: str) -> None:
        """Nor can `env`."""
        with pytest.raises(ConfigurationError, match=f"'{name}': expected a name that rivers does not set"):
            Executor.kubernetes(env={name: "x"})


NAMES = (
    *("metadata", "spec", "containers", "initContainers", "volumes", "env", "name", "value", "image", "labels"),
    *("securityContext", "capabilities", "drop", "add", "runAsUser", "privileged", "resources", "limits"),
    *("projected", "sources", "serviceAccountToken"),
)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-1, 2) | st.sampled_from(["", "x", WORKER, "name"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(NAMES), inner, max_size=4),
    max_leaves=12,
)


def problem_of(template: dict[str, Any], allow_insecure: bool) -> str | None:
    try:
        check_pod_template(template, allow_insecure=allow_insecure)
    except ConfigurationError as error:
        return error.message
    return None


@given(st.dictionaries(st.sampled_from(["metadata", "spec", "kind"]), values))
def test_any_json(template: dict[str, Any]) -> None:
    """Whatever JSON a template is, it passes or is refused by a path, and what passes strictly passes loosely."""
    strict, loose = problem_of(template, False), problem_of(template, True)

    assert strict is None or strict.startswith("invalid pod_template.")
    assert loose is None or strict is not None
