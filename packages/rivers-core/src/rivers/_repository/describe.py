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
from typing import Any

from rivers._definitions.asset import Asset, GraphAsset, MultiAsset
from rivers._definitions.executor import Executor
from rivers._executor.backend import Capabilities
from rivers._executor.registry import installed
from rivers._plan.plan import Plan, Step
from rivers._record.header import FORMAT, ExecutorHeader, GitCommit, RunHeader, StepHeader

__all__ = ["describe_run", "describe_steps", "slots_of"]

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
    **more: Any,
) -> RunHeader:
    """Return the header of a run. `slots` are those of `plan.executors`, `more` are further fields of RunHeader."""
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
        steps=describe_steps(plan),
        versions=_versions(plan.executors),
        host=socket.gethostname(),
        pid=os.getpid(),
        folder=str(Path.cwd()),
        git=_git_commit(),
        **more,
    )


def describe_steps(plan: Plan) -> tuple[StepHeader, ...]:
    """Return the steps of a plan as plain data."""
    return tuple(map(_describe_step, plan.steps))


def _describe_step(step: Step) -> StepHeader:
    owner, definition = step.node.owner, step.node.definition
    function = getattr(definition, "function", None)
    doc = inspect.getdoc(function) if function is not None else None
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
        description=doc.partition("\n\n")[0].replace("\n", " ")[:MOST_DESCRIPTION] if doc else None,
        location=definition.where,
        inner=tuple(node.key for node in step.inner),
        max_attempts=step.retry.max_retries + 1 if step.retry is not None else None,
        timeout=definition.timeout,
    )


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
