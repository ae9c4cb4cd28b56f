from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import rivers as rs
from rivers.exceptions import ConfigurationError
from rivers.protocol import Compute, ImportRef, InnerStep, NodeKind, PickledRef, StepSpec
from rivers_executor_k8s.pod.manifest import HOME, Owner, build_manifest, build_shape, find_changes
from rivers_executor_k8s.pod.names import DIGEST, STEP_CONTAINER, is_ours, pod_name
from rivers_executor_k8s.pod.objects import Container, Metadata, Pod, PodSpec

SPEC = StepSpec(
    run_id="r1", step="shop/orders", attempt_id="r1-orders-1", function=ImportRef(module="shop", qualname="orders")
)


def pod(
    spec: StepSpec = SPEC,
    *,
    nonce: int = 0,
    epoch: int = 0,
    owner: Owner | None = None,
    is_warm: bool = False,
    **settings: Any,
) -> Any:
    executor = rs.Executor.kubernetes("unused", **settings)
    template = executor.pod_template
    assert not isinstance(template, str)
    return build_manifest(
        spec,
        executor,
        image="shop:7",
        namespace="data",
        certificate="Q0VSVA==",
        owner=owner,
        template=template,  # type: ignore[arg-type]
        epoch=epoch,
        nonce=nonce,
        is_warm=is_warm,
    )


def changed(**fields: Any) -> StepSpec:
    return StepSpec(**{name: getattr(SPEC, name) for name in SPEC.__struct_fields__} | fields)


def worker(made: Any) -> Any:
    return next(one for one in made["spec"]["containers"] if one["name"] == STEP_CONTAINER)


def side_cars(made: Any) -> Iterator[Any]:
    for kind in ("containers", "initContainers"):
        yield from (one for one in made["spec"].get(kind, ()) if one["name"] != STEP_CONTAINER)


def env(made: Any) -> dict[str, Any]:
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in worker(made)["env"]}


def template(worker: Any = None, **spec: Any) -> dict[str, Any]:
    containers = [*spec.pop("containers", ()), *([{"name": STEP_CONTAINER, **worker}] if worker is not None else [])]
    return {"spec": {**spec, **({"containers": containers} if containers else {})}}


# ── what rivers makes of an attempt ──


class TestPlain:
    def test_who(self) -> None:
        """Name, namespace, image, program, account and port of a worker's pod."""
        made = pod(service_account="steps")

        assert ("v1", "Pod") == (made["apiVersion"], made["kind"])
        assert pod_name("shop/orders", "r1-orders-1") == made["metadata"]["name"]
        assert "data" == made["metadata"]["namespace"]
        assert ("shop:7", ["rivers-worker", "serve"]) == (worker(made)["image"], worker(made)["command"])
        assert ("Never", "steps") == (made["spec"]["restartPolicy"], made["spec"]["serviceAccountName"])
        assert [7433] == [port["containerPort"] for port in worker(made)["ports"]]

    def test_environment(self) -> None:
        """The worker is told who it is, who may call it and what to import; nothing of this process gets in."""
        made = pod(orphan_ttl=7.5, grace=3)

        assert env(made) == {
            "RIVERS_RUN_ID": "r1",
            "RIVERS_ATTEMPT_ID": "r1-orders-1",
            "RIVERS_CONTROLLER_CERTIFICATE": "Q0VSVA==",
            "RIVERS_LISTEN": "[::]:7433",
            "RIVERS_WORKER": made["metadata"]["name"],
            "RIVERS_ORPHAN_TTL": "7.5",
            "RIVERS_GRACE": "3",
            "RIVERS_MODULES": "shop",
            "HOME": HOME,
        }

    def test_modules(self) -> None:
        """A fused graph's modules are each named once, and a pickled function has none."""
        pickled = PickledRef(payload=b"x", sha256=b"x", hmac=b"x")
        inner = [
            InnerStep(key=f"g/{name}", node=NodeKind.TASK, function=ImportRef(module=name, qualname="f"))
            for name in ("b", "a", "b")
        ]

        assert "b,a" == env(pod(changed(function=pickled, inner=tuple(inner))))["RIVERS_MODULES"]
        assert "RIVERS_MODULES" not in env(pod(changed(function=pickled)))

    @pytest.mark.parametrize(
        ("compute", "expected"),
        [
            (None, {"cpu": "250m", "memory": "1Gi"}),
            (Compute(), {"cpu": "250m", "memory": "1Gi"}),
            (Compute(memory="8Gi"), {"cpu": "250m", "memory": "8Gi"}),
            (Compute(cpu="2", gpu="1"), {"cpu": "2", "memory": "1Gi", "nvidia.com/gpu": "1"}),
        ],
    )
    def test_resources(self, compute: Compute | None, expected: dict[str, str]) -> None:
        """Request and limit are what the step asks for, else the executor's; disk has a limit, too."""
        resources = worker(pod(changed(compute=compute), worker_cpu="250m", worker_memory="1Gi"))["resources"]

        assert {**expected, "ephemeral-storage": "256Mi"} == resources["requests"]
        assert {**expected, "ephemeral-storage": "4Gi"} == resources["limits"]

    @pytest.mark.parametrize(
        ("timeout", "settings", "expected"),
        [
            (None, {}, None),
            (10.5, {"startup_timeout": 100, "grace": 5, "orphan_ttl": 20}, 196),
            (2.0**60, {}, 2**31 - 1),
            (1.0, {"startup_timeout": 1e300}, 2**31 - 1),
        ],
    )
    def test_deadline(self, timeout: float | None, settings: dict[str, float], expected: int | None) -> None:
        """A step with a timeout has a deadline behind everything that may come before it; others have none."""
        assert expected == pod(changed(timeout=timeout), **settings)["spec"].get("activeDeadlineSeconds")

    @pytest.mark.parametrize(("grace", "expected"), [(0.1, 1), (30, 30), (30.2, 31), (1e6, 1_000_000)])
    def test_grace(self, grace: float, expected: int) -> None:
        """A pod has at least the body's seconds to end by itself, in whole ones."""
        assert expected == pod(grace=grace)["spec"]["terminationGracePeriodSeconds"]

    def test_pull_policy(self) -> None:
        """The pull policy is left to the cluster, unless it is given."""
        assert "imagePullPolicy" not in worker(pod())
        assert "Never" == worker(pod(image_pull_policy="Never"))["imagePullPolicy"]

    def test_owner(self) -> None:
        """A controller's pod owns the worker's, and does not wait for it when it goes."""
        [reference] = pod(owner=Owner("controller", "u1"))["metadata"]["ownerReferences"]

        assert {"kind": "Pod", "apiVersion": "v1", "name": "controller", "uid": "u1"}.items() <= reference.items()
        assert reference["blockOwnerDeletion"] is False
        assert "ownerReferences" not in pod()["metadata"]

    def test_ending(self) -> None:
        """The outcome is where the client looks for it, and a worker without one leaves its last lines there."""
        assert "/dev/termination-log" == worker(pod())["terminationMessagePath"]
        assert "FallbackToLogsOnError" == worker(pod())["terminationMessagePolicy"]

    def test_lost_node(self) -> None:
        """A pod leaves a node that does not answer after a minute."""
        keys = {one["key"]: one["tolerationSeconds"] for one in pod()["spec"]["tolerations"]}

        assert {"node.kubernetes.io/not-ready": 60, "node.kubernetes.io/unreachable": 60} == keys

    def test_values_stay_as_they_are(self) -> None:
        """A variable's value reaches the body as it was given: Kubernetes' own replacements are escaped."""
        made = pod(env={"A": "$(HOME) $$ $", "HOME": "/elsewhere"})

        assert "$$(HOME) $$$$ $$" == env(made)["A"]
        assert "/elsewhere" == env(made)["HOME"]
        assert len(worker(made)["env"]) == len(env(made))


class TestDigest:
    def test_same(self) -> None:
        """The same attempt has the same manifest again, so that a repeated create recognises its own pod."""
        again = pod(env={"B": "2", "A": "1"}, pod_template={"spec": {"hostname": "a", "priority": 1}})

        assert again == pod(env={"A": "1", "B": "2"}, pod_template={"spec": {"priority": 1, "hostname": "a"}})

    @pytest.mark.parametrize(
        "other",
        [
            {"epoch": 1},
            {"nonce": 1},
            {"env": {"A": "1"}},
            {"worker_memory": "1Gi"},
            {"pod_template": {"spec": {"hostname": "a"}}},
            {"spec": changed(attempt_id="r1-orders-2")},
        ],
    )
    def test_other(self, other: dict[str, Any]) -> None:
        """Anything else is another pod, which is not taken for ours."""
        made, ours = pod(**other), pod()
        found = Pod(metadata=Metadata(annotations=made["metadata"]["annotations"]))

        assert not is_ours(found, ours)
        assert is_ours(found, made)

    def test_only_another_nonce_is_another_name(self) -> None:
        """A controller that takes over meets what its predecessor has made under the same name."""
        assert pod()["metadata"]["name"] == pod(epoch=1)["metadata"]["name"]
        assert pod()["metadata"]["name"] != pod(nonce=1)["metadata"]["name"]


class TestChanges:
    @pytest.mark.parametrize(
        ("container", "expected"),
        [
            ({}, []),
            ({"image": "mirror/shop:7"}, ["image 'mirror/shop:7' instead of 'shop:7'"]),
            ({"command": ("sh",)}, ["command ['sh'] instead of ['rivers-worker', 'serve']"]),
            ({"args": ("-x",)}, ["args ['-x'] instead of []"]),
            ({"name": "other"}, ["image '' instead of 'shop:7'", "command [] instead of ['rivers-worker', 'serve']"]),
        ],
    )
    def test_table(self, container: dict[str, Any], expected: list[str]) -> None:
        """Changes by a webhook to the worker's program are found; added side-cars are not reported."""
        own = {"name": STEP_CONTAINER, "image": "shop:7", "command": ("rivers-worker", "serve")}
        found = Pod(spec=PodSpec(containers=(Container(name="injected"), Container(**(own | container)))))

        assert expected == find_changes(found, pod())


# ── what a template changes ──


class TestTemplate:
    def test_added(self) -> None:
        """Fields without a parameter come from the template."""
        mine = template(
            {"envFrom": [{"secretRef": {"name": "s"}}], "volumeMounts": [{"name": "d", "mountPath": "/d"}]},
            nodeSelector={"disk": "ssd"},
            volumes=[{"name": "d", "persistentVolumeClaim": {"claimName": "d"}}],
            tolerations=[{"key": "batch", "operator": "Exists"}],
            imagePullSecrets=[{"name": "registry"}],
        )
        made = pod(pod_template={**mine, "metadata": {"labels": {"team": "x"}, "annotations": {"a": "b"}}})

        assert {"disk": "ssd"} == made["spec"]["nodeSelector"]
        assert ["rivers-tmp", "rivers-home", "d"] == [one["name"] for one in made["spec"]["volumes"]]
        assert ["/tmp", HOME, "/d"] == [one["mountPath"] for one in worker(made)["volumeMounts"]]
        assert [{"secretRef": {"name": "s"}}] == worker(made)["envFrom"]
        assert 3 == len(made["spec"]["tolerations"])
        assert "x" == made["metadata"]["labels"]["team"]
        assert "r1" == made["metadata"]["labels"]["rivers.io/run"]
        assert "b" == made["metadata"]["annotations"]["a"]

    def test_environment(self) -> None:
        """`env` wins over the template, the template over our defaults, and it may refer to what the worker is told."""
        variables = [
            {"name": "A", "value": "template"},
            {"name": "B", "value": "$(RIVERS_RUN_ID)"},
            {"name": "HOME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ]
        made = pod(pod_template=template({"env": variables}), env={"A": "env"})
        names = [one["name"] for one in worker(made)["env"]]

        assert "env" == env(made)["A"]
        assert {"fieldRef": {"fieldPath": "metadata.name"}} == env(made)["HOME"]
        assert "$(RIVERS_RUN_ID)" == env(made)["B"]
        assert names.index("RIVERS_RUN_ID") < names.index("B")

    def test_room(self) -> None:
        """A template can change the size and place of the folders that a body writes to."""
        mine = template(
            {
                "resources": {"limits": {"ephemeral-storage": "90Gi"}},
                "volumeMounts": [{"name": "scratch", "mountPath": "/tmp"}],
            },
            volumes=[
                {"name": "rivers-home", "emptyDir": {"sizeLimit": "80Gi"}},
                {"name": "scratch", "ephemeral": {"volumeClaimTemplate": {}}},
            ],
        )
        made = pod(pod_template=mine)
        mounts = {one["mountPath"]: one["name"] for one in worker(made)["volumeMounts"]}

        assert {"/tmp": "scratch", HOME: "rivers-home"} == mounts
        assert {"name": "rivers-home", "emptyDir": {"sizeLimit": "80Gi"}} in made["spec"]["volumes"]
        assert "90Gi" == worker(made)["resources"]["limits"]["ephemeral-storage"]
        assert "ephemeral-storage" not in worker(made)["resources"]["requests"]

    def test_user(self) -> None:
        """Another user can be named, or left to image and cluster; root is refused in any case."""
        context = pod(pod_template=template(securityContext={"runAsUser": None, "fsGroup": 5}))["spec"][
            "securityContext"
        ]

        assert "runAsUser" not in context
        assert (5, True) == (context["fsGroup"], context["runAsNonRoot"])

    def test_side_cars(self) -> None:
        """A side-car gets the restrictions of the standard, and nothing else of the worker's."""
        mine = template(containers=[{"name": "a", "image": "a:1"}], initContainers=[{"name": "b", "image": "b:1"}])
        made = pod(pod_template=mine, env={"A": "1"}, image_pull_policy="Never")
        restricted = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}

        assert [STEP_CONTAINER, "a"] == [one["name"] for one in made["spec"]["containers"]]
        assert list(side_cars(made)) == [
            {"name": "a", "image": "a:1", "securityContext": restricted},
            {"name": "b", "image": "b:1", "securityContext": restricted},
        ]

    def test_not_changed(self) -> None:
        """A template that is used again is as it was."""
        mine = json.dumps(given := template({"env": [{"name": "A"}]}, tolerations=[{"key": "a"}]))
        executor = rs.Executor.kubernetes("unused")
        for _ in range(2):
            build_manifest(
                SPEC, executor, image="i", namespace="n", certificate="c", owner=None, template=given, epoch=0
            )

        assert mine == json.dumps(given)

    @pytest.mark.parametrize(
        ("context", "absent", "expected"),
        [
            ({"privileged": True}, "allowPrivilegeEscalation", {"privileged": True}),
            ({"capabilities": {"add": ["CAP_SYS_ADMIN"]}}, "allowPrivilegeEscalation", {}),
            ({"runAsUser": 0}, "privileged", {"runAsNonRoot": False, "runAsUser": 0}),
            ({"readOnlyRootFilesystem": False}, "privileged", {"allowPrivilegeEscalation": False}),
        ],
    )
    def test_insecure(self, context: dict[str, Any], absent: str, expected: dict[str, Any]) -> None:
        """A loosened restriction removes those that contradict it and no others."""
        made = pod(pod_template=template({"securityContext": context}), allow_insecure_pod=True)
        found = worker(made)["securityContext"]

        assert expected.items() <= found.items()
        assert absent not in found
        assert ["ALL"] == found["capabilities"]["drop"]

    def test_insecure_pod(self) -> None:
        """A whole pod of root is one when it is wanted."""
        made = pod(pod_template=template(securityContext={"runAsUser": 0}), allow_insecure_pod=True)

        assert made["spec"]["securityContext"]["runAsNonRoot"] is False


# ── no template weakens a pod ──


RESTRICTED_VOLUMES = frozenset(
    ("name", "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret")
)


def weaknesses(made: Any) -> list[str]:
    """Return a pod's violations of the restricted standard and of rivers' additions, independently of the code."""
    spec, context = made["spec"], made["spec"]["securityContext"]
    found = [f for f in ("hostPID", "hostIPC", "hostNetwork", "shareProcessNamespace") if spec.get(f)]
    found += [f for f in ("automountServiceAccountToken", "enableServiceLinks") if spec[f] is not False]
    found += ["pod runs as root"] if context["runAsNonRoot"] is not True or context.get("runAsUser") == 0 else []
    found += ["pod seccomp"] if context["seccompProfile"]["type"] not in ("RuntimeDefault", "Localhost") else []
    found += sorted({kind for one in spec["volumes"] for kind in one} - RESTRICTED_VOLUMES)
    for one in (worker(made), *side_cars(made)):
        own = one["securityContext"]
        found += ["privileged"] if own.get("privileged") else []
        found += ["escalation"] if own.get("allowPrivilegeEscalation") is not False else []
        found += ["capabilities"] if "ALL" not in own["capabilities"]["drop"] or own["capabilities"].get("add") else []
        found += ["root"] if own.get("runAsNonRoot") is False or own.get("runAsUser") == 0 else []
        found += ["host port"] if any(port.get("hostPort") for port in one.get("ports", ())) else []
        found += ["seccomp"] if own.get("seccompProfile", {}).get("type") == "Unconfined" else []
    found += ["writable root"] if worker(made)["securityContext"]["readOnlyRootFilesystem"] is not True else []
    found += ["two workers"] if 1 != [one["name"] for one in spec["containers"]].count(STEP_CONTAINER) else []
    return found


def missing(made: Any) -> list[str]:
    """Return the fields of a worker's pod that differ from rivers' own."""
    plain = pod(env={"A": "ours"})
    same = ("image", "command", "ports", "terminationMessagePath", "terminationMessagePolicy")
    found = [name for name in same if worker(made)[name] != worker(plain)[name]] + [
        n for n in ("args",) if n in worker(made)
    ]
    found += [name for name, value in env(plain).items() if name != "HOME" and env(made)[name] != value]
    found += [
        n
        for n in ("cpu", "memory")
        if worker(made)["resources"]["limits"][n] != worker(plain)["resources"]["limits"][n]
    ]
    found += [n for n in ("restartPolicy", "serviceAccountName") if made["spec"][n] != plain["spec"][n]]
    labels = plain["metadata"]["labels"]
    return found + [name for name in labels if made["metadata"]["labels"][name] != labels[name]]


def objects(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


flags = st.sampled_from([True, False, None])
ids = st.sampled_from([None, 0, 1, 10001])
profiles = st.sampled_from([None, {}, {"type": "RuntimeDefault"}, {"type": "Localhost"}, {"type": "Unconfined"}])
contexts = st.none() | objects(
    privileged=flags,
    allowPrivilegeEscalation=flags,
    readOnlyRootFilesystem=flags,
    runAsNonRoot=flags,
    runAsUser=ids,
    runAsGroup=ids,
    seccompProfile=profiles,
    capabilities=st.none()
    | objects(
        add=st.sampled_from([None, [], ["NET_ADMIN"]]), drop=st.sampled_from([None, [], ["ALL"], ["X"], ["X", "ALL"]])
    ),
)
variables = st.lists(
    st.fixed_dictionaries(
        {"name": st.sampled_from(["A", "HOME", "RIVERS_RUN_ID", "RIVERS_LISTEN", "B"])},
        optional={"value": st.sampled_from([None, "x"]), "valueFrom": st.just({"secretKeyRef": {}})},
    ),
    max_size=3,
)
containers = st.fixed_dictionaries(
    {"name": st.sampled_from([STEP_CONTAINER, "a", "b"])},
    optional={
        "image": st.just("x:1"),
        "args": st.sampled_from([None, ["x"]]),
        "command": st.sampled_from([None, [], ["sh"]]),
        "env": variables,
        "ports": st.sampled_from([None, [], [{"containerPort": 7433}], [{"containerPort": 1, "hostPort": 1}]]),
        "resources": st.sampled_from([None, {}, {"limits": {"cpu": "9"}}, {"limits": {"ephemeral-storage": "1Gi"}}]),
        "securityContext": contexts,
        "terminationMessagePath": st.sampled_from([None, "/x"]),
    },
)
volumes = st.fixed_dictionaries(
    {"name": st.sampled_from(["rivers-tmp", "rivers-home", "v"])},
    optional={kind: st.just({}) for kind in ("hostPath", "emptyDir", "secret", "image")},
)
labels = st.dictionaries(
    st.sampled_from(["a", "rivers.io/run", "sidecar.istio.io/inject"]), st.sampled_from([None, "x"])
)
templates = objects(
    metadata=st.none() | objects(labels=st.none() | labels, name=st.sampled_from([None, "x"])),
    spec=st.none()
    | objects(
        automountServiceAccountToken=flags,
        containers=st.none() | st.lists(containers, max_size=3),
        enableServiceLinks=flags,
        hostNetwork=flags,
        hostPID=flags,
        initContainers=st.none() | st.lists(containers, max_size=2),
        restartPolicy=st.sampled_from([None, "Never", "Always"]),
        securityContext=st.none() | objects(runAsNonRoot=flags, runAsUser=ids, fsGroup=ids, seccompProfile=profiles),
        serviceAccountName=st.sampled_from([None, "x"]),
        shareProcessNamespace=flags,
        tolerations=st.none()
        | st.lists(objects(key=st.sampled_from(["node.kubernetes.io/not-ready", "x"])), max_size=2),
        volumes=st.none() | st.lists(volumes, max_size=2),
    ),
)


def accepted(mine: dict[str, Any], allow_insecure: bool) -> Any:
    try:
        return pod(pod_template=mine, env={"A": "ours"}, allow_insecure_pod=allow_insecure)
    except ConfigurationError:
        return None


class TestAnyTemplate:
    def test_the_measure(self) -> None:
        """A plain pod has no weakness, and each that a template may want is seen."""
        wants: list[dict[str, Any]] = [
            {"hostPID": True},
            {"automountServiceAccountToken": True},
            {"securityContext": {"runAsUser": 0}},
            {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
            {"volumes": [{"name": "v", "hostPath": {"path": "/"}}]},
            *(
                {"containers": [{"name": "a", "image": "x:1", "securityContext": context}]}
                for context in ({"privileged": True}, {"capabilities": {"add": ["X"]}}, {"runAsUser": 0})
            ),
        ]

        assert [] == weaknesses(pod())
        assert [] == missing(pod(env={"A": "ours"}))
        for want in wants:
            assert weaknesses(pod(pod_template={"spec": want}, allow_insecure_pod=True))

    @settings(max_examples=300)
    @given(templates)
    def test_weakens_nothing(self, mine: dict[str, Any]) -> None:
        """A template that passes leaves a pod as restricted as it was, whatever it is made of."""
        made = accepted(mine, False)
        assume(made is not None)

        assert [] == weaknesses(made)

    @settings(max_examples=300)
    @given(templates, st.booleans())
    def test_takes_nothing_away(self, mine: dict[str, Any], allow_insecure: bool) -> None:
        """Required fields stay, even if the template may loosen the pod."""
        made = accepted(mine, allow_insecure)
        assume(made is not None)

        assert [] == missing(made)

    @given(templates)
    def test_again(self, mine: dict[str, Any]) -> None:
        """A template's pod is the same every time, and can be sent."""
        made = accepted(mine, True)
        assume(made is not None)

        assert json.dumps(made, allow_nan=False) == json.dumps(accepted(mine, True))
        assert 64 == len(made["metadata"]["annotations"][DIGEST])


class TestWarm:
    def test_worker(self) -> None:
        """The worker of a warm pod takes many attempts, ends itself when it is unused, and empties our two volumes."""
        made = env(pod(is_warm=True, idle_ttl=5, max_steps_per_worker=7))

        assert ("7", "65.0", "/tmp:/home/rivers") == tuple(
            made[f"RIVERS_{name}"] for name in ("MAX_ATTEMPTS", "IDLE_TTL", "SCRATCH")
        )
        assert not {"RIVERS_MAX_ATTEMPTS", "RIVERS_IDLE_TTL", "RIVERS_SCRATCH"} & env(pod()).keys()

    def test_no_deadline(self) -> None:
        """The time limit of one step does not end the pod of others."""
        assert "activeDeadlineSeconds" in pod(changed(timeout=5.0))["spec"]
        assert "activeDeadlineSeconds" not in pod(changed(timeout=5.0), is_warm=True)["spec"]

    @pytest.mark.parametrize(
        ("mounts", "volumes", "expected"),
        [
            ([], [{"name": "rivers-home", "persistentVolumeClaim": {"claimName": "c"}, "emptyDir": None}], "/tmp"),
            ([{"name": "data", "mountPath": "/tmp/data"}], [{"name": "data", "emptyDir": {}}], "/tmp:/home/rivers"),
        ],
    )
    def test_what_a_template_mounts_stays(self, mounts: Any, volumes: Any, expected: str) -> None:
        """No folder is emptied that the template has given another volume; one below which it mounts another is."""
        given = template({"volumeMounts": mounts}, volumes=volumes)

        assert expected == env(pod(is_warm=True, pod_template=given))["RIVERS_SCRATCH"]

    def test_shape(self) -> None:
        """Pods are interchangeable whatever their attempts are, but for the resources of these."""
        function = ImportRef(module="other", qualname="f")
        others = [
            changed(step="invoices", attempt_id="r1-invoices-3", attempt=3),
            changed(function=function, timeout=5.0, config="{}", metadata={"a": "b"}, tags=("t",), group="g"),
            changed(inner=(InnerStep(key="k", node=NodeKind.TASK, function=function),), is_async=True),
        ]
        shapes = {build_shape(pod(one, is_warm=True)) for one in (SPEC, *others)}

        assert 1 == len(shapes)
        assert build_shape(pod(changed(compute=Compute(memory="1Gi")), is_warm=True)) not in shapes
        assert build_shape(pod(is_warm=True, env={"A": "1"})) not in shapes
        assert build_shape(pod(is_warm=True, pod_template=template(hostname="x"))) not in shapes


def test_every_parameter_is_used() -> None:
    """No parameter of the executor that says something of a pod is forgotten: each makes another manifest."""
    others = {
        "service_account": "x",
        "worker_cpu": "2",
        "worker_memory": "2Gi",
        "pod_template": {"spec": {"hostname": "x"}},
        "image_pull_policy": "Always",
        "startup_timeout": 5,
        "keep_failed_pods": True,
        "orphan_ttl": 5,
        "grace": 5,
        "env": {"A": "1"},
    }
    elsewhere = {"worker_image", "namespace", "max_concurrent_steps", "context", "allow_pickle", "allow_insecure_pod"}
    elsewhere |= {"inline_values", "worker_reuse", "idle_ttl", "max_steps_per_worker"}
    timed = changed(timeout=1.0)

    assert {field.name for field in dataclasses.fields(rs.Executor.kubernetes())} == elsewhere | others.keys()
    for name, value in others.items():
        assert pod(timed) != pod(timed, **{name: value})
