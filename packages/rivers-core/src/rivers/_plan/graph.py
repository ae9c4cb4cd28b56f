"""The asset graph: all definitions of a repository as nodes with inputs, outputs and edges, all mistakes found at once.

Asset · Task            one node
MultiAsset              one node, several outputs
GraphAsset              a node per call of its composition; the last one stores the asset
ExternalAsset           no node: whoever needs it loads it
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Any, Literal

from rivers._definitions.asset import Asset, ExternalAsset
from rivers._definitions.names import closest
from rivers._definitions.task import BashTask, Task
from rivers._io.base import BaseIOHandler
from rivers._plan.cycles import find_cycles, sort_topologically
from rivers.exceptions import Problem
from rivers.protocol.spec import NodeKind, OutputMode

__all__ = ["AssetGraph", "Node", "Source", "StoredOutput"]

MOST_SUGGESTIONS = 50

How = Literal["value", "element", "collect", "stream", "partitions", "resource", "constant"]


class Source:
    """The source of one parameter of a node.

    `key` is the storage key for `value`, `element`, `collect` and `stream`, the resource's name for `resource`.
    `io_handler` loads the value. `node` is the index of the node that makes it, or None if none in this graph does.
    `partitions` are the values of all partitions, whose definition is `value` then. `partition` is that of the value;
    of `partitions` the one that the run makes.
    """

    __slots__ = ("how", "io_handler", "key", "metadata", "node", "ordered", "parameter", "partition", "value")

    def __init__(
        self,
        parameter: str,
        how: How,
        key: str = "",
        io_handler: BaseIOHandler | None = None,
        metadata: dict[str, str] | None = None,
        value: Any = None,
        ordered: bool = False,
    ) -> None:
        self.parameter = parameter
        self.how = how
        self.key = key
        self.io_handler = io_handler
        self.metadata = metadata
        self.value = value
        self.ordered = ordered
        self.node: int | None = None
        self.partition: str | None = None


@dataclass(slots=True)
class StoredOutput:
    """One output of a node: its name for the body, its storage key, and the IO handler that stores it."""

    name: str
    key: str
    io_handler: BaseIOHandler
    mode: OutputMode = OutputMode.VALUE
    metadata: dict[str, str] | None = None


class Node:
    """A step of the graph: a function, its inputs and its outputs. The plan adds the executor.

    `owner` is the asset (or standalone task) that it belongs to, `definition` the asset or task that is called. `order`
    holds the storage keys of upstreams that it does not load, `upstream` the indices of all its upstream nodes.
    `partition` is the one that it makes, in the graph of a run with a partition.
    """

    __slots__ = (
        "call",
        "composition",
        "definition",
        "index",
        "inputs",
        "is_async",
        "key",
        "kind",
        "mapped_over",
        "max_concurrency",
        "order",
        "outputs",
        "owner",
        "partition",
        "upstream",
    )

    def __init__(
        self, index: int, key: str, kind: NodeKind, owner: Asset | Task | BashTask, definition: Asset | Task | BashTask
    ) -> None:
        self.index = index
        self.key = key
        self.kind = kind
        self.owner = owner
        self.definition = definition
        signature = definition.signature
        self.is_async = signature is not None and signature.needs_loop
        self.inputs: tuple[Source, ...] = ()
        self.outputs: tuple[StoredOutput, ...] = ()
        self.order: tuple[str, ...] = ()
        self.upstream: tuple[int, ...] = ()
        self.mapped_over: int | None = None
        self.max_concurrency: int | None = None
        self.call: int | None = None
        self.composition: str | None = None
        self.partition: str | None = None

    def __repr__(self) -> str:
        return f"<Node {self.key!r}>"


class AssetGraph:
    """All nodes of a repository; `producer` leads from a storage key to the node that makes it.

    `results` leads from the name of an asset or task to the node that makes its value, `members` from a graph asset's
    to all its nodes. `externals` are the assets made elsewhere, by name; `aside` the tasks that graph assets use and
    that run by themselves only when they are selected. `has_partitions` says whether an asset has. `problems` is what
    is wrong, in the order it was found.
    """

    __slots__ = (
        "_steps",
        "aside",
        "assets",
        "externals",
        "has_partitions",
        "members",
        "nodes",
        "order",
        "problems",
        "producer",
        "results",
    )

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.assets: dict[str, Asset | Task | BashTask] = {}
        self.externals: dict[str, ExternalAsset] = {}
        self.producer: dict[str, int] = {}
        self.results: dict[str, int] = {}
        self.members: dict[str, list[int]] = {}
        self.aside: set[int] = set()
        self.order: list[int] = []
        self.has_partitions = False
        self.problems: list[Problem] = []
        self._steps: dict[str, Node] = {}

    def add(
        self, key: str, kind: NodeKind, owner: Asset | Task | BashTask, definition: Asset | Task | BashTask
    ) -> Node:
        """Add a node, and report a problem if another node has the same key."""
        node = Node(len(self.nodes), key, kind, owner, definition)
        self.nodes.append(node)
        other = self._steps.setdefault(key, node)
        if other is not node:
            self.add_problem(f"its step {key!r} has the name of a step of {other.owner!r} ({other.owner.where})", owner)
        return node

    def store(self, node: Node, outputs: Iterable[StoredOutput]) -> None:
        """Set the outputs of a node, and report a problem if another node stores under the same key."""
        node.outputs = tuple(outputs)
        for output in node.outputs:
            index = self.producer.setdefault(output.key, node.index)
            if index != node.index:
                other = self.nodes[index].owner
                self.add_problem(
                    f"its value {output.key!r} has the name of one of {other!r} ({other.where})", node.owner
                )

    def with_nodes(self, nodes: list[Node]) -> AssetGraph:
        """Return this graph with other nodes at the same places; their storage keys may differ."""
        other = copy(self)
        other.nodes = nodes
        other.producer = {output.key: node.index for node in nodes for output in node.outputs}
        return other

    def add_problem(
        self,
        message: str,
        asset: Asset | Task | BashTask | None = None,
        allowed: Iterable[str] = (),
        given: str | None = None,
        among: Iterable[str] = (),
        where: str | None = None,
    ) -> None:
        """Add a problem; `resolve()` reports all of them together.

        While there are few problems, it gets the one `among` these that is closest to `given`. The search takes
        about 1 µs per candidate, and nobody reads thousands of suggestions.
        """
        near = closest(given, among) if given is not None and len(self.problems) < MOST_SUGGESTIONS else None
        name = asset.name if asset is not None else None
        location = where or (asset.where if asset is not None else None)
        self.problems.append(Problem(message, name, location, tuple(allowed), near))

    def link(self) -> None:
        """Turn storage keys into edges and sort the nodes; report each cycle by its shortest path."""
        producer = self.producer
        for node in self.nodes:
            found: dict[int, None] = {}
            for source in node.inputs:
                if source.how not in {"resource", "constant"}:
                    source.node = index = producer.get(source.key)
                    if index is not None:
                        found[index] = None
            for key in node.order:
                index = producer.get(key)
                if index is not None:
                    found[index] = None
            if node.mapped_over is not None:
                found[node.mapped_over] = None
            node.upstream = tuple(found)
        upstream = [node.upstream for node in self.nodes]
        self.order = sort_topologically(upstream)
        if len(self.order) < len(self.nodes):
            for cycle in find_cycles(upstream, self.order):
                self._add_cycle([self.nodes[index] for index in cycle], [self.nodes[i].key for i in cycle])
        elif self.members:
            self._check_assets()

    def _check_assets(self) -> None:
        """Report graph assets that need an asset which needs them, through other tasks than those of their value."""
        unit = list(range(len(self.nodes)))
        for indices in self.members.values():
            for index in indices:
                unit[index] = indices[0]
        upstream: list[dict[int, None]] = [{} for _ in self.nodes]
        for node in self.nodes:
            mine = unit[node.index]
            upstream[mine].update((unit[above], None) for above in node.upstream if unit[above] != mine)
        edges = [tuple(needed) for needed in upstream]
        order = sort_topologically(edges)
        if len(order) < len(edges):
            for cycle in find_cycles(edges, order):
                nodes = [self.nodes[index] for index in cycle]
                self._add_cycle(nodes, [node.owner.name for node in nodes])

    def _add_cycle(self, nodes: Sequence[Node], names: Sequence[str]) -> None:
        path = " → ".join([*names, names[0]])
        self.add_problem(f"assets need each other in a circle: {path}", nodes[0].owner)

    def upstream_of(self, indices: Iterable[int]) -> set[int]:
        """Return these nodes and everything upstream of them; of a graph asset always all tasks."""
        found: set[int] = set()
        whole: set[str] = set()
        waiting = list(indices)
        while waiting:
            index = waiting.pop()
            if index in found:
                continue
            found.add(index)
            node = self.nodes[index]
            waiting.extend(node.upstream)
            if node.composition is not None and node.composition not in whole:
                whole.add(node.composition)
                waiting.extend(self.members[node.composition])
        return found
