"""Which executor a step gets: the nearest of its own metadata, its graph's, the job's and the repository's."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rivers._definitions.asset import GraphAsset
from rivers._definitions.executor import Executor
from rivers._definitions.names import closest
from rivers._plan.graph import AssetGraph, Node

__all__ = ["Placement"]

ASSET_KEY = "rivers/executor"
NODE_KEY = "rivers/node/executor"
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
    _found: dict[str, Executor] = field(default_factory=dict)

    @property
    def base(self) -> Executor:
        """Where a step goes that says nothing."""
        return self.job or self.default or Executor.in_process()

    @property
    def names(self) -> list[str]:
        """Every value that `rivers/executor` may have here."""
        return sorted({*BUILT_IN, *self.plugins, *self.executors})

    def named(self, name: str) -> Executor | None:
        """The executor of that name: a key of `executors`; else the configured one of that kind; else its default."""
        if name not in self._found:
            found = self._look_up(name)
            if found is None:
                return None
            self._found[name] = found
        return self._found[name]

    def _look_up(self, name: str) -> Executor | None:
        if name in self.executors:
            return self.executors[name]
        for configured in (self.job, self.default, *self.executors.values()):
            if configured is not None and configured.kind == name:
                return configured
        make = BUILT_IN.get(name) or self.plugins.get(name)
        return make() if make is not None else None

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
        seen: set[tuple[int, str, str]] = set()
        for node in graph.nodes:
            definitions = [node.definition] if node.definition is node.owner else [node.definition, node.owner]
            for definition in definitions:
                for key, value in (definition.metadata or {}).items():
                    if key not in (ASSET_KEY, NODE_KEY) or (id(definition), key, value) in seen:
                        continue
                    seen.add((id(definition), key, value))
                    if self.named(value) is None:
                        graph.complain(
                            f"metadata {key!r}: {value!r} is no executor",
                            definition,
                            self.names,
                            closest(value, self.names),
                        )


def _values(node: Node) -> list[str]:
    own = node.definition.metadata
    if node.definition is node.owner:
        value = own.get(ASSET_KEY) if own else None
        return [value] if value is not None else []
    found: list[str] = []
    for metadata in (own, node.owner.metadata):
        for key in (NODE_KEY, ASSET_KEY):
            if metadata and key in metadata:
                found.append(metadata[key])
    return found
