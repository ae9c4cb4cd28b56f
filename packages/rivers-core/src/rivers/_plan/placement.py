"""The placement of steps: the nearest executor of the step's metadata, its graph's, the job and the repository."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from rivers._definitions.asset import Asset, GraphAsset
from rivers._definitions.executor import BUILT_IN, DEFAULT_EXECUTOR, Executor
from rivers._definitions.names import closest
from rivers._definitions.settings import overrides_in
from rivers._definitions.task import BashTask, Task
from rivers._plan.graph import AssetGraph, Node
from rivers.exceptions import RiversError
from rivers.protocol.exception_text import describe_exception

__all__ = ["Placement"]

ASSET_KEY = "rivers/executor"
NODE_KEY = "rivers/node/executor"


@dataclass(slots=True)
class Placement:
    """The executors that a repository and a job offer, and the rule that picks one for each step.

    `plugins` are further kinds, each with a function that makes its default value.
    """

    job: Executor | None = None
    default: Executor | None = None
    executors: Mapping[str, Executor] = field(default_factory=dict)
    plugins: Mapping[str, Callable[[], Executor]] = field(default_factory=dict)
    _found: dict[str, Executor | None] = field(default_factory=dict)
    _broken: dict[str, str] = field(default_factory=dict)

    @property
    def base(self) -> Executor:
        """The executor of a step that names none."""
        return self.job or self.default or DEFAULT_EXECUTOR

    @property
    def configured(self) -> list[Executor]:
        """The executors that the job and the repository bring along, the nearest first."""
        return [one for one in (self.job, self.default, *self.executors.values()) if one is not None]

    @property
    def kinds(self) -> set[str]:
        """The kinds that have a name here: built in, installed or configured."""
        return {*BUILT_IN, *self.plugins, *(executor.kind for executor in self.configured)}

    @property
    def names(self) -> list[str]:
        """Every value that `rivers/executor` may have here."""
        return sorted({*self.kinds, *self.executors})

    def find(self, name: str) -> Executor | None:
        """Return the executor of a name, which is a kind or a key of `executors`; None when none can be used."""
        if name not in self._found:
            self._found[name] = self._look_up(name)
        return self._found[name]

    def _look_up(self, name: str) -> Executor | None:
        """Return the configured executor of a kind, the nearest first, else one with defaults; else by key."""
        # A key of `executors` may not be the name of another kind; `check` reports it.
        if name not in self.kinds:
            return self.executors.get(name)
        own = self.executors.get(name)
        for configured in (self.job, self.default, own, *self.executors.values()):
            if configured is not None and configured.kind == name:
                return configured
        try:
            return (BUILT_IN.get(name) or self.plugins[name])()
        except Exception as error:  # noqa: BLE001 - a third party's package may raise anything; it becomes a problem
            self._broken[name] = _with_hint(error) if isinstance(error, RiversError) else describe_exception(error)
            return None

    def executor_of(self, node: Node) -> Executor:
        """Return the executor of a step; an unknown name, which `check` reports, counts as not given."""
        for value in _values(node):
            found = self.find(value)
            if found is not None:
                return found
        return self.base

    def executor_of_graph(self, asset: GraphAsset, nodes: Sequence[Node]) -> Executor | None:
        """Return the executor that runs a whole graph asset as one step, or None when its tasks are steps of their own.

        It is the graph's `rivers/executor` where that is not inline and all its tasks resolve to inline executors.
        """
        name = (asset.metadata or {}).get(ASSET_KEY)
        executor = self.find(name) if name is not None else None
        if executor is None or executor.is_inline:
            return None
        return executor if all(self.executor_of(node).is_inline for node in nodes) else None

    def check(self, graph: AssetGraph) -> None:
        """Report every unknown executor name, each with the valid ones and the closest."""
        for name, executor in self.executors.items():
            if name in self.kinds and executor.kind != name:
                graph.add_problem(
                    f"invalid executors[{name!r}]={executor!r}: expected an executor of the kind {name!r}, not one of "
                    f"kind {executor.kind!r}; give it another name"
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
            if value is None or self.find(value) is not None:
                continue
            if value in self._broken:
                message = f"{task}metadata {key!r}: {value!r} cannot be used: {self._broken[value]}"
                graph.add_problem(message, owner, where=definition.where)
                continue
            message = f"{task}metadata {key!r}: {value!r} is no executor"
            graph.add_problem(message, owner, self.names, value, self.names, definition.where)
        self._check_overrides(graph, definition, owner, task)

    def _check_overrides(
        self, graph: AssetGraph, definition: Asset | Task | BashTask, owner: Asset | Task | BashTask, task: str
    ) -> None:
        """Report parameters of an executor that metadata cannot override, and kinds that look like a typo."""
        kinds = sorted(self.kinds)
        for kind in overrides_in(definition.metadata):
            # The package of another kind need not be installed here: the step runs elsewhere then.
            if kind not in kinds:
                if (near := closest(kind, kinds)) is not None:
                    message = f"{task}metadata 'rivers/{kind}/…': {kind!r} is no executor"
                    graph.add_problem(message, owner, kinds, kind, [near], definition.where)
                continue
            try:
                if (executor := self.find(kind)) is not None:
                    executor.for_step(definition.metadata)
            except RiversError as error:
                hint = f"; {error.hint}" if error.hint else ""
                graph.add_problem(f"{task}{error.message}{hint}", owner, where=definition.where)


def _with_hint(error: RiversError) -> str:
    return f"{error.message} ({error.hint})" if error.hint else error.message


def _values(node: Node) -> list[str]:
    """Return the executors named in a step's metadata and its graph's, the nearest first."""
    own = node.definition.metadata
    if isinstance(node.definition, Asset):
        return [own[ASSET_KEY]] if own and ASSET_KEY in own else []
    found: list[str] = []
    for metadata in (own, node.owner.metadata if node.owner is not node.definition else None):
        if metadata:
            found += [metadata[key] for key in (NODE_KEY, ASSET_KEY) if key in metadata]
    return found
