"""Where steps run, as the user says it: `Executor` values. What carries one out is a backend, in a package of its own.

    rs.Executor.in_process()    rs.Executor.parallel(…)    rs.Executor.kubernetes(…)    a stranger's `Slurm(…)`

The values name no backend and import none: the module that makes one is imported by workers, too, where the executor's
package is not installed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, TypeVar

from rivers._definitions.compute import check_cpu, check_memory
from rivers._definitions.names import check_count, check_flag, check_number, check_text, closest, pasted, refusal
from rivers._definitions.pod_template import RESERVED_ENV, check_pod_template
from rivers.exceptions import ConfigurationError
from rivers_process.cgroup import cgroup_folders, read_kernel_file

__all__ = ["Executor", "FrozenJSON", "usable_cpus"]

_LABEL = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_NAMESPACE = re.compile(_LABEL)
_SERVICE_ACCOUNT = re.compile(r"[a-z0-9](?:[-a-z0-9]*[a-z0-9])?(?:\.[a-z0-9](?:[-a-z0-9]*[a-z0-9])?)*")
_IMAGE = re.compile(r"[!-~]+")
_CONTEXT = re.compile(r"[^\x00-\x1f\x7f]+")
_ENV_NAME = re.compile(r"[ -<>-~]+")  # printable ASCII but the equals sign, as the API server accepts
_PULL_POLICIES = ("Always", "IfNotPresent", "Never")


class FrozenJSON(Mapping[str, Any]):
    """A JSON object as a value: does not change, compares by content and has a hash. What is nested comes as a copy."""

    __slots__ = ("text",)

    def __init__(self, value: Mapping[str, Any]) -> None:
        self.text: str = json.dumps(dict(value), sort_keys=True, allow_nan=False, ensure_ascii=False)

    def __getitem__(self, key: str) -> Any:
        return json.loads(self.text)[key]

    def __iter__(self) -> Iterator[str]:
        return iter(json.loads(self.text))

    def __len__(self) -> int:
        return len(json.loads(self.text))

    def __eq__(self, other: object) -> bool:
        return self.text == other.text if isinstance(other, FrozenJSON) else super().__eq__(other)

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return repr(json.loads(self.text))


_NO_ENV: Mapping[str, str] = FrozenJSON({})


class _Nested:
    """The classes inside `Executor`, for type checkers; a base of its own, as a dataclass may not hold aliases."""

    InProcess: TypeAlias = "_InProcess"
    Parallel: TypeAlias = "_Parallel"
    Kubernetes: TypeAlias = "_Kubernetes"


# No eq: a stranger's plain class with attributes of its own must not be equal to another one for want of fields.
@dataclass(frozen=True, repr=False, eq=False)
class Executor(_Nested):
    """Where a step runs: a frozen, comparable, hashable value for `rs.Job(executor=…)` and the repository.

    Choose `Executor.in_process()`, `Executor.parallel()` or `Executor.kubernetes()`; the classes `Executor.InProcess`,
    `.Parallel` and `.Kubernetes` are for `isinstance`. An executor of your own is a frozen dataclass with a `kind`, the
    name under which its backend is registered in the entry-point group `rivers.executors`:

        @dataclass(frozen=True)
        class Slurm(rs.Executor):
            kind = "slurm"
            queue: str = "default"

    Check parameters in `__post_init__` and raise `rivers.exceptions.ConfigurationError`. Every parameter needs a
    default: `rivers/executor: "slurm"` alone means `Slurm()`.

    Raises:
        ConfigurationError: this base class, or one without a `kind`, is made.
    """

    kind: ClassVar[str]

    def __post_init__(self) -> None:
        if isinstance(getattr(self, "kind", None), str):
            return
        if type(self) is Executor:
            raise ConfigurationError(
                "Executor() is only the base of executors",
                hint="write rs.Executor.in_process(), rs.Executor.parallel() or rs.Executor.kubernetes()",
            )
        name = type(self).__name__
        raise ConfigurationError(
            f"executor class {name} has no kind", hint=f'write kind = "{name.lower()}" in its body'
        )

    def __repr__(self) -> str:
        return pasted(self, name=type(self).__qualname__)

    @staticmethod
    def in_process() -> Executor.InProcess:
        """Run every step in the calling process and thread, one after another; async steps too."""
        return _InProcess()

    @staticmethod
    def parallel(max_workers: int | None = None, max_async_concurrent: int | None = None) -> Executor.Parallel:
        """Run sync steps at once in worker processes of this machine, async steps at once in this process.

        Args:
            max_workers: Worker processes for sync steps; None is as many as this process may use CPUs
                (`os.cpu_count()`, its affinity, its cgroup's quota).
            max_async_concurrent: How many async steps may be in flight; None is no cap.

        Raises:
            ConfigurationError: a parameter is no whole number of at least 1.
        """
        return _Parallel(max_workers, max_async_concurrent)

    @staticmethod
    def kubernetes(
        worker_image: str | None = None,
        *,
        max_concurrent_steps: int | None = None,
        namespace: str | None = None,
        service_account: str = "rivers-executor",
        worker_cpu: str = "500m",
        worker_memory: str = "512Mi",
        pod_template: Mapping[str, Any] | str | os.PathLike[str] | None = None,
        image_pull_policy: str | None = None,
        startup_timeout: float = 600,
        context: str | None = None,
        keep_failed_pods: bool = False,
        allow_pickle: bool = False,
        orphan_ttl: float = 120,
        grace: float = 30,
        allow_insecure_pod: bool = False,
        env: Mapping[str, str] = _NO_ENV,
    ) -> Executor.Kubernetes:
        """Run every attempt of a step in a pod of its own.

        Args:
            worker_image: Image of the worker pods; None is the image of the pod that this process runs in.
            max_concurrent_steps: Step pods at once; None is no cap.
            namespace: Where pods are made; None is the current namespace.
            service_account: Service account of the worker pods.
            worker_cpu: CPU request and limit of a step without a `Compute` of its own, a Kubernetes quantity.
            worker_memory: Memory request and limit, likewise.
            pod_template: Pod manifest that ours is merged over: a dict, or the path of a YAML file, read when a run
                begins. For volumes, node selectors, tolerations, annotations, pull secrets, side-cars.
            image_pull_policy: "Always", "IfNotPresent" or "Never"; None leaves it to the cluster.
            startup_timeout: Seconds a pod may take until its worker answers.
            context: A context of the kubeconfig; None is the current one.
            keep_failed_pods: Leave the pods of failed attempts for inspection.
            allow_pickle: Send functions without module scope as cloudpickles; the worker must allow it, too.
            orphan_ttl: Seconds after which a worker without its controller ends itself.
            grace: Seconds that a cancelled body has to end by itself.
            allow_insecure_pod: Let `pod_template` loosen the pod's security settings, and hold fields that rivers does
                not know.
            env: Environment variables of the bodies. No secrets: they can be read in the pod's manifest and in this
                value's repr; name a Secret in the `pod_template`.

        Raises:
            ConfigurationError: a parameter is not acceptable; names it, the value and what is allowed.
        """
        return _Kubernetes(
            worker_image,
            max_concurrent_steps=max_concurrent_steps,
            namespace=namespace,
            service_account=service_account,
            worker_cpu=worker_cpu,
            worker_memory=worker_memory,
            pod_template=pod_template,
            image_pull_policy=image_pull_policy,
            startup_timeout=startup_timeout,
            context=context,
            keep_failed_pods=keep_failed_pods,
            allow_pickle=allow_pickle,
            orphan_ttl=orphan_ttl,
            grace=grace,
            allow_insecure_pod=allow_insecure_pod,
            env=env,
        )


_E = TypeVar("_E", bound=Executor)


def _nested(cls: type[_E]) -> type[_E]:
    """Put a class where users and pickle look for it: inside the class it inherits from, which Python cannot write."""
    cls.__name__ = cls.__name__.lstrip("_")
    cls.__qualname__ = f"Executor.{cls.__name__}"
    setattr(Executor, cls.__name__, cls)
    return cls


@_nested
@dataclass(frozen=True, repr=False)
class _InProcess(Executor):
    """Every step in the calling process; see `Executor.in_process`."""

    kind = "in_process"


@_nested
@dataclass(frozen=True, repr=False, init=False)
class _Parallel(Executor):
    """Worker processes of this machine; see `Executor.parallel`. `max_workers` is always a number."""

    kind = "parallel"

    max_workers: int
    max_async_concurrent: int | None = None

    def __init__(self, max_workers: int | None = None, max_async_concurrent: int | None = None) -> None:
        check_count("max_workers", max_workers, optional=True)
        check_count("max_async_concurrent", max_async_concurrent, optional=True)
        object.__setattr__(self, "max_workers", usable_cpus() if max_workers is None else max_workers)
        object.__setattr__(self, "max_async_concurrent", max_async_concurrent)


@_nested
@dataclass(frozen=True, repr=False)
class _Kubernetes(Executor):
    """A pod for every attempt; see `Executor.kubernetes`.

    `pod_template` is None, the path of a YAML file, or a FrozenJSON; `env` is a FrozenJSON.
    """

    kind = "kubernetes"

    worker_image: str | None = None
    _: KW_ONLY
    max_concurrent_steps: int | None = None
    namespace: str | None = None
    service_account: str = "rivers-executor"
    worker_cpu: str = "500m"
    worker_memory: str = "512Mi"
    pod_template: Mapping[str, Any] | str | os.PathLike[str] | None = None
    image_pull_policy: str | None = None
    startup_timeout: float = 600
    context: str | None = None
    keep_failed_pods: bool = False
    allow_pickle: bool = False
    orphan_ttl: float = 120
    grace: float = 30
    allow_insecure_pod: bool = False
    env: Mapping[str, str] = _NO_ENV

    def __post_init__(self) -> None:
        self._check_texts()
        check_count("max_concurrent_steps", self.max_concurrent_steps, optional=True)
        check_cpu("worker_cpu", self.worker_cpu)
        check_memory("worker_memory", self.worker_memory)
        for parameter in ("startup_timeout", "orphan_ttl", "grace"):
            check_number(parameter, getattr(self, parameter), above=0, unit="seconds")
        for parameter in ("keep_failed_pods", "allow_pickle", "allow_insecure_pod"):
            check_flag(parameter, getattr(self, parameter))
        object.__setattr__(self, "pod_template", _pod_template(self.pod_template))
        if isinstance(self.pod_template, FrozenJSON):
            check_pod_template(json.loads(self.pod_template.text), allow_insecure=self.allow_insecure_pod)
        object.__setattr__(self, "env", _env(self.env))

    def _check_texts(self) -> None:
        if self.worker_image is not None:
            check_text("worker_image", self.worker_image, "the name of an image, without white space, or None,", _IMAGE)
        if self.namespace is not None:
            rule = "1 to 63 characters of a-z, 0-9 and -, neither first nor last a -, or None,"
            check_text("namespace", self.namespace, rule, _NAMESPACE, most=63)
        rule = "1 to 253 characters of a-z, 0-9, - and ., each part between dots neither first nor last a -,"
        check_text("service_account", self.service_account, rule, _SERVICE_ACCOUNT, most=253)
        if self.context is not None:
            check_text("context", self.context, "the name of a context of the kubeconfig, or None,", _CONTEXT)
        _check_pull_policy(self.image_pull_policy)


def _check_pull_policy(given: object) -> None:
    if given is not None and given not in _PULL_POLICIES:
        near = closest(given, _PULL_POLICIES) if isinstance(given, str) else None
        hint = f"did you mean {near!r}?" if near else None
        raise refusal("image_pull_policy", given, f"one of {', '.join(map(repr, _PULL_POLICIES))} or None", hint)


def _pod_template(given: object) -> FrozenJSON | str | None:
    """The template in a form that can be compared and hashed. A path is not opened: workers may not have the file."""
    if given is None or isinstance(given, FrozenJSON):
        return given
    rule = "a Pod manifest as a dict, the path of a YAML file, or None,"
    if isinstance(given, str | os.PathLike):
        path = os.fspath(given)
        if not isinstance(path, str) or not path.strip() or "\x00" in path or "\n" in path:
            raise refusal("pod_template", given, rule)
        return path
    if not isinstance(given, Mapping):
        raise refusal("pod_template", given, rule)
    if (kind := given.get("kind", "Pod")) != "Pod":
        raise refusal("pod_template['kind']", kind, "'Pod', or no kind at all,")
    try:
        return FrozenJSON(given)
    except (TypeError, ValueError, RecursionError) as error:
        raise refusal("pod_template", given, "a dict that can be written as JSON", str(error)) from None


def _env(given: object) -> FrozenJSON:
    if not isinstance(given, Mapping):
        raise refusal("env", given, 'a dict of str to str, such as {"TZ": "UTC"},')
    for name, value in given.items():
        check_text("env name", name, "a str of printable ASCII without =", _ENV_NAME)
        if not isinstance(value, str) or "\x00" in value:
            raise refusal(f"env[{name!r}]", value, "a str without NUL", f"write {str(value)!r}")
        if name in RESERVED_ENV:
            raise refusal("env name", name, "a name that rivers does not set itself")
    return FrozenJSON(given)


def usable_cpus(root: Path = Path("/")) -> int:
    """How many CPUs this process may use: the least of the machine's, its affinity and its cgroup's quota, at least 1.

    `root` is where `/proc` and `/sys` are.
    """
    counts = [os.cpu_count() or 1]
    if hasattr(os, "sched_getaffinity"):  # not on macOS
        counts.append(len(os.sched_getaffinity(0)))
    counts += _cgroup_cpus(root)
    return max(1, min(counts))


def _cgroup_cpus(root: Path) -> Iterable[int]:
    """The CPU quotas of the cgroup (v1 and v2) of this process and of those above it, rounded up."""
    for folder in cgroup_folders("cpu", root):
        v1 = f"{read_kernel_file(folder / 'cpu.cfs_quota_us')} {read_kernel_file(folder / 'cpu.cfs_period_us')}"
        for quota_us, period_us in map(_numbers, (read_kernel_file(folder / "cpu.max"), v1)):
            if quota_us > 0 and period_us > 0:
                yield -(-quota_us // period_us)


def _numbers(text: str) -> tuple[int, int]:
    """Quota and period in microseconds; (0, 0) where there is no limit (`max`, -1, no file)."""
    words = text.split()
    return (int(words[0]), int(words[1])) if len(words) == 2 and all(map(str.isdecimal, words)) else (0, 0)
