"""The checked graph of a repository and the plans of its runs, both kept for later runs."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from rivers._definitions.asset import Asset
from rivers._definitions.executor import BUILT_IN, Executor
from rivers._definitions.job import Job
from rivers._definitions.names import did_you_mean
from rivers._definitions.retry import RetryPolicy
from rivers._definitions.task import BashTask, Task
from rivers._executor.registry import default_of, installed
from rivers._io.base import BaseIOHandler
from rivers._io.shared.default_store import DefaultStore
from rivers._plan.build import build_graph
from rivers._plan.graph import AssetGraph, Node
from rivers._plan.partitions import bind_partition, check_partition
from rivers._plan.placement import Placement
from rivers._plan.plan import Plan, make_plan, select
from rivers._repository.checks import check_handlers, check_jobs, check_reach, check_retries
from rivers.exceptions import ConfigurationError, GraphValidationError
from rivers_process.fork import renew_in_children

__all__ = ["Planner"]

PLANS_KEPT = 16


class Planner:
    """The planner of one repository, made of its checked arguments."""

    def __init__(
        self,
        assets: Sequence[Asset],
        tasks: Sequence[Task | BashTask],
        jobs: Sequence[Job],
        *,
        default_executor: Executor | None,
        executors: Mapping[str, Executor],
        resources: Mapping[str, Any],
        retries: Mapping[str, RetryPolicy],
        default_retry: RetryPolicy | str | None,
        default_handler: BaseIOHandler,
        default_store: DefaultStore,
    ) -> None:
        self._assets, self._tasks, self._jobs = assets, tasks, jobs
        self._default_executor, self._executors = default_executor, executors
        self._resources = resources
        self._retries, self._default_retry = retries, default_retry
        self._default_handler, self._default_store = default_handler, default_store
        self._graph: AssetGraph | None = None
        self._plans: dict[Any, Plan] = {}
        # Reentrant: a composition may look into its own repository while the graph is built.
        self._lock = threading.RLock()
        renew_in_children(self, Planner._renew)

    def _renew(self) -> None:
        """Replace, in a forked child, the lock, which another thread of the parent may have held."""
        self._lock = threading.RLock()

    @property
    def graph(self) -> AssetGraph:
        """The checked graph, built once.

        Raises:
            GraphValidationError: names all problems at once.
        """
        with self._lock:
            if self._graph is None:
                self._graph = self.build_graph()
            return self._graph

    def build_graph(self) -> AssetGraph:
        """Build the graph anew and check it.

        Raises:
            GraphValidationError: names all problems at once.
        """
        # The checks below add to `graph.problems`, so that one error names all of them.
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

    def plan(
        self,
        names: tuple[str, ...] | None,
        include_upstream: bool,
        executor: Executor | None,
        job: Job | None,
        retry: RetryPolicy | str | None,
        partition: str | None = None,
        is_run: bool = True,
    ) -> Plan:
        """Return the plan of a run; `names` None selects all assets. One that was made before is used again.

        Only a plan that is not run may lack the partition that its assets need.

        Raises:
            GraphValidationError: the repository is not valid.
            AssetNotFoundError: a name is unknown.
            ConfigurationError: there is no retry policy of the given name, or the partition is missing or unknown.
        """
        graph = self.graph
        if partition is not None or (is_run and graph.has_partitions):
            partition = check_partition(graph, select(graph, names, include_upstream), partition)
        # Executors and policies are frozen values and compare by their fields, so equal calls find the same plan.
        key = (names, include_upstream, executor, job.name if job is not None else None, retry, partition)
        plan = self._plans.get(key)
        if plan is None:
            nodes = select(graph, names, include_upstream)
            if partition is not None:
                graph = bind_partition(graph, partition)
            plan = make_plan(graph, nodes, self._placement(executor), self._retry_of(job, retry), partition)
            with self._lock:
                # Plans hold every step: a service that runs ever new selections must not keep them all.
                if len(self._plans) >= PLANS_KEPT:
                    self._plans.clear()
                self._plans[key] = plan
        return plan

    def _placement(self, executor: Executor | None) -> Placement:
        # The kind of a job's executor is a name everywhere, also where the job does not run.
        makers: dict[str, Callable[[], Executor]] = {
            job.executor.kind: type(job.executor) for job in self._jobs if job.executor is not None
        }
        makers |= {kind: partial(default_of, kind) for kind in installed() if kind not in BUILT_IN}
        return Placement(executor, self._default_executor, self._executors, makers)

    def _retry_of(self, job: Job | None, retry: RetryPolicy | str | None) -> Callable[[Node], RetryPolicy | None]:
        """Return a function that finds the nearest policy of a step: its own, its graph's, the run's."""
        given = next((one for one in (job.retry if job else None, retry, self._default_retry) if one is not None), None)
        fallback = None if given is None else self._find_policy(given)

        def retry_of(node: Node) -> RetryPolicy | None:
            own = node.definition.retry
            # A task of a graph asset has the graph as its owner.
            if own is None and node.owner is not node.definition:
                own = node.owner.retry
            return self._find_policy(own) if own is not None else fallback

        return retry_of

    def _find_policy(self, given: RetryPolicy | str) -> RetryPolicy:
        if isinstance(given, RetryPolicy):
            return given
        found = self._retries.get(given)
        if found is None:
            raise ConfigurationError(
                f"invalid retry={given!r}: expected the name of a policy{did_you_mean(given, self._retries)}",
                hint=f"CodeRepository(retries=...) has {', '.join(self._retries) or 'none'}",
            )
        return found
