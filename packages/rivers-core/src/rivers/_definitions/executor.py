"""Executors: the user's choice of where steps run. A backend, in a package of its own, carries it out.

    rs.Executor.in_process()    rs.Executor.parallel(…)    rs.Executor.kubernetes(…)    a third party's `Lsf(…)`

This module imports no backend: workers import it along with the user's code, and need not have the executor's package.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, fields, replace
from datetime import timedelta
from typing import Any, ClassVar, Self, TypeAlias, TypeVar

from rivers._definitions.arguments import argument_error, check_count, check_seconds, constructor_repr, plain_number
from rivers._definitions.compute import check_cpu, check_memory
from rivers._definitions.cpus import usable_cpus
from rivers._definitions.frozen_json import FrozenJSON
from rivers._definitions.hints import call_hint
from rivers._definitions.kubernetes.checks import check_env, check_settings
from rivers._definitions.names import closest
from rivers._definitions.settings import overrides_in
from rivers._io.base import Reach
from rivers.exceptions import ConfigurationError

__all__ = ["BUILT_IN", "DEFAULT_EXECUTOR", "Executor", "check_executor"]

_NO_ENV: Mapping[str, str] = FrozenJSON({})


class _Nested:
    """The classes inside `Executor`, for type checkers. A dataclass may not hold aliases, so they have a base."""

    InProcess: TypeAlias = "_InProcess"
    Parallel: TypeAlias = "_Parallel"
    Kubernetes: TypeAlias = "_Kubernetes"


# No eq: two plain subclasses with attributes but no fields would be equal.
@dataclass(frozen=True, repr=False, eq=False)
class Executor(_Nested):
    """An executor: a frozen, comparable, hashable value for `rs.Job(executor=…)` and `rs.CodeRepository`.

    Choose `Executor.in_process()`, `Executor.parallel()` or `Executor.kubernetes()`. The classes `Executor.InProcess`,
    `.Parallel` and `.Kubernetes` are for `isinstance`. An executor of your own is a frozen dataclass with a `kind`, the
    name under which its backend is registered in the entry-point group `rivers.executors`:

        @dataclass(frozen=True)
        class Lsf(rs.Executor):
            kind = "lsf"
            requirement = "rivers-lsf"

            queue: str = "default"

    Check parameters in `__post_init__` and raise `rivers.exceptions.ConfigurationError`. Every parameter needs a
    default: `rivers/executor: "lsf"` alone means `Lsf()`. The class attributes describe the executor also where its
    backend is not installed.

    Raises:
        ConfigurationError: this base class, or a class without a `kind`, is instantiated.
    """

    kind: ClassVar[str]
    """The name in `rivers/executor` and in the entry-point group."""
    requirement: ClassVar[str | None] = None
    """The requirement for pip that installs the backend, such as "rivers-lsf"; errors show it."""
    reach: ClassVar[Reach] = Reach.MACHINE
    """The distance of steps from the controller: in its process, on its machine or anywhere."""
    async_reach: ClassVar[Reach | None] = None
    """The same for async steps, where it differs."""
    is_inline: ClassVar[bool] = False
    """True if steps run in the thread that calls them. Tasks with such an executor run inside the step of their graph
    asset when that has an executor of another kind."""

    overridable: ClassVar[tuple[str, ...]] = ()
    """The parameters that metadata `rivers/<kind>/<parameter>` overrides for one step; each takes text, too."""

    def for_step(self, metadata: Mapping[str, str] | None) -> Self:
        """Return this executor with the parameters that a step's metadata overrides.

        Raises:
            ConfigurationError: a parameter cannot be overridden, or its value is invalid.
        """
        given = overrides_in(metadata).get(self.kind)
        if not given:
            return self
        for name in given:
            if name not in self.overridable:
                raise argument_error(
                    f"metadata 'rivers/{self.kind}/{name}'",
                    given[name],
                    f"one of the parameters that metadata overrides: {', '.join(self.overridable) or 'none'}",
                    f"did you mean 'rivers/{self.kind}/{near}'?" if (near := closest(name, self.overridable)) else None,
                )
        return replace(self, **given)

    @property
    def has_inline_values(self) -> bool:
        """True if small values of the default store travel in specs and results: a field `inline_values` says so."""
        return bool(getattr(self, "inline_values", False))

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
        return constructor_repr(self, name=type(self).__qualname__)

    @staticmethod
    def in_process() -> Executor.InProcess:
        """Run every step in the calling process and thread, one after another; async steps too."""
        return _InProcess()

    @staticmethod
    def parallel(max_workers: int | None = None, max_async_concurrent: int | None = None) -> Executor.Parallel:
        """Run sync steps at once in worker processes of this machine, async steps at once in this process.

        Args:
            max_workers: The number of worker processes for sync steps; None is the number of CPUs that this process may
                use (the machine's, its affinity, its cgroup's quota).
            max_async_concurrent: The number of async steps at once; None is no limit.

        Raises:
            ConfigurationError: an argument is no whole number of at least 1.
        """
        return _Parallel(max_workers, max_async_concurrent)

    @staticmethod
    def kubernetes(
        worker_image: str | None = None,
        *,
        max_concurrent_steps: int | None = None,
        namespace: str | None = None,
        service_account: str = "rivers-executor",
        worker_cpu: str | float = "500m",
        worker_memory: str | float = "512Mi",
        pod_template: Mapping[str, Any] | str | os.PathLike[str] | None = None,
        image_pull_policy: str | None = None,
        startup_timeout: float | timedelta = 600,
        context: str | None = None,
        keep_failed_pods: bool = False,
        allow_pickle: bool = False,
        orphan_ttl: float | timedelta = 120,
        grace: float | timedelta = 30,
        allow_insecure_pod: bool = False,
        env: Mapping[str, str | float | os.PathLike[str]] = _NO_ENV,
        inline_values: bool = False,
        worker_reuse: str = "never",
        idle_ttl: float | timedelta = 30,
        max_steps_per_worker: int = 100,
    ) -> Executor.Kubernetes:
        """Run every attempt of a step in a pod: in one of its own, or in one that a run's steps use in turn.

        Args:
            worker_image: The image of the worker pods; None is the image of the pod that this process runs in.
            max_concurrent_steps: The number of step pods at once; None is no limit.
            namespace: The namespace of the pods; None is the current one.
            service_account: The service account of the worker pods.
            worker_cpu: The CPU request and limit of a step without a `Compute`: a number, or a Kubernetes quantity.
            worker_memory: The memory request and limit, likewise: a quantity, or bytes.
            pod_template: A Pod manifest under ours: a dict, or the path of a YAML file, read when a run begins. For
                volumes, node selectors, tolerations, annotations, pull secrets, sidecars.
            image_pull_policy: "Always", "IfNotPresent" or "Never"; None leaves it to the cluster.
            startup_timeout: Seconds, or a `timedelta` here and below, until a pod's worker must answer.
            context: A context of the kubeconfig; None is the current one.
            keep_failed_pods: Keep the pods of failed attempts for inspection.
            allow_pickle: Send functions without module scope as cloudpickles; the worker must allow it, too.
            orphan_ttl: Seconds after which a worker without its controller ends itself.
            grace: Seconds that a cancelled body has to end by itself.
            allow_insecure_pod: Let `pod_template` loosen the pod's security settings.
            env: Environment variables of the bodies. No secrets: everybody who may read the pod's manifest or this
                value's repr can read them. Name a Secret in the `pod_template` instead.
            inline_values: Let values of up to 32 KiB of assets without an IO handler travel in specs and results, so
                that no bucket is needed for them.
            worker_reuse: "never" runs each attempt in a new pod. "run" lets the steps of one run share pods, one at a
                time and each in a new process. An asset's metadata `rivers/worker_reuse` overrides it.
            idle_ttl: Seconds after which a pod that no step uses is deleted, with `worker_reuse="run"`.
            max_steps_per_worker: The number of attempts after which a pod is replaced, with `worker_reuse="run"`.

        Raises:
            ConfigurationError: an argument is invalid; names it, its value and what is expected.
        """
        return _Kubernetes(
            worker_image,
            max_concurrent_steps=max_concurrent_steps,
            namespace=namespace,
            service_account=service_account,
            worker_cpu=check_cpu("worker_cpu", worker_cpu),
            worker_memory=check_memory("worker_memory", worker_memory),
            pod_template=pod_template,
            image_pull_policy=image_pull_policy,
            startup_timeout=check_seconds("startup_timeout", startup_timeout, above=0),
            context=context,
            keep_failed_pods=keep_failed_pods,
            allow_pickle=allow_pickle,
            orphan_ttl=check_seconds("orphan_ttl", orphan_ttl, above=0),
            grace=check_seconds("grace", grace, above=0),
            allow_insecure_pod=allow_insecure_pod,
            env=check_env(env),
            inline_values=inline_values,
            worker_reuse=worker_reuse,
            idle_ttl=check_seconds("idle_ttl", idle_ttl, above=0),
            max_steps_per_worker=max_steps_per_worker,
        )


_E = TypeVar("_E", bound=Executor)


def _nest(cls: type[_E]) -> type[_E]:
    """Move a class into `Executor`, from which it inherits, where users and pickle look for it."""
    # Python cannot write a class inside the class that it inherits from.
    cls.__name__ = cls.__name__.lstrip("_")
    cls.__qualname__ = f"Executor.{cls.__name__}"
    setattr(Executor, cls.__name__, cls)
    return cls


@_nest
@dataclass(frozen=True, repr=False)
class _InProcess(Executor):
    """Every step in the calling process; see `Executor.in_process`."""

    kind = "in_process"
    reach = Reach.PROCESS
    is_inline = True


@_nest
@dataclass(frozen=True, repr=False, init=False)
class _Parallel(Executor):
    """Worker processes of this machine; see `Executor.parallel`. `max_workers` is always a number."""

    kind = "parallel"
    requirement = "rivers-core[parallel]"
    async_reach = Reach.PROCESS

    max_workers: int
    max_async_concurrent: int | None = None

    def __init__(self, max_workers: int | None = None, max_async_concurrent: int | None = None) -> None:
        workers = check_count("max_workers", max_workers, optional=True)
        concurrent = check_count("max_async_concurrent", max_async_concurrent, optional=True)
        object.__setattr__(self, "max_workers", usable_cpus() if workers is None else workers)
        object.__setattr__(self, "max_async_concurrent", concurrent)


@_nest
@dataclass(frozen=True, repr=False)
class _Kubernetes(Executor):
    """Pods, one for each attempt or shared by the steps of a run; see `Executor.kubernetes`.

    `pod_template` is None, the path of a YAML file, or a FrozenJSON; `env` is a FrozenJSON.
    """

    kind = "kubernetes"
    requirement = "rivers-core[kubernetes]"
    reach = Reach.ANYWHERE

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
    inline_values: bool = False
    worker_reuse: str = "never"
    idle_ttl: float = 30
    max_steps_per_worker: int = 100

    def __post_init__(self) -> None:
        # Again after the factory, for `dataclasses.replace` and the class itself.
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        for name, value in check_settings(given).items():
            object.__setattr__(self, name, value)


BUILT_IN: Mapping[str, type[Executor]] = {cls.kind: cls for cls in (_InProcess, _Parallel, _Kubernetes)}
"""The executors that have a name without an installed package, by kind."""
DEFAULT_EXECUTOR: Executor = _InProcess()
"""The executor of a step where nothing names one."""


def check_executor(value: object, name: str, owner: str = "") -> Executor | None:
    """Return an Executor or None.

    Raises:
        ConfigurationError: the value is something else; the hint names the likely factory.
    """
    if value is None or isinstance(value, Executor):
        return value
    hint = call_hint(value)
    if isinstance(value, str):
        near = closest(value, BUILT_IN)
        hint = f"write rs.Executor.{near}()" if near else None
    elif plain_number(value) is not None or hasattr(value, "submit"):
        # A count of workers, or a pool of concurrent.futures.
        hint = "write rs.Executor.parallel(max_workers=...)"
    expected = "an Executor, such as rs.Executor.in_process() or rs.Executor.parallel()"
    raise argument_error(name, value, expected, hint, owner=owner)
