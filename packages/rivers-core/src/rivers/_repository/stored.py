"""Load stored values by the names of assets and tasks."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Any

from rivers._definitions.names import closest
from rivers._definitions.partitions import storage_key
from rivers._io.base import AtomicIOHandler, BaseIOHandler
from rivers._io.context import InputContext
from rivers._plan.graph import AssetGraph, Node, StoredOutput
from rivers._plan.partitions import partitions_at
from rivers.exceptions import ConfigurationError, NodeNotFoundError, ValueNotFoundError
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
        for output in node.outputs:
            found[id(output.io_handler)] = output.io_handler
        for source in node.inputs:
            if source.io_handler is not None:
                found[id(source.io_handler)] = source.io_handler
    return list(found.values())


def load(
    graph: AssetGraph, resources: Mapping[str, Any], name: str, type_hint: Any, partition: str | None = None
) -> Any:
    """Return the latest value of a name.

    It is a list of all elements for a task that is mapped or mapped over, and without a `partition` a dict of all that
    are stored for what has partitions.

    Raises:
        NodeNotFoundError: the repository has no asset or task of that name.
        ConfigurationError: it has no such partition.
        InputLoadError: it has no stored value, or one that cannot be read.
    """
    handler = handler_of(graph, resources, name)
    partitions = partitions_at(graph, name.partition("[")[0])
    if partitions is None:
        if partition is not None:
            raise ConfigurationError(
                f"invalid partition={partition!r:.80}: expected none, as {name!r} has no partitions"
            )
        return _load(graph, handler, name, type_hint, None)
    if partition is not None:
        return _load(graph, handler, name, type_hint, partitions.check(partition))
    values: dict[str, Any] = {}
    keys = partitions.keys()
    for key in keys:
        with contextlib.suppress(ValueNotFoundError, FileNotFoundError):
            values[key] = _load(graph, handler, name, type_hint, key)
    return values


def _load(graph: AssetGraph, handler: BaseIOHandler, name: str, type_hint: Any, partition: str | None) -> Any:
    key, bracket, rest = name.partition("[")
    metadata = getattr(graph.assets.get(key), "metadata", None)

    def load_key(storage: str) -> Any:
        # An empty reader and no run id ask for the latest value, of whatever run.
        return handler.load_input(InputContext(storage, "", metadata, type_hint, partition=partition))

    if key in graph.externals:
        return load_key(storage_key(name, partition))
    node, output = _output(graph, key)
    stored = storage_key(output.key, partition)
    if bracket or (output.mode is OutputMode.VALUE and node.mapped_over is None):
        return load_key(f"{stored}{bracket}{rest}")
    # Elements have storage keys of their own; there is no value that holds all of them.
    return [load_key(f"{stored}[{map_key}]") for map_key in _map_keys(graph, node, partition)]


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


def _map_keys(graph: AssetGraph, node: Node, partition: str | None) -> tuple[str, ...]:
    """Return the mapping keys of a fan-out, which its source has stored beside its elements."""
    while node.mapped_over is not None:
        node = graph.nodes[node.mapped_over]
    output = node.outputs[-1]
    if not isinstance(output.io_handler, AtomicIOHandler):
        raise NodeNotFoundError(
            f"the mapping keys of {node.key!r} are not stored with {type(output.io_handler).__name__}",
            hint=f"load one instance: {node.key}[key]",
        )
    stored = storage_key(output.key, partition)
    return tuple(output.io_handler.load_input(InputContext(f"{stored}[]", partition=partition)))
