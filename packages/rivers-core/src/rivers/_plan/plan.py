"""The plan of a run: the selected steps in order, each with its executor, in levels and batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rivers._definitions.asset import Asset, GraphAsset
from rivers._definitions.executor import Executor
from rivers._definitions.names import closest
from rivers._definitions.partitions import storage_key
from rivers._definitions.retry import RetryPolicy
from rivers._definitions.task import BashTask, Task
from rivers._plan.graph import AssetGraph, Node
from rivers._plan.placement import Placement
from rivers._terminal.html import html_table
from rivers.exceptions import AssetNotFoundError, ConfigurationError

__all__ = ["Batch", "Plan", "Step", "make_plan", "select"]


class Step:
    """One node of a run, with its executor and its upstream steps.

    `key` is the asset's name or `graph/task`, `assets` the names of the assets that it makes. `deps` holds the indices
    of its upstream steps, `streams` those of them whose results it takes one by one. `inner` holds the nodes of a graph
    asset that runs as one step. `executor_index` is the position of its executor in the plan. `is_async` says whether
    its body is awaited; the body of a graph asset is not, whatever its tasks are.
    """

    __slots__ = (
        "assets",
        "deps",
        "executor",
        "executor_index",
        "index",
        "inner",
        "is_async",
        "key",
        "level",
        "mapped_over",
        "node",
        "retry",
        "streams",
    )

    def __init__(
        self,
        index: int,
        node: Node,
        executor: Executor,
        executor_index: int,
        retry: RetryPolicy | None,
        inner: tuple[Node, ...] = (),
    ) -> None:
        owner = node.owner
        names = owner.output_names if isinstance(owner, Asset) else (owner.name,)
        self.key = owner.name if inner else node.key
        stored = {storage_key(name, node.partition): name for name in names}
        self.assets = tuple([stored[output.key] for output in node.outputs if output.key in stored])
        self.index = index
        self.node = node
        self.executor = executor
        self.executor_index = executor_index
        self.retry = retry
        self.level = 0
        self.deps: tuple[int, ...] = ()
        self.streams: tuple[int, ...] = ()
        self.mapped_over: int | None = None
        self.inner = inner
        self.is_async = node.is_async and not inner

    def __repr__(self) -> str:
        return f"<Step {self.key!r} on {self.executor.kind}>"


@dataclass(frozen=True, slots=True)
class Batch:
    """The steps of one level on one executor; they may run at once."""

    executor: Executor
    steps: tuple[Step, ...]

    def __repr__(self) -> str:
        return f"{self.executor!r}: {', '.join(step.key for step in self.steps)}"


class Plan:
    """The ordered steps of a run. `print(plan)` shows levels and batches.

    A step starts as soon as its own inputs are stored: levels and batches are no barriers. `encodable` holds the
    indices of steps whose specs are known to be within the protocol's limits. `reasons` says by key why each step
    runs, and has nothing for a step that is unchanged; it is None if the plan was not compared with what is stored.
    `identities` are those of its steps in earlier runs. `partition` is the one that its partitioned steps make.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        executors: Sequence[Executor],
        reasons: Mapping[str, tuple[str, ...]] | None = None,
        partition: str | None = None,
    ) -> None:
        self.reasons = reasons
        self.partition = partition
        self.identities: dict[int, tuple[object, Any]] = {}
        self._children: list[list[int]] | None = None
        self.encodable: set[int] = set()
        self.steps: tuple[Step, ...] = tuple(steps)
        self.executors: tuple[Executor, ...] = tuple(executors)

    @property
    def children(self) -> list[list[int]]:
        """The indices of the downstream steps of each step, computed once for all runs of the plan."""
        if self._children is None:
            self._children = _find_children(self.steps)
        return self._children

    @property
    def levels(self) -> list[list[Batch]]:
        """The batches of each level, in the order in which the executors first appear in the plan."""
        found: list[dict[int, list[Step]]] = []
        for step in self.steps:
            while len(found) <= step.level:
                found.append({})
            found[step.level].setdefault(step.executor_index, []).append(step)
        return [
            [Batch(self.executors[index], tuple(steps)) for index, steps in sorted(level.items())] for level in found
        ]

    def to_mermaid(self) -> str:
        """Return the plan as a Mermaid flowchart, which Markdown pages and notebooks show as a picture."""
        # At its first use: few plans are drawn, and it loads the layout of text for terminals.
        from rivers._plan.render import plan_to_mermaid

        return plan_to_mermaid(self.steps, self.executors)

    def __len__(self) -> int:
        return len(self.steps)

    def __str__(self) -> str:
        lines: list[str] = []
        for number, level in enumerate(self.levels):
            lines.append(f"level {number}")
            lines.extend(f"  {batch!r}" for batch in level)
        if self.reasons is not None:
            lines.append("reasons")
            lines.extend(f"  {key}: {', '.join(found) or 'unchanged'}" for key, found in self.reasons.items())
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"<Plan of {len(self.steps)} steps>"

    def _repr_html_(self) -> str:
        """Return the plan for a notebook: a row for each batch."""
        rows = [
            (number, repr(batch.executor), ", ".join(step.key for step in batch.steps))
            for number, level in enumerate(self.levels)
            for batch in level
        ]
        return html_table(f"Plan of {len(self.steps):,} steps", ("level", "executor", "steps"), rows)


def select(
    graph: AssetGraph, selection: Iterable[Asset | Task | BashTask | str] | None, include_upstream: bool
) -> set[int]:
    """Return the nodes that a selection names: assets, outputs of multi-assets, tasks; all nodes if it is None.

    Raises:
        AssetNotFoundError: a name is unknown; the message has the closest one.
        ConfigurationError: the selection holds an external asset, which no step makes, or no name.
    """
    if selection is None:
        return set(range(len(graph.nodes))) - graph.aside
    if isinstance(selection, str | Asset | Task | BashTask):
        selection = [selection]
    found: set[int] = set()
    for item in selection:
        found.update(_find_nodes(graph, item))
    return graph.upstream_of(found) if include_upstream else found


def _find_nodes(graph: AssetGraph, item: object) -> Iterable[int]:
    name = item if isinstance(item, str) else getattr(item, "name", None)
    if not isinstance(name, str):
        raise ConfigurationError(f"invalid selection item={item!r:.80}: expected an asset or its name")
    definition = graph.assets.get(name)
    if definition is None:
        near = closest(name, graph.assets)
        raise AssetNotFoundError(
            f"no asset {name!r} in the repository" + (f"; did you mean {near!r}?" if near else ""),
            hint=f"it has {', '.join(sorted(graph.assets)[:10])}{', …' if len(graph.assets) > 10 else ''}",
        )
    if name in graph.externals:
        raise ConfigurationError(f"asset {name!r} is external: no step of the repository makes it")
    if isinstance(definition, GraphAsset):
        return graph.members.get(definition.name, ())
    index = graph.results.get(definition.name)
    if index is None:
        raise ConfigurationError(
            f"task {name!r} runs only within graph assets: its parameters are not assets or resources of the repository"
        )
    return (index,)


def make_plan(
    graph: AssetGraph,
    selected: set[int],
    placement: Placement,
    retry_of: Callable[[Node], RetryPolicy | None] = lambda node: None,
    partition: str | None = None,
) -> Plan:
    """Order the selected nodes, choose their executors, and fuse the graph assets that run as one step."""
    fused = _find_fused(graph, selected, placement)
    steps: list[Step] = []
    executors: dict[Executor, int] = {}
    step_of: dict[int, int] = {}
    for index in graph.order:
        if index not in selected:
            continue
        node = graph.nodes[index]
        fusion = fused.get(node.composition) if node.composition is not None else None
        if fusion is not None and index != graph.results[node.owner.name]:
            continue
        executor = placement.executor_of(node) if fusion is None else fusion[0]
        inner: tuple[Node, ...] = () if fusion is None else fusion[1]
        executor_index = executors.setdefault(executor, len(executors))
        step = Step(len(steps), node, executor, executor_index, retry_of(node), inner)
        step_of[index] = step.index
        for member in inner:
            step_of[member.index] = step.index
        steps.append(step)
    ordered = _connect(steps, step_of)
    return Plan(ordered, list(executors), partition=partition)


def _find_fused(
    graph: AssetGraph, selected: set[int], placement: Placement
) -> dict[str, tuple[Executor, tuple[Node, ...]]]:
    fused: dict[str, tuple[Executor, tuple[Node, ...]]] = {}
    for name, indices in graph.members.items():
        asset = graph.assets[name]
        if indices[0] not in selected or not isinstance(asset, GraphAsset):
            continue
        # In the order of their calls, each after those it needs.
        nodes = [graph.nodes[index] for index in indices]
        executor = placement.executor_of_graph(asset, nodes)
        if executor is not None:
            fused[name] = (executor, tuple(nodes))
    return fused


def _connect(steps: list[Step], step_of: Mapping[int, int]) -> list[Step]:
    """Turn edges between nodes into edges between steps, and give each step its level."""
    for step in steps:
        found: dict[int, None] = {}
        for node in step.inner or (step.node,):
            for upstream in node.upstream:
                index = step_of.get(upstream)
                if index is not None and index != step.index:
                    found[index] = None
        step.deps = tuple(found)
        if not step.inner:
            node = step.node
            if node.mapped_over is not None:
                step.mapped_over = step_of.get(node.mapped_over)
            if node.composition is not None:
                step.streams = tuple(
                    step_of[source.node]
                    for source in node.inputs
                    if source.how == "stream" and source.node is not None and source.node in step_of
                )
    for step in _sort_steps(steps):
        step.level = 1 + max((steps[index].level for index in step.deps), default=-1)
    return steps


def _sort_steps(steps: list[Step]) -> Iterable[Step]:
    """Return the steps so that each comes after its deps."""
    # `graph.order` has them so already. Only a fused graph asset takes the position of its last task.
    if not any(step.inner for step in steps):
        return steps
    waiting = [len(step.deps) for step in steps]
    children = _find_children(steps)
    order = [step for step in steps if waiting[step.index] == 0]
    for step in order:
        for child in children[step.index]:
            waiting[child] -= 1
            if waiting[child] == 0:
                order.append(steps[child])
    return order


def _find_children(steps: Sequence[Step]) -> list[list[int]]:
    children: list[list[int]] = [[] for _ in steps]
    for step in steps:
        for index in step.deps:
            children[index].append(step.index)
    return children
