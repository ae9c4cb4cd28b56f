"""The part of a command line that chooses steps and executors, and what it means for a repository."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rivers._definitions.executor import Executor
from rivers._plan.plan import Plan
from rivers._plan.selectors import select_names
from rivers._repository.bound_job import BoundJob
from rivers._repository.repository import CodeRepository
from rivers.cli.environment import read_env_file
from rivers.cli.executor_options import make_executor
from rivers.cli.retry import find_retried, unfinished_names
from rivers.cli.target import load_target

__all__ = ["Chosen", "PlanRequest", "checked_config", "choose", "config_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """The options that choose the steps of a run."""

    target: str
    select: Sequence[str] = ()
    job: str | None = None
    executor: str | None = None
    settings: Sequence[str] = ()
    env_file: Path | None = None
    config: Path | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """The repository of a target with the job, the names and the executor that were chosen; None is the default.

    `retry_of` is the id of the run whose failed steps were chosen.
    """

    name: str
    repository: CodeRepository
    job: BoundJob | None
    names: tuple[str, ...] | None
    executor: Executor | None
    retry_of: str | None = None

    @property
    def plan(self) -> Plan:
        """The plan of the run, which a run with the same choice takes again."""
        executor = self.executor or (self.job.executor if self.job is not None else None)
        return self.repository._planner.plan(self.names, False, executor, self.job, None)


def choose(request: PlanRequest, retry_failed: str | None = None, home: Path | None = None) -> Chosen:
    """Import the target and find what the options name in it.

    `retry_failed` names a run below `home`: of its steps those that did not succeed are chosen, with its job.

    Raises:
        CommandError, RiversError: an option is wrong, or the repository is.
    """
    if request.env_file is not None:
        read_env_file(request.env_file)
    loaded = load_target(request.target)
    repository = loaded.repository
    retried = find_retried(retry_failed, loaded.name, home) if retry_failed is not None else None
    job_name = request.job or (retried.header.job if retried is not None else None)
    job = repository.get_job(job_name) if job_name is not None else None
    placement = repository._planner._placement(job.executor if job is not None else None)
    executor = make_executor(request.executor, request.settings, placement)
    among = job.selection if job is not None else None
    graph = repository._planner.graph
    names = select_names(graph, request.select, among) if request.select else among
    if retried is None:
        return Chosen(loaded.name, repository, job, names, executor)
    unfinished = unfinished_names(retried, graph)
    if names is not None:
        unfinished = tuple(name for name in unfinished if name in names)
    return Chosen(loaded.name, repository, job, unfinished, executor, retried.view.run_id)


def config_of(request: PlanRequest) -> dict[str, dict[str, Any]] | None:
    """Return the config of the file that the request names, or None.

    Raises:
        CommandError: the file cannot be read.
    """
    if request.config is None:
        return None
    # Loads YAML, which a run without a config does not need.
    from rivers.cli.config_file import read_config

    return read_config(request.config)


def checked_config(request: PlanRequest, chosen: Chosen) -> dict[str, dict[str, Any]] | None:
    """Return the config of the request, if its names are those of the plan.

    Raises:
        CommandError: it names something else, or cannot be read.
    """
    config = config_of(request)
    if config is not None and request.config is not None:
        from rivers.cli.config_file import check_config

        check_config(request.config, config, chosen.plan, chosen.repository._planner.graph.assets)
    return config
