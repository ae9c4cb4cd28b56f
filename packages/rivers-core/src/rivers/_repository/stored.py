"""Load stored values by the names of assets and tasks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rivers._definitions.names import closest
from rivers._io.base import AtomicIOHandler, BaseIOHandler
from rivers._io.context import InputContext
from rivers._plan.graph import AssetGraph, Node, StoredOutput
from rivers.exceptions import NodeNotFoundError
from rivers.protocol.spec import OutputMode

__all__ = ["handler_of", "handlers_of", "load"]


def handler_of(graph: AssetGraph, resources: Mapping[str, Any], name: str) -> BaseIOHandler:
    """Return the IO handler of a name.

    Raises:
        NodeNotFoundError: the repository has no asset or task of that name.
    """
    key = name.partition("[")[0]
    if key in graph.externals:
        handler = graph.externals[key].io_handler
        return resources[handler] if isinstance(handler, str) else handler  # type: ignore[return-value]  # `resolve()` has checked it
    return _output(graph, key)[1].io_handler


def handlers_of(graph: AssetGraph) -> list[BaseIOHandler]:
    """Return every IO handler of the graph's outputs and inputs once."""
    found: dict[int, BaseIOHandler] = {}
    for node in graph.nodes:
        for handler in (
            *(output.io_handler for output in node.outputs),
            *(source.io_handler for source in node.inputs if source.io_handler is not None),
        ):
            found[id(handler)] = handler
    return list(found.values())


def load(graph: AssetGraph, resources: Mapping[str, Any], name: str, type_hint: Any) -> Any:
    """Return the latest value of a name; a list of all elements for a task that is mapped or mapped over.

    Raises:
        NodeNotFoundError: the repository has no asset or task of that name.
        InputLoadError: it has no stored value, or one that cannot be read.
    """
    handler = handler_of(graph, resources, name)
    key, bracket, rest = name.partition("[")
    definition = graph.assets.get(key)
    metadata = getattr(definition, "metadata", None)
    if key in graph.externals:
        # An empty run id asks for the latest value, of whatever run.
        return handler.load_input(InputContext(name, "", metadata, type_hint))
    node, output = _output(graph, key)
    storage = f"{output.key}{bracket}{rest}"
    if bracket or (output.mode is OutputMode.VALUE and node.mapped_over is None):
        return handler.load_input(InputContext(storage, "", metadata, type_hint))
    return [
        handler.load_input(InputContext(f"{output.key}[{map_key}]", "", metadata, type_hint))
        # Elements have storage keys of their own; there is no value that holds all of them.
        for map_key in _map_keys(graph, node)
    ]


def _output(graph: AssetGraph, key: str) -> tuple[Node, StoredOutput]:
    index = graph.producer.get(key)
    if index is not None:
        node = graph.nodes[index]
        return node, next(output for output in node.outputs if output.key == key)
    # The task that makes a graph asset's value stores it under the asset's name.
    for node in graph.nodes:
        if node.key == key and len(node.outputs) == 1:
            return node, node.outputs[0]
    near = closest(key, [*graph.producer, *graph.externals])
    raise NodeNotFoundError(f"no node {key!r} in the repository" + (f"; did you mean {near!r}?" if near else ""))


def _map_keys(graph: AssetGraph, node: Node) -> tuple[str, ...]:
    """Return the mapping keys of a fan-out, which its source has stored beside its elements."""
    while node.mapped_over is not None:
        node = graph.nodes[node.mapped_over]
    output = node.outputs[-1]
    if not isinstance(output.io_handler, AtomicIOHandler):
        raise NodeNotFoundError(
            f"the mapping keys of {node.key!r} are not stored with {type(output.io_handler).__name__}",
            hint=f"load one instance: {node.key}[key]",
        )
    return tuple(output.io_handler.load_input(InputContext(f"{output.key}[]")))
