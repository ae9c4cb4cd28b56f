"""The part of a command line that chooses steps and executors, and what it means for a repository."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rivers._definitions.executor import Executor
from rivers._plan.plan import Plan
from rivers._plan.selectors import select_names
from rivers._record.header import RunHeader
from rivers._record.redact import MASK
from rivers._repository.bound_job import BoundJob
from rivers._repository.repository import CodeRepository
from rivers._repository.resume import present_names_of
from rivers.cli.environment import read_env_file
from rivers.cli.errors import CommandError
from rivers.cli.executor_options import make_executor
from rivers.cli.records import records_of
from rivers.cli.retry import Retried, find_retried
from rivers.cli.target import load_target

__all__ = [
    "Chosen",
    "PlanRequest",
    "checked_config",
    "choose",
    "config_of",
    "executor_again",
    "recorded_executor",
]


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
    partition: str | None = None


@dataclass(frozen=True, slots=True)
class Chosen:
    """The repository of a target with the job, the names and the executor that were chosen; None is the default.

    `request` has the job, the executor and the partition of the run that is `retried` where it named none itself.
    `selection` is the choice as the header of the run has it.
    """

    name: str
    request: PlanRequest
    repository: CodeRepository
    job: BoundJob | None
    names: tuple[str, ...] | None
    selection: tuple[str, ...] | None
    executor: Executor | None
    retried: Retried | None = None

    @property
    def plan(self) -> Plan:
        """The plan of the run, which a run with the same choice takes again; without the partition that it may need.

        Raises:
            ConfigurationError: its partition is unknown.
        """
        return self.make_plan(is_run=False)

    def make_plan(self, *, is_run: bool) -> Plan:
        """Return the plan of the run.

        Raises:
            ConfigurationError: its partition is unknown, or with `is_run` missing.
        """
        executor = self.executor or (self.job.executor if self.job is not None else None)
        partition = self.request.partition
        return self.repository._planner.plan(self.names, False, executor, self.job, None, partition, is_run)


def choose(request: PlanRequest, retry_failed: str | None = None, home: Path | None = None) -> Chosen:
    """Import the target and find what the options name in it.

    `retry_failed` names a run below `home` that is retried: its steps, job and executor are chosen where the options
    name none.

    Raises:
        CommandError, RiversError: an option is wrong, or the repository is.
    """
    if request.env_file is not None:
        read_env_file(request.env_file)
    loaded = load_target(request.target)
    repository = loaded.repository
    retried = (
        find_retried(records_of(home), retry_failed, loaded.name, request.partition)
        if retry_failed is not None
        else None
    )
    is_chosen = bool(request.select or request.job)
    if retried is not None:
        executor_name, settings = recorded_executor(request, retried.header)
        job_name = request.job or retried.header.job
        partition = request.partition or retried.header.partition
        request = replace(request, job=job_name, executor=executor_name, settings=settings, partition=partition)
    job = repository.get_job(request.job) if request.job is not None else None
    executor = _make_executor(request.executor, request.settings, repository, job)
    among = job.selection if job is not None else None
    graph = repository._planner.graph
    names = select_names(graph, request.select, among) if request.select else among
    selection = names
    if retried is not None and not is_chosen:
        names, selection = present_names_of(retried.header, graph), retried.header.selection
    return Chosen(loaded.name, request, repository, job, names, selection, executor, retried)


def _make_executor(
    name: str | None, settings: Sequence[str], repository: CodeRepository, job: BoundJob | None
) -> Executor | None:
    placement = repository._planner._placement(job.executor if job is not None else None)
    return make_executor(name, settings, placement)


def executor_again(chosen: Chosen, header: RunHeader | None) -> Executor | None:
    """Return the executor with which a recorded run of the same choice goes on: the one chosen, else its own.

    Raises:
        CommandError: the settings of the latter held a secret.
    """
    if chosen.executor is not None or header is None:
        return chosen.executor
    return _make_executor(*recorded_executor(chosen.request, header), chosen.repository, chosen.job)


def recorded_executor(request: PlanRequest, header: RunHeader) -> tuple[str | None, Sequence[str]]:
    """Return the name and the settings of the executor of a request, else those that a recorded run was begun with.

    Raises:
        CommandError: the latter held a secret, which records do not keep.
    """
    if request.executor is not None or request.settings:
        return request.executor, request.settings
    hidden = [text for text in header.settings if MASK in text]
    if hidden:
        raise CommandError(
            f"the settings of the executor held a secret, which the record does not keep: {', '.join(hidden)}",
            hint="give --executor and all its settings again",
        )
    return header.executor, header.settings


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
