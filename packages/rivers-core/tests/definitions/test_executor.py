from __future__ import annotations

import dataclasses
import inspect
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any

import pytest

from rivers._definitions.asset import Asset
from rivers._definitions.cpus import usable_cpus
from rivers._definitions.executor import Executor
from rivers._definitions.frozen_json import FrozenJSON
from rivers.exceptions import AssetDefinitionError, ConfigurationError

TEMPLATE = {"kind": "Pod", "spec": {"nodeSelector": {"disk": "ssd"}, "tolerations": [{"key": "gpu"}]}}


@dataclass(frozen=True)
class Slurm(Executor):
    kind = "slurm"

    queue: str = "default"


class Plain(Executor):
    kind = "plain"

    def __init__(self, queue: str) -> None:
        self.__dict__["queue"] = queue


class Team(StrEnum):
    DATA = "data"


class Nameless(Executor):
    pass


VALUES = [
    (Executor.in_process(), "Executor.InProcess()"),
    (Executor.parallel(max_workers=4), "Executor.Parallel(max_workers=4)"),
    (Executor.parallel(4, 10), "Executor.Parallel(max_workers=4, max_async_concurrent=10)"),
    (Executor.kubernetes(), "Executor.Kubernetes()"),
    (Executor.kubernetes("img:1", grace=5), "Executor.Kubernetes(worker_image='img:1', grace=5)"),
    (Executor.kubernetes(env={"B": "2", "A": "1"}), "Executor.Kubernetes(env={'A': '1', 'B': '2'})"),
    (Executor.kubernetes(pod_template=Path("pod.yaml")), "Executor.Kubernetes(pod_template='pod.yaml')"),
    (Executor.kubernetes(pod_template=TEMPLATE), f"Executor.Kubernetes(pod_template={TEMPLATE})"),
    (Slurm(queue="long"), "Slurm(queue='long')"),
]


class TestValues:
    @pytest.mark.parametrize(("executor", "text"), VALUES)
    def test_repr(self, executor: Executor, text: str) -> None:
        """The repr shows what differs from the defaults, and pasted back it makes an equal value."""
        assert text == repr(executor)
        assert executor == eval(text)

    @pytest.mark.parametrize(("executor", "text"), VALUES)
    def test_equal(self, executor: Executor, text: str) -> None:
        """Equal values hash alike, survive a pickle and being replaced by themselves, and cannot be changed."""
        again = pickle.loads(pickle.dumps(executor))

        assert executor == again == dataclasses.replace(executor)
        assert hash(executor) == hash(again)
        with pytest.raises(dataclasses.FrozenInstanceError):
            executor.kind = "other"  # type: ignore[misc]

    def test_different(self) -> None:
        """All of them are different from each other."""
        assert len(VALUES) == len({executor for executor, _ in VALUES})

    @pytest.mark.parametrize(
        ("executor", "cls", "kind"),
        [
            (Executor.in_process(), Executor.InProcess, "in_process"),
            (Executor.parallel(), Executor.Parallel, "parallel"),
            (Executor.kubernetes(), Executor.Kubernetes, "kubernetes"),
        ],
    )
    def test_nested(self, executor: Executor, cls: type[Executor], kind: str) -> None:
        """The nested classes are Executors of their kind, found by their qualified name, and make the same values."""
        assert type(executor) is cls
        assert issubclass(cls, Executor)
        assert kind == executor.kind == cls.kind
        assert f"Executor.{cls.__name__}" == cls.__qualname__
        assert cls is getattr(Executor, cls.__name__)
        assert executor == cls()

    @pytest.mark.parametrize(
        ("factory", "cls"),
        [
            (Executor.in_process, Executor.InProcess),
            (Executor.parallel, Executor.Parallel),
            (Executor.kubernetes, Executor.Kubernetes),
        ],
    )
    def test_same_parameters(self, factory: Any, cls: Any) -> None:
        """Factory and class take the same parameters, of the same kinds, with the same defaults."""
        found, expected = (
            [(one.name, one.kind, one.default) for one in inspect.signature(made).parameters.values()]
            for made in (factory, cls)
        )

        assert found == expected

    def test_every_parameter_arrives(self) -> None:
        """The kubernetes factory hands every parameter on under its own name."""
        given = {
            "worker_image": "i",
            "max_concurrent_steps": 3,
            "namespace": "n",
            "service_account": "s",
            "worker_cpu": "1",
            "worker_memory": "1Gi",
            "pod_template": TEMPLATE,
            "image_pull_policy": "Never",
            "startup_timeout": 1,
            "context": "c",
            "keep_failed_pods": True,
            "allow_pickle": True,
            "orphan_ttl": 2,
            "grace": 3,
            "allow_insecure_pod": True,
            "env": {"A": "1"},
            "inline_values": True,
            "worker_reuse": "run",
            "idle_ttl": 4,
            "max_steps_per_worker": 5,
        }
        executor = Executor.kubernetes(**given)  # type: ignore[arg-type]

        assert given == {field.name: getattr(executor, field.name) for field in dataclasses.fields(executor)}

    def test_made_without_their_packages(self) -> None:
        """Making every value loads neither kubernetes nor loky."""
        code = (
            "import sys; from rivers._definitions.executor import Executor as E; E.parallel(2); E.kubernetes('i');"
            "sys.exit(any(name.split('.')[0] in ('kubernetes', 'loky', 'yaml', 'grpc') for name in sys.modules))"
        )

        subprocess.run([sys.executable, "-c", code], check=True, env={**os.environ, "PYTHONPATH": ":".join(sys.path)})


class TestOwnExecutors:
    def test_no_kind(self) -> None:
        """A class without a kind is refused with what to write."""
        with pytest.raises(ConfigurationError, match=r'Nameless has no kind\n.*write kind = "nameless"'):
            Nameless()

    def test_plain_class(self) -> None:
        """A class that is no dataclass compares by identity, so that different ones are never taken for equal."""
        assert Plain("a") != Plain("b")

    def test_base(self) -> None:
        """The base class makes no values and names the factories."""
        with pytest.raises(ConfigurationError, match=r"Executor\.in_process\(\)"):
            Executor()

    def test_must_be_frozen(self) -> None:
        """A dataclass that could change is refused by Python itself."""
        with pytest.raises(TypeError, match="non-frozen"):

            @dataclass
            class Loose(Executor):  # type: ignore[misc]
                kind = "loose"


class TestRefused:
    def test_worker_reuse(self) -> None:
        """A word that is nearly right is refused with the right one, and so is the metadata of an asset."""
        with pytest.raises(
            ConfigurationError, match=r"invalid worker_reuse='runs': expected 'never' or 'run'"
        ) as caught:
            Executor.kubernetes(worker_reuse="runs")
        assert "did you mean 'run'?" == caught.value.hint

        with pytest.raises(AssetDefinitionError, match=r"invalid metadata\['rivers/worker_reuse'\]='nevr'") as refused:
            Asset(lambda: 1, name="a", metadata={"rivers/worker_reuse": "nevr"})
        assert "did you mean 'never'?" == refused.value.hint

    @pytest.mark.parametrize("parameter", ["max_workers", "max_async_concurrent"])
    @pytest.mark.parametrize("value", [0, -1, True, False, "4", 2.0, [], object()])
    @pytest.mark.parametrize("make", [Executor.parallel, Executor.Parallel])
    def test_parallel(self, make: Any, parameter: str, value: object) -> None:
        """Only whole numbers of at least 1 are counts of workers, for the factory and the class alike."""
        with pytest.raises(ConfigurationError) as caught:
            make(**{parameter: value})

        assert caught.value.message.startswith(f"invalid {parameter}={str(value)[:3] if value != '4' else repr(value)}")
        assert caught.value.message.endswith(": expected a whole number of at least 1 or None")

    @pytest.mark.parametrize(
        ("parameter", "values"),
        [
            ("worker_image", ["", " ", "a b", "a\n", 1, b"i"]),
            ("max_concurrent_steps", [0, -1, True, "4", 1.0]),
            ("namespace", ["", "My-ns", "a_b", "-a", "a-", "a.b", "a" * 64, "ä", "a\n", 1]),
            ("service_account", ["", None, "A", "a_b", "a..b", ".a", "a.", "a-.b", "a" * 254, "a\n", 1]),
            ("worker_cpu", ["", "abc", "0", "-1", "0.1m", "1X", None, 0, -1, 0.0001, True]),
            ("worker_memory", ["", "abc", "1X", "0", "0Mi", "-1Gi", "512MB", "400m", None, 512, True]),
            ("pod_template", ["", "a\nb", b"a", [], 1, {"a": {1}}, {"a": float("nan")}, {1: 2, "a": 3}]),
            ("pod_template['kind']", []),
            ("image_pull_policy", ["", "always", "Sometimes", 1, ["Always"]]),
            ("startup_timeout", [0, -1, True, "600", None, float("inf"), float("nan")]),
            ("context", ["", "a\nb", 1]),
            ("keep_failed_pods", [0, 1, "yes", None]),
            ("allow_pickle", [0, 1, "yes", None]),
            ("orphan_ttl", [0, -1, True, "120", None, float("inf")]),
            ("grace", [0, -1, True, "30", None, float("inf")]),
            ("allow_insecure_pod", [0, 1, "yes", None]),
            ("env", [None, [("A", "1")], "A=1"]),
            ("worker_reuse", ["", "Run", "always", None, True, 1]),
            ("idle_ttl", [0, -1, True, "30", None, float("inf")]),
            ("max_steps_per_worker", [0, -1, True, "4", 1.0, None]),
        ],
    )
    @pytest.mark.parametrize("make", [Executor.kubernetes, Executor.Kubernetes])
    def test_kubernetes(self, make: Any, parameter: str, values: list[object]) -> None:
        """Every parameter refuses what no cluster would take, naming itself, the value and what is expected."""
        for value in values:
            with pytest.raises(ConfigurationError) as caught:
                make(**{parameter: value})

            assert caught.value.message.startswith(f"invalid {parameter}={repr(value)[:60]}")
            assert ": expected " in caught.value.message

    @pytest.mark.parametrize(
        ("given", "start"),
        [
            ({"env": {"A=B": "1"}}, "invalid env name='A=B'"),
            ({"env": {"": "1"}}, "invalid env name=''"),
            ({"env": {1: "1"}}, "invalid env name=1"),
            ({"env": {"A": True}}, "invalid env['A']=True"),
            ({"env": {"A": None}}, "invalid env['A']=None"),
            ({"env": {"A": "\x00"}}, "invalid env['A']="),
            ({"pod_template": {"kind": "Job"}}, "invalid pod_template['kind']='Job'"),
        ],
    )
    def test_inside(self, given: Any, start: str) -> None:
        """A mistake inside a mapping is named by its key."""
        with pytest.raises(ConfigurationError) as caught:
            Executor.kubernetes(**given)

        assert caught.value.message.startswith(start)

    def test_pull_policy_hint(self) -> None:
        """A policy in the wrong case is answered with the right one."""
        with pytest.raises(ConfigurationError, match="did you mean 'IfNotPresent'"):
            Executor.kubernetes(image_pull_policy="ifnotpresent")


class TestAccepted:
    def test_plain_forms(self) -> None:
        """Numbers, durations, paths and members of string enums arrive in their plain forms."""
        given: dict[str, Any] = {
            "worker_cpu": 2,
            "worker_memory": 2**30,
            "startup_timeout": timedelta(minutes=5),
            "grace": timedelta(seconds=1.5),
            "namespace": Team.DATA,
            "env": {"WORKERS": 4, "SHARE": 0.5, "HOME": Path("/app")},
        }
        expected = ("2", "1073741824", 300.0, 1.5, "data", {"WORKERS": "4", "SHARE": "0.5", "HOME": "/app"})

        for executor in (Executor.kubernetes(**given), dataclasses.replace(Executor.kubernetes(), **given)):
            assert expected == tuple(getattr(executor, name) for name in given)
            assert executor == eval(repr(executor))

    @pytest.mark.parametrize(
        "given",
        [
            {"worker_image": "registry.example:5000/team/app@sha256:" + "0" * 64},
            {"namespace": "a" * 63},
            {"namespace": "0-9"},
            {"service_account": ".".join(["a" * 60] * 4)},
            {"worker_cpu": "0.25", "worker_memory": "1.5Gi"},
            {"startup_timeout": 0.5},
            {"pod_template": "not/there/pod.yaml"},
            {"context": "arn:aws:eks:eu-west-1:1:cluster/x y"},
            {"env": {"A.B-c": "=", "EMPTY": ""}},
        ],
    )
    def test_kubernetes(self, given: Any) -> None:
        """What a cluster takes is taken; a template's path is not opened, as workers may not have the file."""
        executor = Executor.kubernetes(**given)

        assert given == {name: getattr(executor, name) for name in given}

    def test_template_is_a_copy(self) -> None:
        """Later changes to the dict a value was made from, or to what it hands out, do not reach it."""
        labels = {"a": "1"}
        executor = Executor.kubernetes(pod_template={"metadata": {"labels": labels}})
        labels["a"] = "2"
        assert isinstance(executor.pod_template, FrozenJSON)
        executor.pod_template["metadata"]["labels"]["a"] = "3"

        assert {"metadata": {"labels": {"a": "1"}}} == executor.pod_template

    def test_template_order(self) -> None:
        """The order of a dict's keys makes no difference."""
        one = Executor.kubernetes(pod_template={"kind": "Pod", "spec": {"hostname": "a", "priority": 3}})
        other = Executor.kubernetes(pod_template={"spec": {"priority": 3, "hostname": "a"}, "kind": "Pod"})

        assert one == other
        assert hash(one) == hash(other)


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


V1 = "sys/fs/cgroup/cpu"


class TestUsableCpus:
    def test_default(self) -> None:
        """max_workers left out is a number, as many as this process may use, and always shown."""
        executor = Executor.parallel()

        assert usable_cpus() == executor.max_workers >= 1
        assert f"Executor.Parallel(max_workers={usable_cpus()})" == repr(executor)

    @pytest.mark.parametrize(
        "files",
        [
            pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "50000 100000\n"}, id="v2"),
            pytest.param({"proc/self/cgroup": "0::/a/b\n", "sys/fs/cgroup/a/cpu.max": "100000 100000"}, id="v2 parent"),
            pytest.param(
                {"proc/self/cgroup": "0::/host\n", "sys/fs/cgroup/cpu.max": "1000 100000"}, id="v2 foreign path"
            ),
            pytest.param(
                {
                    "proc/self/cgroup": "4:cpu,cpuacct:/x\n0::/\n",
                    f"{V1}/x/cpu.cfs_quota_us": "30000\n",
                    f"{V1}/x/cpu.cfs_period_us": "100000\n",
                },
                id="v1",
            ),
        ],
    )
    def test_quota(self, tmp_path: Path, files: dict[str, str]) -> None:
        """A cgroup's CPU quota of up to one CPU, its own or a parent's, v1 or v2, makes one worker."""
        assert 1 == usable_cpus(write(tmp_path, files))

    @pytest.mark.parametrize(
        "files",
        [
            pytest.param({}, id="no cgroups"),
            pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"}, id="v2 max"),
            pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "nonsense"}, id="v2 nonsense"),
            pytest.param({"proc/self/cgroup": "nonsense\n\n:\n3:memory:/\n"}, id="nonsense"),
            pytest.param(
                {
                    "proc/self/cgroup": "1:cpu:/\n",
                    f"{V1}/cpu.cfs_quota_us": "-1\n",
                    f"{V1}/cpu.cfs_period_us": "100000\n",
                },
                id="v1 no quota",
            ),
            pytest.param({"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "99999999 1000\n"}, id="v2 plenty"),
        ],
    )
    def test_no_quota(self, tmp_path: Path, files: dict[str, str]) -> None:
        """Without a quota, or with one above it, the affinity decides."""
        expected = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()

        assert expected == usable_cpus(write(tmp_path, files))

    @pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two CPUs to distinguish rounding up from down")
    def test_rounds_up(self, tmp_path: Path) -> None:
        """A quota of one and a half CPUs is worth two workers."""
        files = {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "150000 100000\n"}

        assert min(2, usable_cpus()) == usable_cpus(write(tmp_path, files))

    @pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
    def test_affinity(self) -> None:
        """A process bound to one CPU gets one worker."""
        code = (
            "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))});"
            "from rivers._definitions.executor import Executor; print(Executor.parallel().max_workers)"
        )
        environment = {**os.environ, "PYTHONPATH": ":".join(sys.path)}
        done = subprocess.run([sys.executable, "-c", code], check=True, env=environment, capture_output=True, text=True)

        assert "1" == done.stdout.strip()
