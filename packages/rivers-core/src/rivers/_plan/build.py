"""From definitions to the asset graph: which parameter is an upstream, which a resource, who stores what."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rivers._definitions.asset import Asset, ExternalAsset, GraphAsset, MultiAsset
from rivers._definitions.graph import Call, Collected, Composition, Constant, Element, FromCall, Upstream, compose
from rivers._definitions.names import closest
from rivers._definitions.signature import Parameter
from rivers._definitions.task import BashTask, Task
from rivers._io.base import BaseIOHandler
from rivers._plan.graph import AssetGraph, Node, NodeOutput, Source
from rivers.exceptions import DefinitionError
from rivers.protocol.spec import NodeKind, OutputMode

__all__ = ["build_graph"]

Definition = Asset | Task | BashTask


def build_graph(
    assets: Sequence[Asset],
    tasks: Sequence[Task | BashTask],
    resources: Mapping[str, Any],
    default_io_handler: BaseIOHandler,
) -> AssetGraph:
    """Build the graph of a repository; what is wrong is in its `problems`, and nothing is raised for it."""
    return _Builder(resources, default_io_handler).build([*assets, *tasks])


class _Builder:
    def __init__(self, resources: Mapping[str, Any], default_io_handler: BaseIOHandler) -> None:
        self.graph = AssetGraph()
        self.resources = resources
        self.default = default_io_handler
        self.handlers: dict[str, BaseIOHandler] = {}

    def build(self, definitions: Sequence[Definition]) -> AssetGraph:
        known = [definition for definition in definitions if self._register(definition)]
        for definition in known:
            if isinstance(definition, GraphAsset):
                self._add_graph(definition)
            elif not isinstance(definition, ExternalAsset):
                self._add_single(definition)
        self.graph.link()
        return self.graph

    def _register(self, definition: Definition) -> bool:
        """Take the definition's names, and its outputs' handlers, so that others may refer to them in any order."""
        graph = self.graph
        if not definition.name:
            graph.complain(f"{definition!r} has neither a name nor a function", definition)
            return False
        if getattr(definition, "_needs_function", False) and definition.function is None:
            graph.complain("it has no function; it is a decorator that decorated nothing", definition)
            return False
        names = definition.output_names if isinstance(definition, Asset) else (definition.name,)
        if isinstance(definition, MultiAsset) and definition.name not in names:
            names = (*names, definition.name)
        for name in names:
            first = graph.assets.get(name)
            if first is not None:
                graph.complain(f"the name {name!r} is taken already, by {first!r} ({first.where})", definition)
                return False
        for name in names:
            graph.assets[name] = definition
        if isinstance(definition, ExternalAsset):
            graph.externals[definition.name] = definition
        own = self._handler(definition.io_handler, definition, None)
        if isinstance(definition, MultiAsset):
            for output in definition.output_defs:
                self.handlers[output.name] = self._handler(output.io_handler, definition, own)
        else:
            self.handlers[definition.name] = own
        return True

    def _handler(
        self, given: BaseIOHandler | str | None, definition: Definition, fallback: BaseIOHandler | None
    ) -> BaseIOHandler:
        if given is None:
            return fallback or self.default
        if isinstance(given, BaseIOHandler):
            return given
        found = self.resources.get(given)
        if isinstance(found, BaseIOHandler):
            return found
        handlers = [name for name, value in self.resources.items() if isinstance(value, BaseIOHandler)]
        what = "is no IO handler" if given in self.resources else "is no resource of the repository"
        self.graph.complain(f"io_handler={given!r} {what}", definition, handlers, closest(given, handlers))
        return self.default

    def _add(self, key: str, kind: NodeKind, owner: Definition, definition: Definition) -> Node:
        node = Node(len(self.graph.nodes), key, kind, owner, definition)
        self.graph.nodes.append(node)
        return node

    def _add_single(self, definition: Definition) -> None:
        kind = NodeKind.ASSET
        if isinstance(definition, MultiAsset):
            kind = NodeKind.MULTI
        elif isinstance(definition, Task):
            kind = NodeKind.TASK
        elif isinstance(definition, BashTask):
            kind = NodeKind.BASH
        node = self._add(definition.name, kind, definition, definition)
        deps = definition.deps if isinstance(definition, Asset) else ()
        outputs: Iterable[tuple[str, dict[str, str] | None]] = ((definition.name, definition.metadata),)
        if isinstance(definition, MultiAsset):
            outputs = ((output.name, output.metadata) for output in definition.output_defs)
            deps = (*deps, *(dep for output in definition.output_defs for dep in output.deps))
        node.outputs = tuple(
            NodeOutput(name, name, self.handlers[name], metadata=metadata) for name, metadata in outputs
        )
        for output in node.outputs:
            self.graph.producer[output.key] = node.index
        self.graph.results[definition.name] = node.index
        loaded = {dep.name: dep for dep in deps if dep.is_input}
        if isinstance(definition, BashTask):
            node.inputs = _bash_sources(definition)
        elif definition.signature is not None:
            found: list[Source] = []
            for parameter in definition.signature.parameters:
                dep = loaded.pop(parameter.name, None)
                override = (
                    self._handler(dep.io_handler, definition, None) if dep and dep.io_handler is not None else None
                )
                source = self._named(parameter, parameter.name, definition, override, dep.metadata if dep else None)
                if source is not None:
                    found.append(source)
            node.inputs = tuple(found)
        for name in loaded:
            names = [p.name for p in definition.signature.parameters] if definition.signature else []
            self.graph.complain(
                f"AssetDef.input({name!r}): its function has no parameter of that name",
                definition,
                names,
                closest(name, names),
            )
        if deps:
            node.order = tuple(dep.name for dep in deps if not dep.is_input and self._exists(dep.name, definition))

    def _exists(self, name: str, definition: Definition) -> bool:
        if name in self.graph.assets:
            return True
        self.graph.complain(
            f"it comes after {name!r}, which is no asset of the repository",
            definition,
            (),
            closest(name, self.graph.assets),
        )
        return False

    def _named(
        self,
        parameter: Parameter,
        name: str,
        definition: Definition,
        override: BaseIOHandler | None = None,
        metadata: dict[str, str] | None = None,
    ) -> Source | None:
        """The upstream or resource that a parameter names; None leaves it at its default."""
        upstream = self.graph.assets.get(name)
        if upstream is not None:
            if name in self.resources:
                self.graph.complain(f"parameter {name!r} could be the asset or the resource of that name", definition)
            if isinstance(upstream, MultiAsset) and name not in self.handlers:
                self.graph.complain(
                    f"parameter {name!r} names a multi-asset, which has no value of its own",
                    definition,
                    upstream.output_names,
                )
                return None
            return Source(
                parameter.name,
                "value",
                name,
                override or self.handlers[name],
                metadata or getattr(upstream, "metadata", None),
            )
        if name in self.resources:
            return Source(parameter.name, "resource", name, value=self.resources[name])
        if not parameter.has_default:
            candidates = [*self.graph.assets, *self.resources]
            self.graph.complain(
                f"parameter {name!r} is neither an asset nor a resource of the repository",
                definition,
                (),
                closest(name, candidates),
            )
        return None

    # ── graph assets ──

    def _add_graph(self, asset: GraphAsset) -> None:
        try:
            composition = compose(asset)
        except DefinitionError as error:
            self.graph.complain(error.message + (f" ({error.hint})" if error.hint else ""), asset)
            return
        except Exception as error:  # noqa: BLE001 - a user's composition may raise anything; it is told like other mistakes
            self.graph.complain(f"composing it raised {type(error).__name__}: {error}", asset)
            return
        nodes: list[Node] = []
        mapped = {call.mapped_over for call in composition.calls if call.mapped_over is not None}
        for call in composition.calls:
            kind = NodeKind.BASH if isinstance(call.task, BashTask) else NodeKind.TASK
            node = self._add(f"{asset.name}/{call.name}", kind, asset, call.task)
            node.call = call.index
            node.composition = asset.name
            node.max_concurrency = call.max_concurrency
            nodes.append(node)
            node.outputs = self._call_outputs(composition, call, mapped)
            for output in node.outputs:
                self.graph.producer[output.key] = node.index
        for call, node in zip(composition.calls, nodes, strict=True):
            if call.mapped_over is not None:
                node.mapped_over = nodes[call.mapped_over].index
            node.inputs = self._call_inputs(composition, call, nodes)
            node.order = tuple(
                key for argument in call.after if (key := self._order_key(argument, nodes, asset)) is not None
            ) + tuple(dep.name for dep in asset.deps if call.index == 0 and self._exists(dep.name, asset))
        self.graph.results[asset.name] = nodes[composition.result].index

    def _call_outputs(self, composition: Composition, call: Call, mapped: set[int]) -> tuple[NodeOutput, ...]:
        asset = composition.asset
        key = f"{asset.name}/{call.name}"
        own = self._handler(asset.node_io_handler, asset, self.handlers[asset.name])
        handler = self._handler(call.task.io_handler, call.task, own)
        is_result = call.index == composition.result
        read_whole = is_result or any(
            isinstance(argument, FromCall) and argument.call == call.index
            for other in composition.calls
            for argument in (*other.arguments.values(), *other.after)
        )
        outputs: list[NodeOutput] = []
        if is_result:
            outputs.append(NodeOutput(key, asset.name, self.handlers[asset.name], metadata=asset.metadata))
        elif read_whole or call.index not in mapped or call.mapped_over is not None:
            outputs.append(NodeOutput(key, key, handler, metadata=call.task.metadata))
        if call.index in mapped and call.mapped_over is None:
            outputs.append(NodeOutput(key, key, handler, OutputMode.DYNAMIC, metadata=call.task.metadata))
        return tuple(outputs)

    def _call_inputs(self, composition: Composition, call: Call, nodes: Sequence[Node]) -> tuple[Source, ...]:
        found: list[Source] = []
        asset = composition.asset
        if isinstance(call.task, BashTask):
            found.extend(_bash_sources(call.task))
        for parameter, argument in call.arguments.items():
            source = self._argument(parameter, argument, asset, nodes, composition)
            if source is not None:
                found.append(source)
        if call.task.signature is not None:
            for declared in call.task.signature.parameters:
                if declared.name not in call.arguments:
                    source = self._own(declared, call, asset)
                    if source is not None:
                        found.append(source)
        return tuple(found)

    def _own(self, parameter: Parameter, call: Call, asset: GraphAsset) -> Source | None:
        """A parameter that the composition does not give: a resource, or its default."""
        if parameter.name in self.resources:
            return Source(parameter.name, "resource", parameter.name, value=self.resources[parameter.name])
        if not parameter.has_default:
            self.graph.complain(
                f"task {call.name!r} is not given its parameter {parameter.name!r}, and no resource has that name",
                asset,
                (),
                closest(parameter.name, self.resources),
            )
        return None

    def _argument(
        self, parameter: str, argument: Any, asset: GraphAsset, nodes: Sequence[Node], composition: Composition
    ) -> Source | None:
        if isinstance(argument, Constant):
            return Source(parameter, "constant", value=argument.value)
        if isinstance(argument, Upstream):
            assert asset.signature is not None
            declared = next(p for p in asset.signature.parameters if p.name == argument.name)
            found = self._named(declared, argument.name, asset)
            if found is not None:
                found.parameter = parameter
            elif declared.has_default:
                self.graph.complain(
                    f"parameter {argument.name!r} is no asset or resource, and a composition cannot use its default",
                    asset,
                )
            return found
        node = nodes[argument.call]
        if isinstance(argument, FromCall):
            output = node.outputs[0]
            return Source(parameter, "value", output.key, output.io_handler, output.metadata)
        if isinstance(argument, Element):
            output = node.outputs[-1]
            return Source(parameter, "element", output.key, output.io_handler, output.metadata)
        assert isinstance(argument, Collected)
        output = node.outputs[0]
        how: Any = "stream" if argument.stream else "collect"
        return Source(parameter, how, output.key, output.io_handler, output.metadata, ordered=argument.ordered)

    def _order_key(self, argument: Any, nodes: Sequence[Node], asset: GraphAsset) -> str | None:
        if isinstance(argument, Upstream):
            return argument.name if self._exists(argument.name, asset) else None
        if isinstance(argument, FromCall | Element | Collected):
            return nodes[argument.call].outputs[0].key
        return None


def _bash_sources(task: BashTask) -> tuple[Source, ...]:
    """A bash task's own settings travel as constants: nothing of it needs to be imported."""
    return (
        Source("", "constant", "command", value=task.command),
        Source("", "constant", "env", value=task.env),
        Source("", "constant", "cwd", value=task.cwd),
    )
