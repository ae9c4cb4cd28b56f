"""Limits on what a spec may make a worker run, for a worker that is started with a list of modules.

A spec names modules, attributes and commands. The list holds where the walk ends, not only where it begins: a module's
namespace is full of what it imports.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from types import FunctionType, MethodType, ModuleType
from typing import Any

import msgspec

from rivers._definitions.asset import Asset, GraphAsset
from rivers._definitions.calls import Call, Constant
from rivers._definitions.graph import compose, each, gather
from rivers._definitions.resource import Resource
from rivers._definitions.task import BashTask, Task
from rivers._io.base import BaseIOHandler
from rivers._io.memory import InMemoryIOHandler
from rivers._io.pickle import PickleIOHandler
from rivers._io.shared.default_store import DefaultStore
from rivers.exceptions import RefResolutionError
from rivers.protocol.ref import ImportRef, Ref
from rivers.protocol.spec import InnerStep, Input, LiteralInput, NodeKind, StepSpec

__all__ = ["AllowList"]

# The objects of rivers itself that specs name; every other one of its modules is as foreign as `os`.
_OWN: tuple[Any, ...] = (PickleIOHandler, InMemoryIOHandler, DefaultStore, each, gather)
_OWN_MODULES = {"rivers", "rivers.io_handlers", *(found.__module__ for found in _OWN)}
# The inputs of a bash node that are settings of its task; the others become environment variables.
_SETTINGS = ("command", "env", "cwd")
# A `__wrapped__` that leads back to itself must not hang the worker.
_MOST_WRAPPERS = 100


class AllowList:
    """The modules whose definitions a worker runs; `modules` are names, each with the modules below it."""

    def __init__(self, modules: Sequence[str]) -> None:
        # rivers' own steps are listed above: its modules hold `os`, `subprocess` and `run_bash`, too.
        self._modules = tuple(name for name in modules if name.partition(".")[0] != "rivers")
        self._names = ", ".join(modules)

    def check_module(self, ref: ImportRef) -> None:
        """Raise RefResolutionError for a module that must not even be imported."""
        if not self._holds(ref.module) and ref.module not in _OWN_MODULES:
            raise self._refusal(f"module {ref.module!r} is outside what this worker may import: {self._names}")

    def check_step(self, container: object, name: str, ref: ImportRef) -> None:
        """Raise RefResolutionError for an attribute walk that leaves modules and their classes."""
        if not isinstance(container, ModuleType | type) or (name.startswith("__") and name.endswith("__")):
            raise self._refusal(f"{ref.module}:{ref.qualname} is not a name at module scope or in a class")

    def check_end(self, found: object, ref: ImportRef) -> None:
        """Raise RefResolutionError for an object that is not defined in an allowed module."""
        inner = found.function if isinstance(found, Task) else found
        if any(inner is own for own in _OWN):
            return
        homes = set(_homes_of(found))
        if not homes:
            raise self._refusal(
                f"{ref.module}:{ref.qualname} is a {type(found).__name__}, not an Asset, Task, function or class "
                "that Python code defines"
            )
        if not any(map(self._holds, homes)):
            raise self._refusal(
                f"{ref.module}:{ref.qualname} is defined in {', '.join(map(repr, sorted(homes)))}, "
                f"outside what this worker may run: {self._names}"
            )

    def check_configured(self, cls: object, ref: ImportRef) -> None:
        """Raise RefResolutionError for a class that is built from a spec and is neither IO handler nor resource."""
        if not (isinstance(cls, type) and issubclass(cls, BaseIOHandler | Resource)):
            raise self._refusal(f"{ref.module}:{ref.qualname} is neither an IO handler nor a resource")

    def check_spec(self, spec: StepSpec, resolve: Callable[[Ref], Any]) -> None:
        """Raise RefResolutionError for a command or a constant that no allowed definition has.

        Constants are written in compositions, so each one must be found in the graph asset that the spec names.
        """
        if spec.inner:
            for inner in spec.inner:
                self._check_node(inner, spec.function, resolve)
        else:
            self._check_node(spec, spec.graph, resolve)

    def _check_node(self, node: StepSpec | InnerStep, graph: Ref | None, resolve: Callable[[Ref], Any]) -> None:
        is_bash = node.node is NodeKind.BASH
        if not is_bash and not any(isinstance(given, LiteralInput) for given in node.inputs):
            return
        key = node.step if isinstance(node, StepSpec) else node.key
        if is_bash and graph is None:
            ref = node.function
            task = resolve(ref) if isinstance(ref, ImportRef) and self._holds(ref.module) else None
            if isinstance(task, BashTask) and _is_command_of(task, {}, node.inputs):
                return
        elif graph is not None:
            owner = resolve(graph)
            function = None if is_bash else resolve(node.function)
            if isinstance(owner, GraphAsset) and any(_matches(call, function, node) for call in _calls_of(owner)):
                return
        what = "a command" if is_bash else "a constant"
        raise self._refusal(
            f"{key!r} has {what} that no definition in {self._names} has",
            hint="define it in a graph asset or a bash task at module scope, with a value that is the same everywhere",
        )

    def _holds(self, module: str) -> bool:
        return any(module == name or module.startswith(f"{name}.") for name in self._modules)

    def _refusal(
        self, message: str, hint: str = "start the worker with that module allowed, or move the definition"
    ) -> RefResolutionError:
        return RefResolutionError(message, hint=hint)


# ── where an object is defined ──


def _homes_of(found: object) -> Iterator[str]:
    """The modules whose code makes up a definition; none for what is no definition."""
    if isinstance(found, BashTask):
        yield found.module
    elif isinstance(found, Asset | Task):
        if found.signature is not None:
            yield found.signature.module
        yield from _code_homes(found.function)
    elif isinstance(found, type):
        yield from _class_homes(found)
    else:
        yield from _code_homes(found)


def _code_homes(function: Any) -> Iterator[str]:
    """The modules of a function and of the functions that it wraps.

    `__module__` is no evidence: functools.wraps copies it, and anybody may set it. A function's globals are where its
    code was compiled.
    """
    for _ in range(_MOST_WRAPPERS):
        if isinstance(function, MethodType):
            function = function.__func__
        if isinstance(function, FunctionType):
            yield str(function.__globals__.get("__name__"))
        function = getattr(function, "__wrapped__", None)
        if function is None:
            return


def _class_homes(cls: type) -> Iterator[str]:
    """The module of a class: its methods' where its body has some, else the one that it claims."""
    homes: set[str] = set()
    for name, value in vars(cls).items():
        function = getattr(value, "__func__", None) or getattr(value, "fget", None) or value
        code = getattr(function, "__code__", None)
        # Only what stands in the body counts: pydantic and dataclasses add functions of their own.
        if code is not None and code.co_qualname == f"{cls.__qualname__}.{name}":
            homes.update(_code_homes(function))
    if homes:
        yield from homes
    else:
        yield cls.__module__


# ── commands and constants ──


def _calls_of(graph: GraphAsset) -> Iterator[Call]:
    """The calls of a composition.

    A worker does not know which parameters with a default bear an asset's name, so both ways are tried.
    """
    for known in (_all, _none):
        # The user's code may raise anything; then there are no calls to find.
        with contextlib.suppress(Exception):
            yield from compose(graph, known).calls


def _all(name: str) -> bool:
    return True


def _none(name: str) -> bool:
    return False


def _matches(call: Call, function: object, node: StepSpec | InnerStep) -> bool:
    constants = {name: value.value for name, value in call.arguments.items() if isinstance(value, Constant)}
    if isinstance(call.task, BashTask):
        names = dict.fromkeys(call.arguments, _MISSING) | constants
        return node.node is NodeKind.BASH and _is_command_of(call.task, names, node.inputs)
    same = function is call.task or function is call.task.function
    return same and all(
        given.parameter in constants and _is_same(given, constants[given.parameter])
        for given in node.inputs
        if isinstance(given, LiteralInput)
    )


def _is_command_of(task: BashTask, arguments: dict[str, Any], inputs: Sequence[Input]) -> bool:
    """Return whether the inputs are the settings of this task and the arguments of its call, and nothing else.

    An argument is an environment variable: a stray one could set LD_PRELOAD or PATH.
    """
    settings = {name: getattr(task, name) for name in _SETTINGS}
    expected = {**arguments, **settings}
    names = [given.parameter for given in inputs]
    if len(set(names)) != len(names) or not set(_SETTINGS) <= set(names) <= set(expected):
        return False
    return all(
        _is_same(given, expected[given.parameter])
        if isinstance(given, LiteralInput)
        else given.parameter not in settings
        for given in inputs
    )


def _is_same(given: LiteralInput, value: object) -> bool:
    return bool(msgspec.json.decode(given.json) == value)


_MISSING = object()
