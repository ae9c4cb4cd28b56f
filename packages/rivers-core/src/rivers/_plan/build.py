"""Build the asset graph of a repository: a node for each definition, or for each call of a composition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

from rivers._definitions.asset import Asset, ExternalAsset, GraphAsset, MultiAsset
from rivers._definitions.graph import Composition, compose
from rivers._definitions.task import BashTask, Task
from rivers._io.base import BaseIOHandler
from rivers._plan.composed import ComposedNodes, bash_sources
from rivers._plan.graph import AssetGraph, Source, StoredOutput
from rivers._plan.partitions import check_edges
from rivers._plan.upstreams import Definition, Upstreams
from rivers.exceptions import DefinitionError
from rivers.protocol.exception_text import describe_exception
from rivers.protocol.spec import NodeKind

__all__ = ["build_graph"]


def build_graph(
    assets: Sequence[Asset],
    tasks: Sequence[Task | BashTask],
    resources: Mapping[str, Any],
    default_io_handler: BaseIOHandler,
) -> AssetGraph:
    """Build the graph of a repository; mistakes are collected in its `problems` and raise nothing."""
    graph = AssetGraph()
    upstreams = Upstreams(graph, resources, default_io_handler)
    known = [definition for definition in (*assets, *tasks) if upstreams.register(definition)]
    compositions = {
        id(definition): composition
        for definition in known
        if isinstance(definition, GraphAsset) and (composition := _compose(definition, upstreams)) is not None
    }
    inner = {id(call.task) for composition in compositions.values() for call in composition.calls}
    for definition in known:
        if isinstance(definition, GraphAsset):
            if id(definition) in compositions:
                ComposedNodes(upstreams, compositions[id(definition)]).add()
        elif not isinstance(definition, ExternalAsset):
            _add_single(definition, upstreams, id(definition) in inner)
    graph.link()
    check_edges(graph)
    return graph


def _compose(asset: GraphAsset, upstreams: Upstreams) -> Composition | None:
    try:
        return compose(asset, upstreams.knows)
    except DefinitionError as error:
        hint = f" ({error.hint})" if error.hint else ""
        upstreams.graph.add_problem(f"{error.message}{hint}{_location(error.__traceback__)}", asset)
    except Exception as error:  # noqa: BLE001 - a user's composition may raise anything; it is one of the problems
        upstreams.graph.add_problem(
            f"composing it raised {describe_exception(error)}{_location(error.__traceback__)}; a composition only "
            "wires tasks, and values are known within tasks",
            asset,
        )
    return None


def _location(trace: TracebackType | None) -> str:
    """Return the line of the user's composition that an error came from, as a part of a message."""
    found = ""
    while trace is not None:
        code = trace.tb_frame.f_code
        if str(trace.tb_frame.f_globals.get("__name__")).partition(".")[0] != "rivers":
            found = f", at {code.co_filename}:{trace.tb_lineno}"
        trace = trace.tb_next
    return found


def _add_single(definition: Definition, upstreams: Upstreams, inner: bool) -> None:
    """Add the node of an asset, a multi-asset or a task of its own.

    A task that graph assets use (`inner`) may be unable to run by itself, and does so only when it is selected.
    """
    graph = upstreams.graph
    signature = definition.signature
    parameters = signature.parameters if inner and signature is not None else ()
    if not all(parameter.has_default or upstreams.knows(parameter.name) for parameter in parameters):
        return
    node = graph.add(definition.name, _kind(definition), definition, definition)
    if inner:
        graph.aside.add(node.index)
    outputs = [(definition.name, definition.metadata)]
    if isinstance(definition, MultiAsset):
        outputs = [(output.name, output.metadata) for output in definition.output_defs]
    graph.store(
        node, [StoredOutput(name, name, upstreams.handlers[name], metadata=metadata) for name, metadata in outputs]
    )
    graph.results[definition.name] = node.index
    deps = definition.all_deps if isinstance(definition, Asset) else ()
    sources: Sequence[Source] = ()
    if isinstance(definition, BashTask):
        sources = bash_sources(definition)
    elif signature is not None:
        sources = tuple(upstreams.sources(signature, definition, deps).values())
        if (problem := signature.config_problem) is not None:
            graph.add_problem(problem, definition)
    node.inputs = tuple(sources)
    if deps:
        node.order = upstreams.order(deps, definition)


def _kind(definition: Definition) -> NodeKind:
    if isinstance(definition, MultiAsset):
        return NodeKind.MULTI
    if isinstance(definition, Task):
        return NodeKind.TASK
    return NodeKind.BASH if isinstance(definition, BashTask) else NodeKind.ASSET
