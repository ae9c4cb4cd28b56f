"""Which executor a step gets: the nearest of its own metadata, its graph's, the job's and the repository's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rivers._definitions.asset import Asset, GraphAsset
from rivers._definitions.executor import Executor
from rivers._definitions.task import BashTask, Task
from rivers._plan.graph import AssetGraph, Node
from rivers.exceptions import RiversError
from rivers.protocol.exception_text import describe_exception

__all__ = ["Placement"]

ASSET_KEY = "rivers/executor"
NODE_KEY = "rivers/node/executor"
_IN_PROCESS = Executor.in_process()
BUILT_IN: dict[str, Callable[[], Executor]] = {
    "in_process": Executor.in_process,
    "parallel": Executor.parallel,
    "kubernetes": Executor.kubernetes,
}


@dataclass(slots=True)
class Placement:
    """The executors that a repository and a job offer, and the rule that picks one for each step.

    `plugins` are the kinds that are installed, each with a function that gives its default value.
    """

    job: Executor | None = None
    default: Executor | None = None
    executors: Mapping[str, Executor] = field(default_factory=dict)
    plugins: Mapping[str, Callable[[], Executor]] = field(default_factory=dict)
    _found: dict[str, Executor | None] = field(default_factory=dict)
    _broken: dict[str, str] = field(default_factory=dict)

    @property
    def base(self) -> Executor:
        """Where a step goes that says nothing."""
        return self.job or self.default or _IN_PROCESS

    @property
    def names(self) -> list[str]:
        """Every value that `rivers/executor` may have here."""
        return sorted({*BUILT_IN, *self.plugins, *self.executors})

    def named(self, name: str) -> Executor | None:
        """The executor of that name: of a kind or a key of `executors`; None when there is none that can be used."""
        if name not in self._found:
            self._found[name] = self._look_up(name)
        return self._found[name]

    def _look_up(self, name: str) -> Executor | None:
        """A kind's name is the configured executor of that kind, the nearest first, else one with defaults."""
        make = BUILT_IN.get(name) or self.plugins.get(name)
        if make is None:
            return self.executors.get(name)
        for configured in (self.job, self.default, self.executors.get(name), *self.executors.values()):
            if configured is not None and configured.kind == name:
                return configured
        try:
            return make()
        except Exception as error:  # noqa: BLE001 - a stranger's package; told with the other mistakes
            self._broken[name] = error.message if isinstance(error, RiversError) else describe_exception(error)
            return None

    def of(self, node: Node) -> Executor:
        """The executor of a step; an unknown name counts as not given (`check` has complained of it)."""
        for value in _values(node):
            found = self.named(value)
            if found is not None:
                return found
        return self.base

    def fused(self, asset: GraphAsset, nodes: Sequence[Node]) -> Executor | None:
        """The executor that runs a whole graph asset as one step, or None when its tasks are steps of their own.

        It is so when the graph says `rivers/executor`, that is not in_process, and every task resolves to in_process.
        """
        name = (asset.metadata or {}).get(ASSET_KEY)
        executor = self.named(name) if name is not None else None
        if executor is None or executor.kind == "in_process":
            return None
        return executor if all(self.of(node).kind == "in_process" for node in nodes) else None

    def check(self, graph: AssetGraph) -> None:
        """Complain of every unknown executor name, each with the valid ones and the closest."""
        for name, executor in self.executors.items():
            if (name in BUILT_IN or name in self.plugins) and executor.kind != name:
                graph.complain(
                    f"executors[{name!r}]={executor!r}: {name!r} is the name of a kind, and this is one of kind "
                    f"{executor.kind!r}; give it another name"
                )
        seen: set[int] = set()
        for node in graph.nodes:
            for definition in (node.definition, node.owner):
                if definition.metadata and id(definition) not in seen:
                    seen.add(id(definition))
                    self._check(graph, definition, node.owner)

    def _check(self, graph: AssetGraph, definition: Asset | Task | BashTask, owner: Asset | Task | BashTask) -> None:
        task = f"task {definition.name!r}: " if definition is not owner else ""
        for key in (ASSET_KEY, NODE_KEY):
            value = (definition.metadata or {}).get(key)
            if value is None or self.named(value) is not None:
                continue
            if value in self._broken:
                message = f"{task}metadata {key!r}: {value!r} cannot be used: {self._broken[value]}"
                graph.complain(message, owner, where=definition.where)
                continue
            message = f"{task}metadata {key!r}: {value!r} is no executor"
            graph.complain(message, owner, self.names, value, self.names, definition.where)


def _values(node: Node) -> list[str]:
    """What a step's metadata and its graph's say of its executor, the nearest first."""
    own = node.definition.metadata
    if isinstance(node.definition, Asset):
        return [own[ASSET_KEY]] if own and ASSET_KEY in own else []
    found: list[str] = []
    for metadata in (own, node.owner.metadata if node.owner is not node.definition else None):
        if metadata:
            found += [metadata[key] for key in (NODE_KEY, ASSET_KEY) if key in metadata]
    return found
