"""Check the arguments of a run and prepare it; everything that can be refused is refused here."""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from rivers._definitions.asset import Asset
from rivers._definitions.executor import Executor, check_executor
from rivers._definitions.hook import Hook
from rivers._definitions.job import Job, check_tags
from rivers._definitions.retry import RetryPolicy, check_retry
from rivers._definitions.task import BashTask, Task
from rivers._executor.backend_pool import BackendPool
from rivers._executor.drive import RunLoop
from rivers._executor.restoring import Restorer
from rivers._executor.reusing import Reuser
from rivers._executor.run_options import RunOptions
from rivers._io.shared.default_store import DefaultStore
from rivers._plan.plan import Plan
from rivers._plan.restored import RestoredUnit
from rivers._record.header import RunHeader
from rivers._record.journal import RunJournal, read_history
from rivers._record.private import PrivateFolder
from rivers._record.reader import read_header
from rivers._record.runs import DEFAULT_HOME, RunRecords
from rivers._repository.checks import check_configs, check_reach
from rivers._repository.config_secrets import config_instances
from rivers._repository.describe import describe_run, slots_of
from rivers._repository.hooks import prepare_hooks
from rivers._repository.observe import (
    Observe,
    Observers,
    check_durability,
    check_durable,
    check_progress,
    check_record,
    record_home,
)
from rivers._repository.planner import Planner
from rivers._repository.prepared_run import PreparedRun
from rivers._repository.resume import (
    check_history,
    check_plan,
    names_of,
    present_names_of,
    recorded_config,
    refuse,
    retry_hint,
)
from rivers._repository.sharing import share
from rivers._repository.skipping import check_skip_unchanged, prepare_reuse
from rivers._repository.step_code import Comparison, digest_steps
from rivers._repository.stored import handlers_of
from rivers._repository.validation import check_listener, selected_names
from rivers.exceptions import ConfigurationError, GraphValidationError, RecordError

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
    retry_of: str | None = None
    skip_unchanged: bool | None = None
    durable: bool = False
    partition: str | None = None


@dataclass(frozen=True, slots=True)
class Resumption:
    """The start of a run that does not begin with nothing: what is known of its units, and warnings by step.

    `journal` is that of the run itself, and `epoch` that of this process; None and 0 for the retry of another run, of
    which `is_made` says that there is nothing left to run. `codes` are digests of the code of steps, by key.
    """

    journal: RunJournal | None
    units: Mapping[str, RestoredUnit]
    epoch: int
    notes: Mapping[str, str] = field(default_factory=dict)
    is_made: bool = False
    codes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunPreparer:
    """The parts of a repository from which its runs are made."""

    planner: Planner
    default_store: DefaultStore
    kept: BackendPool
    resources: Mapping[str, Any]
    hooks: Sequence[Hook]

    def prepare(self, arguments: RunArguments, jobs: Sequence[Job]) -> PreparedRun:
        """Check all arguments and prepare a run.

        Raises:
            RiversError: they, or the repository, cannot run; nothing was started.
        """
        if arguments.retry_of is None:
            return self._make(arguments, self._plan(arguments), None)
        return self._retry(arguments.retry_of, arguments, jobs)

    def _retry(self, run: str, arguments: RunArguments, jobs: Sequence[Job]) -> PreparedRun:
        """Prepare a new run of what a recorded one has not made; what is not given is as it was recorded."""
        header, history = read_history(self._record_of(run, arguments))
        job = arguments.job
        if arguments.selection is None:
            names = present_names_of(header, self.planner.graph)
            job = _job_of(header, jobs)
            arguments = replace(arguments, selection=names, include_upstream=False, job=job)
        fields = {**arguments.observe.fields, "retry_of": header.run_id}
        again = replace(
            arguments,
            tags=arguments.tags if arguments.tags is not None else header.tags,
            partition=_partition_of(header, arguments.partition),
            skip_unchanged=(
                arguments.skip_unchanged if arguments.skip_unchanged is not None else header.skip_unchanged
            ),
            observe=replace(arguments.observe, fields=fields),
        )
        plan = self._plan(again)
        if arguments.config is None:
            names_now = {node.definition.name for step in plan.steps for node in (step.inner or (step.node,))}
            recorded = recorded_config(header)
            again = replace(again, config={name: recorded[name] for name in recorded if name in names_now})
        comparison = self._compare(header, plan, again.config)
        reuser = Reuser(plan, history, comparison.changes())
        reuser.find()
        codes = comparison.codes_of(reuser.units)
        return self._make(again, plan, Resumption(None, reuser.units, 0, reuser.notes, reuser.has_all, codes))

    def _adopting(self, plan: Plan) -> list[int]:
        """Return the executors of the plan whose steps may outlive this process, by index."""
        return [index for index, one in enumerate(plan.executors) if self.kept.capabilities_of(one).adopts]

    def _notes(self, plan: Plan, is_durable: bool, resumption: Resumption | None) -> Mapping[str, str]:
        """Return the warnings of a run by step, those of no step by an empty name."""
        notes = dict(resumption.notes) if resumption is not None else {}
        adopting = self._adopting(plan) if is_durable else ()
        ending = [repr(one) for index, one in enumerate(plan.executors) if index not in adopting]
        if is_durable and ending:
            notes[""] = f"steps on {', '.join(ending)} end with this process, also in a durable run"
        return notes

    def _compare(self, header: RunHeader, plan: Plan, config: Config) -> Comparison:
        return Comparison(header, plan, digest_steps(plan), check_configs(self.planner.graph, plan, config))

    def _record_of(self, run: str, arguments: RunArguments) -> Path:
        check_record(arguments.observe.record)
        return RunRecords(record_home(arguments.observe.record) or DEFAULT_HOME).find(run)

    def resume(self, run: str, arguments: RunArguments, jobs: Sequence[Job]) -> PreparedRun:
        """Prepare to carry on a recorded run; `run` is its id, the beginning of that, or the path of its record.

        Of the arguments only `observe`, `config`, `retry` and `executor` count: the rest is as it was recorded.

        Raises:
            RecordError: there is no such record.
            ResumeError: it cannot be carried on.
            RiversError: the repository or an argument is invalid.
        """
        journal = RunJournal(self._record_of(run, arguments))
        try:
            return self._carry_on(journal, arguments, jobs)
        except BaseException:
            journal.close()
            raise

    def _carry_on(self, journal: RunJournal, arguments: RunArguments, jobs: Sequence[Job]) -> PreparedRun:
        header, history = journal.header, journal.history
        check_history(header, history)
        job = _job_of(header, jobs)
        config = arguments.config if arguments.config is not None else recorded_config(header)
        names = names_of(header, self.planner.graph)
        same = replace(
            arguments,
            selection=names,
            tags=header.tags,
            config=config,
            include_upstream=False,
            job=job,
            partition=header.partition,
            skip_unchanged=header.skip_unchanged,
        )
        plan = self._plan(same)
        check_plan(header, plan)
        adopting = self._adopting(plan) if header.durable else []
        restorer = Restorer(header.run_id, plan, history, adopting, partial(_is_later, journal))
        restorer.restore()
        comparison = self._compare(header, plan, config)
        problems = [*restorer.problems, *comparison.config_problems(restorer.units)]
        if problems:
            raise refuse(header, "the run cannot be resumed:", problems, retry_hint(header))
        notes, codes = comparison.code_notes(restorer.units), comparison.codes_of(restorer.units)
        try:
            return self._make(same, plan, Resumption(journal, restorer.units, restorer.epoch + 1, notes, codes=codes))
        except OSError as error:
            raise refuse(header, f"the record {journal.folder} cannot be written: {error.strerror}", ()) from error

    def _make(self, arguments: RunArguments, plan: Plan, resumption: Resumption | None) -> PreparedRun:
        job = arguments.job
        graph = self.planner.graph
        journal = resumption.journal if resumption is not None else None
        header = journal.header if journal is not None else None
        configs = check_configs(graph, plan, arguments.config)
        tags = check_tags(arguments.tags)
        _check_options(arguments)
        is_durable = header.durable if header is not None else arguments.durable
        run_id = header.run_id if header is not None else secrets.token_hex(16)
        share(self.default_store, plan, run_id)
        backends = [self.kept.take(one) for one in plan.executors]
        describe = partial(
            describe_run,
            plan,
            run_id,
            started=header.started if header is not None else time.time(),
            slots=[slots_of(backend.executor, backend.capabilities) for backend in backends],
            tags=tags,
            job=job.name if job is not None else None,
            configs=configs,
            codes=_codes_of(plan, arguments, resumption),
            durable=is_durable,
            skip_unchanged=arguments.skip_unchanged,
            partition=plan.partition,
        )
        resources = self.resources
        observers = Observers(
            arguments.observe if header is None else _observe_again(arguments.observe, header),
            describe,
            lambda: [*resources.values(), *handlers_of(graph), *(one for _, one in config_instances(plan, configs))],
            journal,
        )
        private = PrivateFolder(observers.record) if is_durable and observers.record is not None else None
        options = RunOptions(
            run_id=run_id,
            epoch=resumption.epoch if resumption is not None else 0,
            key=(private.read_key() if private is not None else None) or secrets.token_bytes(32),
            random=random.random,
            sinks=observers.sinks,
            journal=observers.journal,
            configs=configs,
            tags=tags,
            job=job.name if job is not None else None,
            folders=self.default_store.folders(),
            private=private,
            store=self.default_store,
            hooks=prepare_hooks(plan, job, self.hooks, observers.redactor, configs, tags),
            begin_attempt=observers.begin_attempt,
            restored=resumption.units if resumption is not None else {},
            notes=self._notes(plan, is_durable, resumption),
            make_reuse=prepare_reuse(graph, plan, self.resources, configs, arguments.skip_unchanged),
        )
        loop = RunLoop(plan, backends, options, self.kept.give_back)
        is_made = resumption is not None and resumption.is_made
        return PreparedRun(loop, observers, journal is not None, is_made)

    def _plan(self, arguments: RunArguments) -> Plan:
        """Return the plan of a run that is within the reach of its executors."""
        job, executor = arguments.job, arguments.executor
        checked = check_executor(executor, "executor") or (job.executor if job is not None else None)
        check_retry(arguments.retry, "retry", "", ConfigurationError)
        names = selected_names(arguments.selection)
        plan = self.planner.plan(names, arguments.include_upstream, checked, job, arguments.retry, arguments.partition)
        if executor is not None:
            problems = check_reach(self.planner.graph, plan, self.default_store, collect=True)
            if problems:
                raise GraphValidationError(problems)
        return plan


def _is_later(journal: RunJournal, run_id: str) -> bool:
    """Return whether another run whose record lies beside that of this one began after it."""
    try:
        header = read_header(journal.folder.parent / run_id)
    except RecordError:
        return False
    return header is not None and header.started > journal.header.started


def _check_options(arguments: RunArguments) -> None:
    """Check the arguments that no plan is needed for.

    Raises:
        ConfigurationError: one is wrong.
    """
    check_listener(arguments.observe.on_event)
    check_record(arguments.observe.record)
    check_progress(arguments.observe.progress)
    check_durability(arguments.observe.durability)
    check_skip_unchanged(arguments.skip_unchanged)
    check_durable(arguments.durable, arguments.observe.record)


def _codes_of(plan: Plan, arguments: RunArguments, resumption: Resumption | None) -> Mapping[str, str]:
    """Return the digests for the record of a run; without a record they are not worth their time."""
    if resumption is not None:
        return resumption.codes
    return digest_steps(plan) if record_home(arguments.observe.record) is not None else {}


def _job_of(header: RunHeader, jobs: Sequence[Job]) -> Job | None:
    """Return the job of a recorded run, from which its steps had their executor and retry policy.

    Raises:
        ResumeError: the repository no longer has it.
    """
    job = next((job for job in jobs if job.name == header.job), None)
    if header.job is not None and job is None:
        raise refuse(header, f"the repository no longer has the job {header.job!r} of the run", ())
    return job


def _partition_of(header: RunHeader, given: str | None) -> str | None:
    """Return the partition of a retry: that of the run.

    Raises:
        ConfigurationError: another one is given, of which that run has made nothing.
    """
    if given is not None and given != header.partition:
        expected = f"{header.partition!r}, that of the run" if header.partition is not None else "none, as the run had"
        raise ConfigurationError(f"invalid partition={given!r:.80} with retry_of: expected {expected}")
    return header.partition


def _observe_again(observe: Observe, header: RunHeader) -> Observe:
    """Return how a resumed run is observed: its header keeps the fields of the caller that began it."""
    kept = {
        name: getattr(header, name)
        for name in ("repository", "selection", "command", "retry_of", "executor", "settings")
    }
    return replace(observe, fields={**observe.fields, **kept})
