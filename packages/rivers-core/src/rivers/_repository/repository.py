"""The code repository: everything that belongs together, checked together, run together."""

from __future__ import annotations

import random
import secrets
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import Any

from rivers._definitions.asset import Asset
from rivers._definitions.executor import BUILT_IN, Executor, check_executor
from rivers._definitions.job import Job, check_tags
from rivers._definitions.names import closest, did_you_mean
from rivers._definitions.retry import RetryPolicy, check_retry
from rivers._definitions.task import BashTask, Task
from rivers._events.sink import EventSink
from rivers._executor.backend_pool import BackendPool
from rivers._executor.drive import RunLoop
from rivers._executor.registry import default_of, installed
from rivers._executor.run_options import RunOptions
from rivers._io.base import BaseIOHandler
from rivers._io.shared.default_store import DefaultStore
from rivers._plan.build import build_graph
from rivers._plan.graph import AssetGraph, Node
from rivers._plan.placement import Placement
from rivers._plan.plan import Plan, make_plan, select
from rivers._repository.bound_job import BoundJob
from rivers._repository.checks import check_configs, check_handlers, check_jobs, check_reach, check_retries
from rivers._repository.run import RunHandle, RunResult, make_result
from rivers._repository.sharing import share
from rivers._repository.stored import handler_of, load
from rivers._repository.validation import (
    check_assets,
    check_default_handler,
    check_executors,
    check_jobs_argument,
    check_listener,
    check_resources,
    check_retry_names,
    check_tasks,
    selected_names,
)
from rivers.exceptions import ConfigurationError, ExecutionError, GraphValidationError, NodeNotFoundError
from rivers_process.fork import renew_in_children

__all__ = ["CodeRepository"]

Selection = Sequence[Asset | Task | BashTask | str] | Asset | Task | BashTask | str | None
Tags = Mapping[str, str] | Sequence[tuple[str, str]] | None
Config = Mapping[str, Mapping[str, Any]] | None
SHUTDOWN_DEADLINE = 30.0
PLANS_KEPT = 16


class CodeRepository:
    """Assets, tasks, jobs, resources and executors that belong together.

    `default_executor` serves jobs and assets that say nothing; `executors` names further ones for `rivers/executor`;
    `retries` names policies for `retry="name"`; `default_retry_policy` counts where nothing nearer is given, and
    `default_io_handler`, a handler or the name of one among the resources, stores what has no handler of its own. A
    context manager: leaving it calls `shutdown`.

    Raises:
        ConfigurationError: an argument is of the wrong kind. Everything else that is wrong is told by `resolve()`.
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
    ) -> None:
        self._assets = check_assets(assets)
        self._tasks = check_tasks(tasks)
        self._jobs = check_jobs_argument(jobs)
        self._default_executor = check_executor(default_executor, "default_executor")
        self._executors = check_executors(executors)
        self._resources = check_resources(resources)
        self._retries = check_retry_names(retries)
        self._default_retry = check_retry(default_retry_policy, "default_retry_policy", "", ConfigurationError)
        self._default_store = DefaultStore()
        given = check_default_handler(default_io_handler, self._resources)
        self._default_handler: BaseIOHandler = self._default_store if given is None else given
        self._graph: AssetGraph | None = None
        self._plans: dict[Any, Plan] = {}
        self._handles: set[RunHandle] = set()
        self._kept = BackendPool()
        weakref.finalize(self, self._kept.shutdown)
        self._lock = threading.RLock()
        self._closed = False
        renew_in_children(self, CodeRepository._renew)

    def _renew(self) -> None:
        """In a forked child: submitted runs go on in the parent alone."""
        self._lock = threading.RLock()
        self._handles = set()

    # ── looking at it ──

    @property
    def assets(self) -> dict[str, Asset]:
        """The assets by name; a multi-asset under its own name."""
        return {asset.name: asset for asset in self._assets}

    def validate(self) -> None:
        """Check everything without side effects, as often as you like.

        Raises:
            GraphValidationError: all that is wrong, each with asset, place, what is allowed and the closest name.
        """
        self._checked()

    def resolve(self) -> None:
        """Check everything once and keep the graph; runs call it themselves.

        Raises:
            GraphValidationError: as `validate`.
        """
        with self._lock:
            if self._graph is None:
                self._graph = self._checked()

    def plan(
        self, selection: Selection = None, *, include_upstream: bool = False, executor: Executor | None = None
    ) -> Plan:
        """The steps of a run in levels and batches, each with its executor; nothing is run.

        Raises:
            GraphValidationError: the repository is not valid.
            AssetNotFoundError: the selection names something unknown.
        """
        return self._plan(selection, include_upstream, check_executor(executor, "executor"), None, None)

    def get_job(self, name: str) -> BoundJob:
        """The job of that name, ready to `execute`.

        Raises:
            NodeNotFoundError: there is none; with the closest name.
        """
        names = [job.name for job in self._jobs]
        for job in self._jobs:
            if job.name == name:
                return BoundJob(job, self._execute_job)
        near = closest(name, names)
        raise NodeNotFoundError(
            f"no job {name!r} in the repository" + (f"; did you mean {near!r}?" if near else ""),
            hint=f"it has {', '.join(names) or 'no jobs'}",
        )

    def load_node(self, name: str, *, type_hint: Any = None) -> Any:
        """The value last stored for an asset, an output of a multi-asset or a task (`graph/task`, `graph/task[key]`).

        Of a task that is mapped or mapped over it is the list of all elements.

        Raises:
            NodeNotFoundError: nothing bears that name.
            InputLoadError: it has no stored value, or none that can be read.
        """
        return load(self._resolved(), self._resources, name, type_hint)

    def io_handler_for_output(self, name: str) -> BaseIOHandler:
        """The IO handler that stores an asset's or a task's value here.

        Raises:
            NodeNotFoundError: nothing bears that name.
        """
        return handler_of(self._resolved(), self._resources, name)

    # ── running it ──

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
    ) -> RunResult:
        """Make assets, here and now, and return what became of it.

        Without `selection` all of them; with it only those, loading what they need from earlier runs, or making that
        too with `include_upstream`. `config` is `{asset: {field: value}}`, `retry` and `executor` are this run's
        defaults, `on_event` is told everything as it happens.

        Raises:
            GraphValidationError, AssetNotFoundError, ConfigurationError, ExecutorNotInstalledError: the run was
                refused, and nothing was started.
            Exception: with `raise_on_error`, the first failure's own exception, once the run is over; its notes say
                where, its `result` is the RunResult.
        """
        loop = self._loop(selection, tags, config, include_upstream, retry, executor, on_event, None)
        return _run(loop, raise_on_error)

    def submit(
        self,
        selection: Selection = None,
        tags: Tags = None,
        config: Config = None,
        include_upstream: bool = False,
        retry: RetryPolicy | str | None = None,
        executor: Executor | None = None,
        on_event: EventSink | None = None,
    ) -> RunHandle:
        """Like `materialize`, in a thread of its own; returns a handle at once."""
        loop = self._loop(selection, tags, config, include_upstream, retry, executor, on_event, None)
        handle = RunHandle(loop.run_id, lambda: _run(loop, False), loop.cancel)
        with self._lock:
            self._handles = {other for other in self._handles if other.status == "running"} | {handle}
        return handle

    def shutdown(self) -> None:
        """Cancel submitted runs that go on, wait for their end (30 s at most), let idle workers go, refuse new runs.

        What runs with steps in other processes have put into the default store is gone; what is in memory is not.
        """
        with self._lock:
            self._closed = True
            handles = [handle for handle in self._handles if handle.status == "running"]
        for handle in handles:
            handle.cancel()
        deadline = time.monotonic() + SHUTDOWN_DEADLINE
        for handle in handles:
            if not handle._join(max(0.0, deadline - time.monotonic())):
                warnings.warn(
                    f"{handle!r} still goes on {SHUTDOWN_DEADLINE:.0f} s after it was cancelled", RuntimeWarning, 2
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

    # ── inside ──

    def _execute_job(
        self, job: Job, *, tags: Tags, raise_on_error: bool, config: Config, on_event: EventSink | None
    ) -> RunResult:
        merged = {**job.tags, **check_tags(tags)}
        loop = self._loop(list(job.selection), merged, config, False, None, None, on_event, job)
        return _run(loop, raise_on_error)

    def _checked(self) -> AssetGraph:
        graph = build_graph(self._assets, self._tasks, self._resources, self._default_handler)
        placement = self._placement(None)
        placement.check(graph)
        check_retries(graph, self._jobs, self._default_retry, self._retries)
        check_handlers(graph)
        check_reach(graph, make_plan(graph, select(graph, None, False), placement), self._default_store)
        for executor, nodes in check_jobs(graph, self._jobs).items():
            check_reach(graph, make_plan(graph, nodes, self._placement(executor)), self._default_store)
        if graph.problems:
            raise GraphValidationError(graph.problems)
        return graph

    def _resolved(self) -> AssetGraph:
        self.resolve()
        assert self._graph is not None
        return self._graph

    def _placement(self, executor: Executor | None) -> Placement:
        makers: dict[str, Callable[[], Executor]] = {
            job.executor.kind: type(job.executor) for job in self._jobs if job.executor is not None
        }
        makers |= {kind: partial(default_of, kind) for kind in installed() if kind not in BUILT_IN}
        return Placement(executor, self._default_executor, self._executors, makers)

    def _plan(
        self,
        selection: Selection,
        include_upstream: bool,
        executor: Executor | None,
        job: Job | None,
        retry: RetryPolicy | str | None,
    ) -> Plan:
        graph = self._resolved()
        names = None if selection is None else selected_names(selection)
        key = (names, include_upstream, executor, job.name if job is not None else None, retry)
        plan = self._plans.get(key)
        if plan is None:
            plan = self._make(graph, names, include_upstream, self._placement(executor), job, retry)
            with self._lock:
                if len(self._plans) >= PLANS_KEPT:
                    self._plans.clear()
                self._plans[key] = plan
        return plan

    def _make(
        self,
        graph: AssetGraph,
        selection: Any,
        include_upstream: bool,
        placement: Placement,
        job: Job | None,
        retry: RetryPolicy | str | None,
    ) -> Plan:
        fallback = next(
            (
                self._policy(given)
                for given in (job.retry if job else None, retry, self._default_retry)
                if given is not None
            ),
            None,
        )

        def retry_of(node: Node) -> RetryPolicy | None:
            own = node.definition.retry
            if own is None and node.owner is not node.definition:
                own = node.owner.retry
            return self._policy(own) if own is not None else fallback

        return make_plan(graph, select(graph, selection, include_upstream), placement, retry_of)

    def _policy(self, given: RetryPolicy | str) -> RetryPolicy:
        if isinstance(given, RetryPolicy):
            return given
        found = self._retries.get(given)
        if found is None:
            raise ConfigurationError(
                f"invalid retry={given!r}: expected the name of a policy{did_you_mean(given, self._retries)}",
                hint=f"CodeRepository(retries=...) has {', '.join(self._retries) or 'none'}",
            )
        return found

    def _loop(
        self,
        selection: Selection,
        tags: Tags,
        config: Config,
        include_upstream: bool,
        retry: RetryPolicy | str | None,
        executor: Executor | None,
        on_event: EventSink | None,
        job: Job | None,
    ) -> RunLoop:
        """Everything that can be refused is refused here, before anything starts."""
        if self._closed:
            raise ExecutionError("the repository was shut down", hint="make a new CodeRepository")
        checked = check_executor(executor, "executor") or (job.executor if job is not None else None)
        check_retry(retry, "retry", "", ConfigurationError)
        plan = self._plan(selection, include_upstream, checked, job, retry)
        graph = self._resolved()
        problems = check_reach(graph, plan, self._default_store, collect=True) if executor is not None else ()
        if problems:
            raise GraphValidationError(problems)
        configs = check_configs(graph, plan, config)
        check_listener(on_event)
        run_id = secrets.token_hex(16)
        share(self._default_store, plan, run_id)
        return RunLoop(
            plan,
            [self._kept.take(one) for one in plan.executors],
            RunOptions(
                run_id=run_id,
                key=secrets.token_bytes(32),
                random=random.random,
                sinks=() if on_event is None else (on_event,),
                configs=configs,
                tags=check_tags(tags),
                job=job.name if job is not None else None,
                folders=self._default_store.folders(),
            ),
            self._kept.give_back,
        )


def _run(loop: RunLoop, raise_on_error: bool) -> RunResult:
    try:
        loop.run()
    except KeyboardInterrupt as interrupt:
        if loop.status != "running":  # else preflight was interrupted, and there is nothing to tell
            interrupt.result = make_result(loop.plan, loop)[0]  # type: ignore[attr-defined]  # what was made until then
        raise
    result, error = make_result(loop.plan, loop)
    if raise_on_error and error is not None:
        raise error
    return result
