"""Partitions in the graph: which nodes have them, which of their upstreams fit, and the graph of one partition."""

from __future__ import annotations

import typing
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import replace

from rivers._definitions.asset import Asset
from rivers._definitions.partitions import Partitions, storage_key
from rivers._plan.graph import AssetGraph, Node, Source
from rivers.exceptions import ConfigurationError

__all__ = [
    "bind_partition",
    "check_edges",
    "check_partition",
    "loaded_keys",
    "partitions_at",
    "partitions_of",
    "partitions_of_run",
]

MOST_NAMES = 5


def partitions_of(node: Node) -> Partitions | None:
    """Return the partitions of a node: those of its asset."""
    return node.owner.partitions if isinstance(node.owner, Asset) else None


def partitions_at(graph: AssetGraph, key: str) -> Partitions | None:
    """Return the partitions of the value with this storage key, in a graph that is bound to none."""
    index = graph.producer.get(key)
    if index is not None:
        return partitions_of(graph.nodes[index])
    external = graph.externals.get(key)
    return external.partitions if external is not None else None


def check_edges(graph: AssetGraph) -> None:
    """Make inputs that load all partitions of an upstream such, and report upstreams with other partitions."""
    assets = graph.assets.values()
    graph.has_partitions = any(isinstance(asset, Asset) and asset.partitions is not None for asset in assets)
    if not graph.has_partitions:
        return
    for node in graph.nodes:
        own = partitions_of(node)
        for source in node.inputs:
            theirs = _partitions_behind(graph, source)
            if theirs is None:
                continue
            if own is None:
                source.how, source.value = "partitions", theirs
                _check_hint(graph, node, source)
            elif own != theirs:
                _add_mismatch(graph, node, source.key, own, theirs)
        for key in node.order:
            behind = partitions_at(graph, key)
            if own is not None and behind is not None and own != behind:
                _add_mismatch(graph, node, key, own, behind)
    _check_names(graph)


def partitions_of_run(graph: AssetGraph, nodes: Iterable[int]) -> Partitions | None:
    """Return the partitions that these nodes have, None if they have none.

    Raises:
        ConfigurationError: they have different ones.
    """
    found = _group_names(graph, nodes)
    if len(found) > 1:
        (partitions, names), (other, theirs), *_ = found.items()
        raise ConfigurationError(
            f"a run has one partition, but {partitions!r} of {_listed(names)} is not {other!r} of {_listed(theirs)}",
            hint="run them one after the other, each with its selection",
        )
    return next(iter(found), None)


def check_partition(graph: AssetGraph, nodes: Iterable[int], partition: object) -> str | None:
    """Return the partition of a run of these nodes, None if they have none.

    Raises:
        ConfigurationError: they have partitions, and none, or an unknown one, was given; or the other way round; or
            they have different ones.
    """
    partitions = partitions_of_run(graph, nodes)
    if partitions is None:
        if partition is None:
            return None
        raise ConfigurationError(
            f"invalid partition={partition!r:.80}: expected none, as no asset of the run has partitions",
            hint="give the asset @rs.Asset(partitions=...), or leave it out",
        )
    if partition is None:
        keys = partitions.keys()
        names = _group_names(graph, nodes)[partitions]
        raise ConfigurationError(
            f"{_listed(names)} {'need' if len(names) > 1 else 'needs'} a partition: {partitions!r}",
            hint=f"give the run a partition, {f'such as {keys[-1]!r}' if keys else 'once there is one'}",
        )
    return partitions.check(partition)


def _group_names(graph: AssetGraph, nodes: Iterable[int]) -> dict[Partitions, list[str]]:
    """Return the names of the partitioned assets of these nodes by their partitions."""
    found: dict[Partitions, dict[str, None]] = {}
    for index in sorted(nodes):
        partitions = partitions_of(graph.nodes[index])
        if partitions is not None:
            found.setdefault(partitions, {})[graph.nodes[index].owner.name] = None
    return {partitions: list(names) for partitions, names in found.items()}


def bind_partition(graph: AssetGraph, partition: str) -> AssetGraph:
    """Return the graph with the storage keys of one partition; what has no partitions stays as it is."""
    return graph.with_nodes([_bind(graph, node, partition) for node in graph.nodes])


def loaded_keys(source: Source) -> tuple[str, ...]:
    """Return the storage keys of the values that a parameter may load."""
    if source.how != "partitions":
        return (source.key,)
    partitions: Partitions = source.value
    keys = partitions.keys()
    return tuple([storage_key(source.key, key) for key in keys])


def _bind(graph: AssetGraph, node: Node, partition: str) -> Node:
    is_own = partitions_of(node) is not None
    inputs = tuple([_bind_source(graph, source, partition) for source in node.inputs])
    # What has no partitions itself comes after all of them.
    order = tuple([_bind_key(graph, key, partition) for key in node.order]) if is_own else node.order
    if not is_own and all(map(lambda new, old: new is old, inputs, node.inputs)):
        return node
    bound = copy(node)
    bound.inputs, bound.order = inputs, order
    if is_own:
        bound.partition = partition
        bound.outputs = tuple([replace(one, key=storage_key(one.key, partition)) for one in node.outputs])
    return bound


def _bind_source(graph: AssetGraph, source: Source, partition: str) -> Source:
    if _partitions_behind(graph, source) is None:
        return source
    bound = copy(source)
    bound.partition = partition
    if source.how != "partitions":
        bound.key = storage_key(source.key, partition)
    return bound


def _bind_key(graph: AssetGraph, key: str, partition: str) -> str:
    return key if partitions_at(graph, key) is None else storage_key(key, partition)


def _partitions_behind(graph: AssetGraph, source: Source) -> Partitions | None:
    """Return the partitions of what a parameter loads."""
    return None if source.how in {"resource", "constant"} else partitions_at(graph, source.key)


def _check_hint(graph: AssetGraph, node: Node, source: Source) -> None:
    signature = node.definition.signature
    hint = signature.hints.get(source.parameter) if signature is not None else None
    kind = typing.get_origin(hint) or hint
    if hint is None or kind in {typing.Any, object, dict}:
        return
    if not (isinstance(kind, type) and issubclass(dict, kind) and issubclass(kind, Mapping)):
        graph.add_problem(
            f"parameter {source.parameter!r} gets a dict with the values of all partitions of {source.key!r}, but is "
            f"annotated as {_name(hint)}; write dict[str, {_name(hint)}], or give the asset the partitions of "
            f"{source.key!r}",
            node.owner,
        )


def _name(hint: object) -> str:
    return hint.__name__ if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def _add_mismatch(graph: AssetGraph, node: Node, key: str, own: Partitions, theirs: Partitions) -> None:
    graph.add_problem(
        f"it has {own!r}, but its upstream {key!r} has {theirs!r}; both must have the same, or one of them none",
        node.owner,
    )


def _check_names(graph: AssetGraph) -> None:
    """Report names that look like the storage key of another asset's partition."""
    for key in (*graph.producer, *graph.externals):
        for at, character in enumerate(key):
            if character == "@" and partitions_at(graph, key[:at]) is not None:
                owner = graph.externals.get(key) or graph.nodes[graph.producer[key]].owner
                graph.add_problem(f"its value {key!r} has the name of a partition of {key[:at]!r}; rename it", owner)


def _listed(names: list[str]) -> str:
    shown = ", ".join(map(repr, names[:MOST_NAMES]))
    return f"{shown} and {len(names) - MOST_NAMES} more" if len(names) > MOST_NAMES else shown
