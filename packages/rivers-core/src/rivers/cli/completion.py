"""The names that a command line can be completed with; none where the target cannot be loaded."""

from __future__ import annotations

import dataclasses
from functools import partial

from rivers._executor.registry import default_of, installed
from rivers._plan.placement import Placement
from rivers._plan.selectors import find_owners
from rivers._repository.repository import CodeRepository
from rivers.cli.executor_options import find_executor
from rivers.cli.target import load_target

__all__ = ["fields_of", "jobs_of", "selectors_of"]


def selectors_of(target: str | None) -> list[str]:
    """Return the names of assets and tasks, then groups and tags."""
    repository = _load(target)
    if repository is None:
        return []
    try:
        graph = repository._planner.graph
    except Exception:  # noqa: BLE001 - an invalid repository still has the names of its assets
        return list(repository.assets)
    # Names first: a shell shows candidates in this order.
    names = find_owners(graph)
    definitions = [graph.assets[name] for name in names]
    groups = {group for one in definitions if (group := getattr(one, "group", None))}
    tags = {tag for one in definitions for tag in (one.tags or ())}
    return [*names, *(f"group:{group}" for group in sorted(groups)), *(f"tag:{tag}" for tag in sorted(tags))]


def jobs_of(target: str | None) -> list[str]:
    """Return the names of jobs."""
    repository = _load(target)
    return [job.name for job in repository._jobs] if repository is not None else []


def fields_of(kind: str) -> list[str]:
    """Return the fields of an executor."""
    plugins = {name: partial(default_of, name) for name in installed()}
    try:
        executor = find_executor(kind, Placement(plugins=plugins))
    except Exception:  # noqa: BLE001 - a package that cannot be loaded has no fields to offer
        return []
    return [field.name for field in dataclasses.fields(executor) if field.init]


def _load(target: str | None) -> CodeRepository | None:
    if not target:
        return None
    try:
        return load_target(target).repository
    except Exception:  # noqa: BLE001 - nobody can read an error while completing
        return None
