"""Check the arguments of a run and prepare it; everything that can be refused is refused here."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from rivers._definitions.asset import Asset
from rivers._definitions.executor import Executor, check_executor
from rivers._definitions.hook import Hook
from rivers._definitions.job import Job, check_tags
from rivers._definitions.retry import RetryPolicy, check_retry
from rivers._definitions.task import BashTask, Task
from rivers._executor.backend_pool import BackendPool
from rivers._executor.drive import RunLoop
from rivers._executor.run_options import RunOptions
from rivers._io.shared.default_store import DefaultStore
from rivers._plan.plan import Plan
from rivers._repository.checks import check_configs, check_reach
from rivers._repository.describe import describe_run, slots_of
from rivers._repository.hooks import prepare_hooks
from rivers._repository.observe import Observe, Observers, check_durability, check_progress, check_record
from rivers._repository.planner import Planner
from rivers._repository.prepared_run import PreparedRun
from rivers._repository.sharing import share
from rivers._repository.stored import handlers_of
from rivers._repository.validation import check_listener, selected_names
from rivers.exceptions import ConfigurationError, GraphValidationError

__all__ = ["Config", "RunArguments", "RunPreparer", "Selection", "Tags"]

Selection = Sequence[Asset | Task | BashTask | str] | Asset | Task | BashTask | str | None
Tags = Mapping[str, str] | Sequence[tuple[str, str]] | None
Config = Mapping[str, Mapping[str, Any]] | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunArguments:
    """The arguments of one run as its caller gave them; see `CodeRepository.materialize`."""

    selection: Selection = None
    tags: Tags = None
    config: Config = None
    include_upstream: bool = False
    retry: RetryPolicy | str | None = None
    executor: Executor | None = None
    observe: Observe = field(default_factory=Observe)
    job: Job | None = None


@dataclass(frozen=True, slots=True)
class RunPreparer:
    """The parts of a repository from which its runs are made."""

    planner: Planner
    default_store: DefaultStore
    kept: BackendPool
    resources: Mapping[str, Any]
    hooks: Sequence[Hook]

    def prepare(self, arguments: RunArguments) -> PreparedRun:
        """Check all arguments and prepare a run.

        Raises:
            RiversError: they, or the repository, cannot run; nothing was started.
        """
        job = arguments.job
        plan = self._plan(arguments)
        graph = self.planner.graph
        configs = check_configs(graph, plan, arguments.config)
        tags = check_tags(arguments.tags)
        check_listener(arguments.observe.on_event)
        check_record(arguments.observe.record)
        check_progress(arguments.observe.progress)
        check_durability(arguments.observe.durability)
        run_id = secrets.token_hex(16)
        share(self.default_store, plan, run_id)
        backends = [self.kept.take(one) for one in plan.executors]
        describe = partial(
            describe_run,
            plan,
            run_id,
            started=time.time(),
            slots=[slots_of(backend.executor, backend.capabilities) for backend in backends],
            tags=tags,
            job=job.name if job is not None else None,
            configs=configs,
        )
        resources = self.resources
        observers = Observers(arguments.observe, describe, lambda: [*resources.values(), *handlers_of(graph)])
        options = RunOptions(
            run_id=run_id,
            key=secrets.token_bytes(32),
            random=random.random,
            sinks=observers.sinks,
            journal=observers.journal,
            configs=configs,
            tags=tags,
            job=job.name if job is not None else None,
            folders=self.default_store.folders(),
            store=self.default_store,
            hooks=prepare_hooks(plan, job, self.hooks, observers.redactor, configs, tags),
            begin_attempt=observers.begin_attempt,
        )
        return PreparedRun(RunLoop(plan, backends, options, self.kept.give_back), observers)

    def _plan(self, arguments: RunArguments) -> Plan:
        """Return the plan of a run that is within the reach of its executors."""
        job, executor = arguments.job, arguments.executor
        checked = check_executor(executor, "executor") or (job.executor if job is not None else None)
        check_retry(arguments.retry, "retry", "", ConfigurationError)
        names = selected_names(arguments.selection)
        plan = self.planner.plan(names, arguments.include_upstream, checked, job, arguments.retry)
        if executor is not None:
            problems = check_reach(self.planner.graph, plan, self.default_store, collect=True)
            if problems:
                raise GraphValidationError(problems)
        return plan
