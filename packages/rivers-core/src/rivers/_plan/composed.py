"""The nodes of a graph asset: one for each call of its composition."""

from __future__ import annotations

from collections.abc import Iterable

from rivers._definitions.arguments import short_repr
from rivers._definitions.calls import Argument, Call, Collected, Constant, Element, FromCall, Upstream
from rivers._definitions.graph import Composition
from rivers._definitions.signature import Parameter
from rivers._definitions.task import BashTask
from rivers._plan.graph import How, Node, Source, StoredOutput
from rivers._plan.upstreams import Upstreams
from rivers.protocol.spec import NodeKind, OutputMode

__all__ = ["ComposedNodes", "bash_sources"]


class ComposedNodes:
    """A builder that adds one composition to the graph."""

    def __init__(self, upstreams: Upstreams, composition: Composition) -> None:
        self._upstreams = upstreams
        self._graph = upstreams.graph
        self._composition = composition
        self._asset = asset = composition.asset
        self._nodes: list[Node] = []
        self._mapped = {call.mapped_over for call in composition.calls if call.mapped_over is not None}
        self._whole = {
            argument.call
            for call in composition.calls
            for argument in (*call.arguments.values(), *call.after)
            if isinstance(argument, FromCall)
        } | {composition.result}
        """The calls whose value is read as a whole, not by element."""
        self._own_handler = upstreams.handler(asset.node_io_handler, asset, upstreams.handlers[asset.name])
        assert asset.signature is not None
        self._sources = upstreams.sources(asset.signature, asset, asset.all_deps)

    def add(self) -> None:
        """Add the nodes and wire them."""
        asset, calls = self._asset, self._composition.calls
        for call in calls:
            self._nodes.append(self._node(call))
        self._graph.members[asset.name] = [node.index for node in self._nodes]
        self._graph.results[asset.name] = self._nodes[self._composition.result].index
        used = {
            argument.name
            for call in calls
            for argument in (*call.arguments.values(), *call.after)
            if isinstance(argument, Upstream)
        }
        unused = [source.key for name, source in self._sources.items() if source.how == "value" and name not in used]
        first = (*self._upstreams.order(asset.all_deps, asset), *unused)
        for call, node in zip(calls, self._nodes, strict=True):
            node.inputs = tuple(self._inputs(call))
            node.order = tuple(key for argument in call.after if (key := self._order_key(argument)) is not None)
            if call.mapped_over is not None:
                node.mapped_over = self._nodes[call.mapped_over].index
            elif not any(isinstance(a, FromCall | Collected) for a in (*call.arguments.values(), *call.after)):
                # The rest of the graph comes after these calls.
                node.order += first

    def _node(self, call: Call) -> Node:
        key = f"{self._asset.name}/{call.name}"
        kind = NodeKind.BASH if isinstance(call.task, BashTask) else NodeKind.TASK
        node = self._graph.add(key, kind, self._asset, call.task)
        node.call = call.index
        node.composition = self._asset.name
        node.max_concurrency = call.max_concurrency
        self._graph.store(node, self._outputs(call, key))
        signature = call.task.signature
        if signature is not None and (problem := signature.config_problem) is not None and call.name == call.task.name:
            self._graph.add_problem(f"task {call.name!r}: {problem}", self._asset, where=call.task.where)
        return node

    def _outputs(self, call: Call, key: str) -> Iterable[StoredOutput]:
        asset, task = self._asset, call.task
        handler = self._upstreams.handler(task.io_handler, task, self._own_handler)
        elements = call.index in self._mapped and call.mapped_over is None
        if call.index == self._composition.result:
            yield StoredOutput(key, asset.name, self._upstreams.handlers[asset.name], metadata=asset.metadata)
        elif call.index in self._whole or not elements:
            yield StoredOutput(key, key, handler, metadata=task.metadata)
        if elements:
            yield StoredOutput(key, key, handler, OutputMode.DYNAMIC, metadata=task.metadata)

    def _inputs(self, call: Call) -> Iterable[Source]:
        if isinstance(call.task, BashTask):
            yield from bash_sources(call.task)
        for parameter, argument in call.arguments.items():
            source = self._argument(parameter, argument)
            if source is not None:
                yield source
        if call.task.signature is not None:
            for declared in call.task.signature.parameters:
                if declared.name not in call.arguments:
                    source = self._by_name(declared, call)
                    if source is not None:
                        yield source

    def _by_name(self, parameter: Parameter, call: Call) -> Source | None:
        """Return the resource or asset that a parameter names which the composition does not set, or None."""
        if self._upstreams.knows(parameter.name):
            return self._upstreams.source(parameter, self._asset, None)
        if not parameter.has_default:
            self._graph.add_problem(
                f"task {call.name!r} gets no value for its parameter {parameter.name!r}, and no asset or resource has "
                "that name",
                self._asset,
                (),
                parameter.name,
                self._upstreams.resources,
            )
        return None

    def _argument(self, parameter: str, argument: Argument) -> Source | None:
        if isinstance(argument, Constant):
            return Source(parameter, "constant", value=argument.value)
        if isinstance(argument, Upstream):
            found = self._sources.get(argument.name)
            if found is None:
                # Reported already.
                return None
            return Source(parameter, found.how, found.key, found.io_handler, found.metadata, found.value)
        outputs = self._nodes[argument.call].outputs
        output = outputs[-1] if isinstance(argument, Element) else outputs[0]
        how: How = "value" if isinstance(argument, FromCall) else "element"
        ordered = False
        if isinstance(argument, Collected):
            how = "stream" if argument.stream else "collect"
            ordered = argument.ordered
        return Source(parameter, how, output.key, output.io_handler, output.metadata, ordered=ordered)

    def _order_key(self, argument: Argument) -> str | None:
        if isinstance(argument, Upstream):
            found = self._sources.get(argument.name)
            return found.key if found is not None and found.how == "value" else None
        if isinstance(argument, Constant):
            self._graph.add_problem(
                f"a bash task gets the constant {short_repr(argument.value)} by position, which takes steps that come "
                "first; give it by name, and it is an environment variable",
                self._asset,
            )
            return None
        return self._nodes[argument.call].outputs[0].key


def bash_sources(task: BashTask) -> tuple[Source, ...]:
    """Return the settings of a bash task as constants, so that a worker need not import the task."""
    return (
        Source("", "constant", "command", value=task.command),
        Source("", "constant", "env", value=task.env),
        Source("", "constant", "cwd", value=task.cwd),
    )
