"""Look-up of names in a repository: assets, resources and IO handlers of parameters and outputs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from typing import Any, TypeAlias

from rivers._definitions.asset import Asset, ExternalAsset, MultiAsset
from rivers._definitions.output import DepDef
from rivers._definitions.signature import Parameter, Signature
from rivers._definitions.task import BashTask, Task
from rivers._io.base import BaseIOHandler
from rivers._plan.graph import AssetGraph, Source

__all__ = ["Definition", "Upstreams"]

Definition: TypeAlias = Asset | Task | BashTask


class Upstreams:
    """The names of a repository's assets, tasks and resources; unknown ones become problems of the graph."""

    def __init__(self, graph: AssetGraph, resources: Mapping[str, Any], default: BaseIOHandler) -> None:
        self.graph = graph
        self.resources = resources
        self.handlers: dict[str, BaseIOHandler] = {}
        self._default = default
        self._metadata: dict[str, dict[str, str] | None] = {}
        self._reported: set[tuple[int, str]] = set()

    def register(self, definition: Definition) -> bool:
        """Register the names of a definition and the handlers of its outputs; return False if it has a problem."""
        graph = self.graph
        if not definition.name:
            graph.add_problem(f"{definition!r} has neither a name nor a function", definition)
            return False
        needs_function = isinstance(definition, Task) or getattr(definition, "_needs_function", False)
        if needs_function and definition.function is None:
            graph.add_problem("it has no function; it is a decorator that decorated nothing", definition)
            return False
        names = definition.output_names if isinstance(definition, Asset) else (definition.name,)
        if isinstance(definition, MultiAsset) and definition.name not in names:
            names = (*names, definition.name)
        for name in names:
            first = graph.assets.get(name)
            if first is definition:
                graph.add_problem("it is listed twice", definition)
                return False
            if first is not None:
                graph.add_problem(f"the name {name!r} is taken already, by {first!r} ({first.where})", definition)
                return False
        for name in names:
            graph.assets[name] = definition
        if isinstance(definition, ExternalAsset):
            graph.externals[definition.name] = definition
        own = self.handler(definition.io_handler, definition, None)
        if isinstance(definition, MultiAsset):
            for output in definition.output_defs:
                self.handlers[output.name] = self.handler(output.io_handler, definition, own)
                self._metadata[output.name] = output.metadata
        else:
            self.handlers[definition.name] = own
            self._metadata[definition.name] = definition.metadata
        return True

    def handler(
        self, given: BaseIOHandler | str | None, definition: Definition, fallback: BaseIOHandler | None
    ) -> BaseIOHandler:
        """Return the IO handler for `given`: an instance, the name of a resource, or None for the fallback."""
        if given is None:
            return fallback or self._default
        if isinstance(given, BaseIOHandler):
            return given
        found = self.resources.get(given)
        if isinstance(found, BaseIOHandler):
            return found
        if (id(definition), given) not in self._reported:
            self._reported.add((id(definition), given))
            handlers = [name for name, value in self.resources.items() if isinstance(value, BaseIOHandler)]
            what = "is no IO handler" if given in self.resources else "is no resource of the repository"
            self.graph.add_problem(f"io_handler={given!r} {what}", definition, handlers, given, handlers)
        return self._default

    def knows(self, name: str) -> bool:
        """Return whether an asset, a task or a resource has this name."""
        return name in self.graph.assets or name in self.resources

    def sources(self, signature: Signature, definition: Definition, deps: Sequence[DepDef]) -> dict[str, Source]:
        """Return the upstream or resource of each parameter by name, without those that keep their default.

        `AssetDef.input` among the deps says with which IO handler and metadata an upstream is loaded.
        """
        inputs = {dep.name: dep for dep in deps if dep.is_input}
        found: dict[str, Source] = {}
        for parameter in signature.parameters:
            source = self.source(parameter, definition, inputs.pop(parameter.name, None), signature)
            if source is not None:
                found[parameter.name] = source
        names = [parameter.name for parameter in signature.parameters]
        for name in inputs:
            self.graph.add_problem(
                f"AssetDef.input({name!r}): its function has no parameter of that name", definition, names, name, names
            )
        return found

    def source(
        self, parameter: Parameter, definition: Definition, dep: DepDef | None, signature: Signature | None = None
    ) -> Source | None:
        """Return the upstream or resource that a parameter names, or None if it keeps its default."""
        name = parameter.name
        upstream = self.graph.assets.get(name)
        if upstream is None and dep is not None:
            self.graph.add_problem(
                f"AssetDef.input({name!r}) is no asset of the repository", definition, (), name, self.graph.assets
            )
            return None
        if upstream is None and name in self.resources:
            return Source(name, "resource", name, value=self.resources[name])
        if upstream is None:
            if not parameter.has_default:
                self._add_parameter_problem(name, definition, signature)
            return None
        if name in self.resources:
            self.graph.add_problem(
                f"parameter {name!r} could be the asset or the resource of that name; rename one of them", definition
            )
        if self._is_own(name, definition):
            self.graph.add_problem(f"it needs itself, by its parameter {name!r}", definition)
            return None
        if name not in self.handlers:
            self.graph.add_problem(
                f"parameter {name!r} names a multi-asset, which has no value of its own; name one of its outputs",
                definition,
                upstream.output_names if isinstance(upstream, Asset) else (),
            )
            return None
        handler = self.handlers[name]
        metadata = self._metadata[name]
        if dep is not None:
            handler = self.handler(dep.io_handler, definition, handler)
            metadata = dep.metadata or metadata
        return Source(name, "value", name, handler, metadata)

    def order(self, deps: Iterable[DepDef], definition: Definition) -> tuple[str, ...]:
        """Return the storage keys of `AssetDef.dep`s; the name of a multi-asset means its first output."""
        found: dict[str, None] = {}
        for dep in deps:
            if dep.is_input:
                continue
            upstream = self.graph.assets.get(dep.name)
            if upstream is None:
                message = f"it comes after {dep.name!r}, which is no asset of the repository"
                self.graph.add_problem(message, definition, (), dep.name, self.graph.assets)
            elif self._is_own(dep.name, definition):
                self.graph.add_problem(f"it comes after itself, by AssetDef.dep({dep.name!r})", definition)
            elif isinstance(upstream, MultiAsset):
                found[upstream.output_names[0]] = None
            else:
                found[dep.name] = None
        return tuple(found)

    def _is_own(self, name: str, definition: Definition) -> bool:
        return self.graph.assets.get(name) is definition

    def _add_parameter_problem(self, name: str, definition: Definition, signature: Signature | None) -> None:
        message = f"parameter {name!r} is neither an asset nor a resource of the repository"
        if name == "context" or (signature is not None and signature.is_context_type(name)):
            message = f"parameter {name!r} asks for a context, which is given to the first parameter only"
        elif name in {"self", "cls"}:
            message = f"{message}; make the asset of a bound method, outside the class: rs.Asset(thing.method)"
        self.graph.add_problem(message, definition, (), name, chain(self.graph.assets, self.resources))
