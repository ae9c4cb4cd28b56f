"""`CodeRepository`: the assets of a project with all that they need, checked and run together."""

from __future__ import annotations

import threading
import time
import warnings
import weakref
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rivers._definitions.asset import Asset
from rivers._definitions.executor import Executor, check_executor
from rivers._definitions.hook import Hook, check_hooks
from rivers._definitions.job import Job, check_tags
from rivers._definitions.names import did_you_mean
from rivers._definitions.retry import RetryPolicy, check_retry
from rivers._definitions.task import BashTask, Task
from rivers._events.sink import EventSink
from rivers._executor.backend_pool import BackendPool
from rivers._io.base import BaseIOHandler
from rivers._io.shared.default_store import DefaultStore
from rivers._plan.plan import Plan
from rivers._repository.bound_job import BoundJob
from rivers._repository.observe import Durability, Observe, Record
from rivers._repository.planner import Planner
from rivers._repository.prepare import Config, RunArguments, RunPreparer, Selection, Tags
from rivers._repository.prepared_run import PreparedRun
from rivers._repository.run import RunHandle, RunResult
from rivers._repository.skipping import explain_plan
from rivers._repository.stored import handler_of, load
from rivers._repository.tables import repository_html
from rivers._repository.validation import (
    check_assets,
    check_default_handler,
    check_executors,
    check_job_name,
    check_jobs_argument,
    check_node_name,
    check_resources,
    check_retry_names,
    check_tasks,
    selected_names,
)
from rivers.exceptions import ConfigurationError, ExecutionError, NodeNotFoundError
from rivers_process.fork import renew_in_children

__all__ = ["CodeRepository"]

SHUTDOWN_DEADLINE = 30.0
"""Seconds."""


class CodeRepository:
    """The assets of a project, with their tasks, jobs, resources and executors.

        repo = rs.CodeRepository(assets=[orders, totals], resources={"db": Database()})
        result = repo.materialize()
        totals = repo.load_node("totals")

    Making one checks only the types of the arguments. `validate`, `resolve` and every run check how the definitions
    fit together. As a context manager it calls `shutdown` at the end of the block.

    Args:
        assets: All assets, of every kind.
        tasks: Tasks that run by themselves, outside a graph asset.
        jobs: Named selections; see `Job`.
        default_executor: The executor of steps and jobs that name none; None is `Executor.in_process()`.
        executors: Further executors by the name that `rivers/executor` in metadata uses.
        resources: Resources and IO handlers by the name of the parameters that take them.
        retries: Retry policies by the name that `retry="name"` uses.
        default_retry_policy: The policy, or the name of one in `retries`, of steps without a nearer one; None is no
            retry.
        default_io_handler: The IO handler, or the name of one in `resources`, of values without one of their own;
            None is a store of this repository, in memory or shared with the workers of this machine.
        hooks: Hooks of every step of every run, after those of the assets and of the job.

    Raises:
        ConfigurationError: an argument is of the wrong type.
    """

    def __init__(
        self,
        assets: Sequence[Asset],
        tasks: Sequence[Task | BashTask] | None = None,
        jobs: Sequence[Job] | None = None,
        default_executor: Executor | None = None,
        executors: Mapping[str, Executor] | None = None,
        resources: Mapping[str, Any] | None = None,
        retries: Mapping[str, RetryPolicy] | None = None,
        default_retry_policy: RetryPolicy | str | None = None,
        default_io_handler: BaseIOHandler | str | None = None,
        hooks: Sequence[Hook] | None = None,
    ) -> None:
        self._assets = check_assets(assets)
        self._tasks = check_tasks(tasks)
        self._jobs = check_jobs_argument(jobs)
        self._resources = check_resources(resources)
        self._hooks = check_hooks(hooks, "", ConfigurationError)
        self._default_store = DefaultStore()
        handler = check_default_handler(default_io_handler, self._resources)
        self._planner = Planner(
            self._assets,
            self._tasks,
            self._jobs,
            default_executor=check_executor(default_executor, "default_executor"),
            executors=check_executors(executors),
            resources=self._resources,
            retries=check_retry_names(retries),
            default_retry=check_retry(default_retry_policy, "default_retry_policy", "", ConfigurationError),
            default_handler=self._default_store if handler is None else handler,
            default_store=self._default_store,
        )
        self._handles: set[RunHandle] = set()
        self._kept = BackendPool()
        self._preparer = RunPreparer(self._planner, self._default_store, self._kept, self._resources, self._hooks)
        # Idle workers must not outlive a repository that nobody has shut down.
        weakref.finalize(self, self._kept.shutdown)
        self._lock = threading.RLock()
        self._closed = False
        renew_in_children(self, CodeRepository._renew)

    def _renew(self) -> None:
        """Forget, in a forked child, the submitted runs, which go on in the parent alone."""
        self._lock = threading.RLock()
        self._handles = set()

    # ── inspect ──

    @property
    def assets(self) -> dict[str, Asset]:
        """The assets by name; a multi-asset under its own name, not its outputs'."""
        return {asset.name: asset for asset in self._assets}

    def validate(self) -> None:
        """Check that all definitions fit together: names, upstreams, executors, IO handlers, retry policies, jobs.

        Runs nothing, keeps nothing, and may be called as often as you like.

        Raises:
            GraphValidationError: names all problems at once, each with the asset, its source location, the valid
                names and the closest one.
        """
        self._planner.build_graph()

    def resolve(self) -> None:
        """Check like `validate`, once, and keep the graph for later runs. Every run calls it.

        Raises:
            GraphValidationError: names all problems at once, like `validate`.
        """
        _ = self._planner.graph

    def plan(
        self,
        selection: Selection = None,
        *,
        include_upstream: bool = False,
        executor: Executor | None = None,
        config: Config = None,
        skip_unchanged: bool | None = None,
        partition: str | None = None,
    ) -> Plan:
        """Return the steps of a run in levels and batches, each with its executor, without running them.

        Args:
            selection: As in `materialize`.
            include_upstream: As in `materialize`.
            executor: As in `materialize`.
            config: As in `materialize`; it matters with `skip_unchanged` only.
            skip_unchanged: As in `materialize`. `Plan.reasons` then says of each step why it runs; reads the stores.
            partition: As in `materialize`; with `skip_unchanged` only is it needed.

        Raises:
            GraphValidationError: the repository is not valid.
            AssetNotFoundError: the selection names an unknown asset.
        """
        checked = check_executor(executor, "executor")
        names, is_compared = selected_names(selection), bool(skip_unchanged)
        plan = self._planner.plan(names, include_upstream, checked, None, None, partition, is_compared)
        if not skip_unchanged:
            return plan
        return explain_plan(self._planner.graph, plan, self._resources, config)

    def get_job(self, name: str | Job) -> BoundJob:
        """Return the job of that name, or the given one; its `execute` runs it.

        Raises:
            NodeNotFoundError: there is no such job; names the closest one.
        """
        wanted, names = check_job_name(name), [job.name for job in self._jobs]
        for job in self._jobs:
            if job.name == wanted:
                return BoundJob(job, self._execute_job)
        raise NodeNotFoundError(
            f"no job {wanted!r} in the repository{did_you_mean(wanted, names)}",
            hint=f"it has {', '.join(names) or 'no jobs'}",
        )

    def load_node(
        self, name: str | Asset | Task | BashTask, *, type_hint: Any = None, partition: str | None = None
    ) -> Any:
        """Load the latest stored value of an asset, an output of a multi-asset, or a task.

        Args:
            name: An asset, or the name of an asset or an output; `graph/task` for a task of a graph asset,
                `graph/task[key]` for one instance of a mapped task. Without a key, a task that is mapped or mapped over
                gives the list of all its elements. Without a partition, a partitioned asset gives the dict of all that
                are stored, by their keys.
            type_hint: A type that the IO handler gets as `context.type_hint`, in place of the definition's own.
            partition: The key of the partition to load.

        Raises:
            NodeNotFoundError: there is no asset, output or task of that name.
            ConfigurationError: it has no such partition.
            InputLoadError: it has no stored value, or the value cannot be read.
        """
        return load(self._planner.graph, self._resources, check_node_name(name), type_hint, partition)

    def io_handler_for_output(self, name: str | Asset | Task | BashTask) -> BaseIOHandler:
        """Return the IO handler that stores the value of an asset, an output or a task.

        Raises:
            NodeNotFoundError: there is no asset, output or task of that name.
        """
        return handler_of(self._planner.graph, self._resources, check_node_name(name))

    # ── run ──

    def materialize(
        self,
        selection: Selection = None,
        tags: Tags = None,
        raise_on_error: bool = True,
        config: Config = None,
        include_upstream: bool = False,
        retry: RetryPolicy | str | None = None,
        executor: Executor | None = None,
        on_event: EventSink | None = None,
        record: Record = None,
        progress: bool | None = None,
        durability: Durability = "process",
        retry_of: str | None = None,
        skip_unchanged: bool | None = None,
        durable: bool = False,
        partition: str | None = None,
    ) -> RunResult:
        """Run the steps of a selection, wait for their end and return the result.

        A failed step stops neither its siblings nor anything that does not depend on it; what depends on it is skipped.

        Args:
            selection: Assets, tasks or their names; None is all assets. Inputs outside the selection are loaded from
                earlier runs.
            tags: Tags of the run, as a dict or as pairs of strings; bodies, events and IO handlers see them.
            raise_on_error: Raise the first failure once the run is over, instead of only reporting it in the result.
            config: Values for `context.config`: `{asset or task: {field: value}}`.
            include_upstream: Also run everything that the selection depends on.
            retry: The retry policy of steps without one of their own, or the name of one in `retries`.
            executor: The executor of steps that name none.
            on_event: A function that takes each event of the run as it happens.
            record: Write a record of the run to `runs/<run id>/` in a home folder: True is the folder that RIVERS_HOME
                names, or `.rivers`; a path is another one. None records only where RIVERS_HOME is set.
            progress: Show the run while it goes on: live in a terminal or a notebook, else as lines on stderr. None
                shows it only where RIVERS_PROGRESS is set.
            durability: "process": the record survives the end of this process. "power": each of its lines is forced to
                disk, about 0.3 ms each, so that it survives a power cut, too.
            retry_of: The id of a recorded run, the beginning of it, or the path of its record. What it has made is
                reused, unless another run has replaced it since; the rest runs. Selection, job, tags and config are
                those of that run where they are not given.
            skip_unchanged: True runs no step whose code, config and inputs are those of its stored values; False runs
                all. None skips those whose asset says so.
            durable: Let `resume` adopt the steps that still run when this process is killed, where their executor can
                (`Capabilities.adopts`). Needs a record. SIGTERM then ends this process at once and leaves the steps be.
            partition: The key of the partition that partitioned assets make. They need one, and others take none.

        Raises:
            GraphValidationError: the repository or the selection cannot run; nothing was started.
            AssetNotFoundError: the selection or `config` names an unknown asset; nothing was started.
            ConfigurationError: an argument is invalid; nothing was started.
            ExecutorNotInstalledError: the package of an executor is missing; nothing was started.
            Exception: with `raise_on_error`, the exception of the first step that failed. Its notes name asset,
                executor, attempt and the other failures; its attribute `result` is the RunResult.
        """
        observe = Observe(on_event=on_event, record=record, progress=progress, durability=durability)
        run = self._prepare(
            RunArguments(
                selection=selection,
                tags=tags,
                config=config,
                include_upstream=include_upstream,
                retry=retry,
                executor=executor,
                observe=observe,
                retry_of=retry_of,
                skip_unchanged=skip_unchanged,
                durable=durable,
                partition=partition,
            )
        )
        return run.carry_out(raise_on_error)

    def resume(
        self,
        run: str,
        *,
        raise_on_error: bool = True,
        config: Config = None,
        retry: RetryPolicy | str | None = None,
        executor: Executor | None = None,
        on_event: EventSink | None = None,
        record: Record = None,
        progress: bool | None = None,
        durability: Durability = "process",
    ) -> RunResult:
        """Carry on a recorded run that was interrupted or did not succeed, wait for its end and return the result.

        It keeps its id, its selection, job and tags. Steps that have committed their outputs in the store are not run
        again; those that had not, failed or were skipped or cancelled run in new attempts.

        Args:
            run: The run's id, the beginning of it, or the path of its record.
            config: As in `materialize`; None is the config that was recorded.
            executor: As in `materialize`; it need not be the one that the run began with.
            record: The home folder of the record; None is RIVERS_HOME or `.rivers`.

        Raises:
            RecordError: there is no such record.
            ResumeError: the run goes on in another process, has succeeded, or has another plan by now, or a store
                cannot tell what it has committed; nothing was started.
            Exception: the errors of `materialize`.
        """
        observe = Observe(on_event=on_event, record=record, progress=progress, durability=durability)
        arguments = RunArguments(config=config, retry=retry, executor=executor, observe=observe)
        return self._prepare_resumed(run, arguments).carry_out(raise_on_error)

    def submit(
        self,
        selection: Selection = None,
        tags: Tags = None,
        config: Config = None,
        include_upstream: bool = False,
        retry: RetryPolicy | str | None = None,
        executor: Executor | None = None,
        on_event: EventSink | None = None,
        record: Record = None,
        progress: bool | None = None,
        durability: Durability = "process",
        skip_unchanged: bool | None = None,
        durable: bool = False,
        partition: str | None = None,
    ) -> RunHandle:
        """Start a run in a thread of its own and return a handle to it at once.

        The arguments, and the errors of a run that cannot start, are those of `materialize`. The handle's `wait`
        returns the result, also of a run that failed.
        """
        observe = Observe(on_event=on_event, record=record, progress=progress, durability=durability)
        run = self._prepare(
            RunArguments(
                selection=selection,
                tags=tags,
                config=config,
                include_upstream=include_upstream,
                retry=retry,
                executor=executor,
                observe=observe,
                skip_unchanged=skip_unchanged,
                durable=durable,
                partition=partition,
            )
        )
        handle = RunHandle(run.loop.run_id, lambda: run.carry_out(False), run.loop.cancel)
        with self._lock:
            # Handles of ended runs are dropped here; nothing else holds them.
            self._handles = {other for other in self._handles if other.status == "running"} | {handle}
        return handle

    def shutdown(self) -> None:
        """Cancel the submitted runs, wait up to 30 s for their end, stop idle workers, and refuse new runs.

        Values that the default store shares with workers are deleted; values in memory stay.
        """
        with self._lock:
            self._closed = True
            handles = [handle for handle in self._handles if handle.status == "running"]
        for handle in handles:
            handle.cancel()
        # All were cancelled before the first wait, so they share one deadline.
        deadline = time.monotonic() + SHUTDOWN_DEADLINE
        for handle in handles:
            if not handle._join(max(0.0, deadline - time.monotonic())):
                warnings.warn(
                    f"{handle!r} still runs {SHUTDOWN_DEADLINE:.0f} s after it was cancelled", RuntimeWarning, 2
                )
        self._kept.shutdown()
        self._default_store.close()

    def __enter__(self) -> CodeRepository:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.shutdown()

    def __repr__(self) -> str:
        return f"<CodeRepository of {len(self._assets)} assets, {len(self._tasks)} tasks, {len(self._jobs)} jobs>"

    def _repr_html_(self) -> str:
        """Return the repository for a notebook: a row for each asset."""
        return repository_html(repr(self).strip("<>"), self._assets)

    # ── internals ──

    def _execute_job(
        self,
        job: Job,
        *,
        tags: Tags,
        raise_on_error: bool,
        config: Config,
        executor: Executor | None,
        observe: Observe,
        **settings: Any,
    ) -> RunResult:
        merged, names = {**job.tags, **check_tags(tags)}, list(job.selection)
        arguments = RunArguments(
            selection=names, tags=merged, config=config, executor=executor, observe=observe, job=job, **settings
        )
        return self._prepare(arguments).carry_out(raise_on_error)

    def _prepare(self, arguments: RunArguments) -> PreparedRun:
        """Check all arguments and prepare a run. Everything that can be refused is refused here."""
        self._check_open()
        return self._preparer.prepare(arguments, self._jobs)

    def _prepare_resumed(self, run: str, arguments: RunArguments) -> PreparedRun:
        self._check_open()
        return self._preparer.resume(run, arguments, self._jobs)

    def _check_open(self) -> None:
        if self._closed:
            raise ExecutionError("the repository was shut down", hint="make a new CodeRepository")
