"""The asset graph: all definitions of a repository as nodes with inputs, outputs and edges, all mistakes found at once.

Asset · Task            one node
MultiAsset              one node, several outputs
GraphAsset              a node per call of its composition; the last one stores the asset
ExternalAsset           no node: whoever needs it loads it
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from rivers._definitions.asset import Asset, ExternalAsset
from rivers._definitions.task import BashTask, Task
from rivers._io.base import BaseIOHandler
from rivers.exceptions import Problem
from rivers.protocol.spec import NodeKind, OutputMode

__all__ = ["AssetGraph", "Node", "NodeOutput", "Source", "find_cycle"]

How = Literal["value", "element", "collect", "stream", "resource", "constant"]


class Source:
    """Where one parameter of a node comes from.

    `key` is the storage key for `value`, `element`, `collect` and `stream`, the resource's name for `resource`;
    `io_handler` loads it. `node` is the index of the node that makes it, None for what is not made in this graph.
    """

    __slots__ = ("how", "io_handler", "key", "metadata", "node", "ordered", "parameter", "value")

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


@dataclass(slots=True)
class NodeOutput:
    """One output of a node: its name for the body, its storage key, who stores it."""

    name: str
    key: str
    io_handler: BaseIOHandler
    mode: OutputMode = OutputMode.VALUE
    metadata: dict[str, str] | None = None


class Node:
    """One step to be: what is called, with what, and what becomes of its value; where it runs is the plan's business.

    `owner` is the asset (or standalone task) it belongs to, `definition` what is called. `order` holds storage keys it
    comes after without loading them, `upstream` the indices of all nodes it comes after.
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
        self.outputs: tuple[NodeOutput, ...] = ()
        self.order: tuple[str, ...] = ()
        self.upstream: tuple[int, ...] = ()
        self.mapped_over: int | None = None
        self.max_concurrency: int | None = None
        self.call: int | None = None
        self.composition: str | None = None

    def __repr__(self) -> str:
        return f"<Node {self.key!r}>"


class AssetGraph:
    """All nodes of a repository; `producer` leads from a storage key to the node that makes it.

    `externals` are the assets made elsewhere, by name; `problems` what is wrong, in the order it was found.
    """

    __slots__ = ("assets", "externals", "nodes", "order", "problems", "producer", "results")

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.assets: dict[str, Asset | Task | BashTask] = {}
        self.externals: dict[str, ExternalAsset] = {}
        self.producer: dict[str, int] = {}
        self.results: dict[str, int] = {}
        self.order: list[int] = []
        self.problems: list[Problem] = []

    def complain(
        self,
        message: str,
        asset: Asset | Task | BashTask | None = None,
        allowed: Iterable[str] = (),
        closest: str | None = None,
    ) -> None:
        """Note a problem and go on, so that all of them are told together."""
        self.problems.append(
            Problem(
                message,
                asset.name if asset is not None else None,
                asset.where if asset is not None else None,
                tuple(allowed),
                closest,
            )
        )

    def link(self) -> None:
        """Turn storage keys into edges and find an order; a cycle is a problem, told by its shortest path."""
        producer = self.producer
        for node in self.nodes:
            found: list[int] = []
            for source in node.inputs:
                if source.how not in ("resource", "constant"):
                    source.node = index = producer.get(source.key)
                    if index is not None and index not in found:
                        found.append(index)
            for key in node.order:
                index = producer.get(key)
                if index is not None and index not in found:
                    found.append(index)
            if node.mapped_over is not None and node.mapped_over not in found:
                found.append(node.mapped_over)
            node.upstream = tuple(found)
        self.order = _topological(self.nodes)
        if len(self.order) < len(self.nodes):
            cycle = find_cycle(self.nodes, set(range(len(self.nodes))) - set(self.order))
            path = " → ".join(self.nodes[index].key for index in [*cycle, cycle[0]])
            self.complain(f"assets need each other in a circle: {path}", self.nodes[cycle[0]].owner)

    def upstream_of(self, indices: Iterable[int]) -> set[int]:
        """These nodes and everything they need, directly or not."""
        found = set(indices)
        waiting = list(found)
        while waiting:
            for index in self.nodes[waiting.pop()].upstream:
                if index not in found:
                    found.add(index)
                    waiting.append(index)
        return found


def _topological(nodes: Sequence[Node]) -> list[int]:
    """Kahn's algorithm, in the order of definition where there is a choice; too short when there is a cycle."""
    waiting = [len(node.upstream) for node in nodes]
    children: list[list[int]] = [[] for _ in nodes]
    for node in nodes:
        for index in node.upstream:
            children[index].append(node.index)
    ready = deque(index for index, count in enumerate(waiting) if count == 0)
    order: list[int] = []
    while ready:
        index = ready.popleft()
        order.append(index)
        for child in children[index]:
            waiting[child] -= 1
            if waiting[child] == 0:
                ready.append(child)
    return order


def find_cycle(nodes: Sequence[Node], among: set[int]) -> list[int]:
    """The shortest cycle among nodes that cannot be ordered, each needing the one before it.

    Breadth first from up to 200 of them, so that a huge tangle is told in bounded time; what is downstream of the
    cycle is peeled off first.
    """
    core = set(among)
    while True:
        needed = {index for node in core for index in nodes[node].upstream if index in core}
        if needed == core:
            break
        core = needed
    best: list[int] = []
    for start in sorted(core)[:200]:
        path = _shortest_back(nodes, core, start, len(best) or None)
        if path and (not best or len(path) < len(best)):
            best = path
    return best


def _shortest_back(nodes: Sequence[Node], core: set[int], start: int, limit: int | None) -> list[int]:
    came: dict[int, int] = {}
    level = [start]
    depth = 1
    while level and (limit is None or depth < limit):
        following: list[int] = []
        for index in level:
            for upstream in nodes[index].upstream:
                if upstream == start:
                    path = [index]
                    while path[-1] != start:
                        path.append(came[path[-1]])
                    return path
                if upstream in core and upstream not in came:
                    came[upstream] = index
                    following.append(upstream)
        level, depth = following, depth + 1
    return []
