"""Describe a planned run as the header of its record."""

from __future__ import annotations

import inspect
import os
import platform
import socket
import subprocess
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rivers._definitions.asset import Asset, GraphAsset, MultiAsset
from rivers._definitions.executor import Executor
from rivers._executor.backend import Capabilities
from rivers._executor.registry import installed
from rivers._io.base import BaseIOHandler
from rivers._io.shared.default_store import DefaultStore
from rivers._plan.plan import Plan, Step
from rivers._record.header import FORMAT, ExecutorHeader, GitCommit, RunHeader, StepHeader
from rivers._repository.config_secrets import mask_configs

__all__ = ["Stores", "describe_run", "describe_steps", "slots_of"]

GIT_DEADLINE = 2.0
"""Seconds. In a large repository on a slow disk git may take long, and a run does not wait for its header."""
MOST_DESCRIPTION = 300
"""Characters."""


def describe_run(
    plan: Plan,
    run_id: str,
    *,
    started: float,
    slots: Sequence[int | None],
    tags: Mapping[str, str],
    job: str | None,
    configs: Mapping[str, str] = MappingProxyType({}),
    codes: Mapping[str, str] = MappingProxyType({}),
    **more: Any,
) -> RunHeader:
    """Return the header of a run. `slots` are those of `plan.executors`, `codes` digests of the code of
    its steps by key, `more` are further fields of RunHeader.
    """
    stores = Stores()
    steps = describe_steps(plan, stores, codes)
    return RunHeader(
        format=FORMAT,
        run_id=run_id,
        started=started,
        job=job,
        tags=dict(tags),
        executors=tuple(
            ExecutorHeader(kind=executor.kind, text=repr(executor), slots=count)
            for executor, count in zip(plan.executors, slots, strict=True)
        ),
        steps=steps,
        versions=_versions(plan.executors),
        host=socket.gethostname(),
        pid=os.getpid(),
        folder=str(Path.cwd()),
        git=_git_commit(),
        configs=mask_configs(plan, configs),
        stores=tuple(stores.texts),
        **more,
    )


class Stores:
    """The descriptions of the IO handlers of a plan, each once."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self._indices: dict[int, int] = {}

    def index_of(self, handler: BaseIOHandler) -> int:
        """Return the position of the handler's description."""
        index = self._indices.get(id(handler))
        if index is None:
            index = self._indices[id(handler)] = len(self.texts)
            self.texts.append(describe_store(handler))
        return index


def describe_store(handler: BaseIOHandler) -> str:
    """Return the class and the fields of an IO handler; fields of a secret type are masked."""
    cls = type(handler)
    name = f"{cls.__module__}.{cls.__qualname__}"
    # Its folder is another one in each process.
    if isinstance(handler, DefaultStore):
        return name
    try:
        fields = handler.model_dump_json()
    except Exception:  # noqa: BLE001 - a field of the user's may refuse to become JSON in any way
        fields = ""
    return f"{name} {fields}".rstrip()


def describe_steps(
    plan: Plan, stores: Stores | None = None, codes: Mapping[str, str] = MappingProxyType({})
) -> tuple[StepHeader, ...]:
    """Return the steps of a plan as plain data."""
    known = stores if stores is not None else Stores()
    return tuple([_describe_step(step, known, codes.get(step.key, "")) for step in plan.steps])


def _describe_step(step: Step, stores: Stores, code: str) -> StepHeader:
    owner, definition = step.node.owner, step.node.definition
    function = getattr(definition, "function", None)
    doc = _first_paragraph(getattr(function, "__doc__", None))
    return StepHeader(
        key=step.key,
        executor=step.executor_index,
        level=step.level,
        deps=step.deps,
        mapped_over=step.mapped_over,
        assets=step.assets,
        kind=_kind(step),
        group=getattr(owner, "group", None),
        kinds=tuple(getattr(owner, "kinds", ())),
        tags=tuple(getattr(owner, "tags", ())),
        description=doc,
        location=definition.where,
        inner=tuple(node.key for node in step.inner),
        max_attempts=step.retry.max_retries + 1 if step.retry is not None else None,
        timeout=definition.timeout,
        code_version=getattr(owner, "code_version", None),
        code=code,
        outputs=tuple([output.key for output in step.node.outputs]),
        stores=tuple([stores.index_of(output.io_handler) for output in step.node.outputs]),
    )


def _first_paragraph(doc: str | None) -> str | None:
    """Return the beginning of a docstring on one line."""
    # Not inspect.getdoc: it looks for a function without one in the classes of its module, which takes 10 µs.
    return inspect.cleandoc(doc).partition("\n\n")[0].replace("\n", " ")[:MOST_DESCRIPTION] if doc else None


def _kind(step: Step) -> str:
    owner = step.node.owner
    if isinstance(owner, GraphAsset):
        return "graph asset" if step.inner else "task"
    if isinstance(owner, MultiAsset):
        return "multi-asset"
    return "asset" if isinstance(owner, Asset) else "task"


def slots_of(executor: Executor, capabilities: Capabilities) -> int | None:
    """Return the number of sync steps that a backend runs at once; None is no limit."""
    if capabilities.blocking:
        return 1
    # Its capabilities count what its workers have in their queues, too.
    if isinstance(executor, Executor.Parallel):
        return executor.max_workers
    return capabilities.max_steps if capabilities.max_steps is not None else capabilities.max_sync


def _versions(executors: Sequence[Executor]) -> dict[str, str]:
    found = {"python": platform.python_version()}
    try:
        found["rivers-core"] = version("rivers-core")
    except PackageNotFoundError:
        found["rivers-core"] = "not installed"
    for executor in executors:
        point = installed().get(executor.kind)
        if point is not None and point.dist is not None:
            found[point.dist.name] = point.dist.version
    return found


def _git_commit() -> GitCommit | None:
    """Return the commit of the working directory, None where it is in no repository or git does not answer."""
    folder = Path.cwd()
    if not any((parent / ".git").exists() for parent in (folder, *folder.parents)):
        return None
    try:
        answer = subprocess.run(
            ["git", "status", "--porcelain=v2", "--branch", "--untracked-files=no"],  # noqa: S607 - the user's git
            capture_output=True,
            text=True,
            timeout=GIT_DEADLINE,
            stdin=subprocess.DEVNULL,
            # It must not refresh the index, which would lock it for the user's own git.
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
            check=True,
        ).stdout
    except (OSError, subprocess.SubprocessError):
        return None
    facts: dict[str, str] = {}
    is_dirty = False
    for line in answer.splitlines():
        if line.startswith("# branch."):
            name, _, value = line.removeprefix("# branch.").partition(" ")
            facts[name] = value
        else:
            is_dirty = True
    commit = facts.get("oid", "(initial)")
    if commit == "(initial)":
        return None
    branch = facts.get("head")
    return GitCommit(commit=commit, branch=None if branch == "(detached)" else branch, is_dirty=is_dirty)
