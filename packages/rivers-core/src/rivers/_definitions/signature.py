"""What a function asks for: its parameters, its context, its hints. Looked at once, when it is decorated."""

from __future__ import annotations

import builtins
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any, NamedTuple

from rivers._definitions.context import AssetExecutionContext, TaskExecutionContext
from rivers._definitions.names import where
from rivers.exceptions import DefinitionError

__all__ = ["Parameter", "Signature"]

_CONTEXTS = {"AssetExecutionContext": AssetExecutionContext, "TaskExecutionContext": TaskExecutionContext}


class Parameter(NamedTuple):
    """One parameter that rivers fills, by name unless it is positional only."""

    name: str
    has_default: bool
    positional_only: bool


class Signature:
    """A function as rivers sees it: `parameters` without the context, which `context` names, if there is one."""

    __slots__ = ("_hints", "context", "function", "is_async", "is_async_generator", "is_generator", "parameters")

    def __init__(self, function: Callable[..., Any], error: type[DefinitionError]) -> None:
        self.function = function
        self._hints: dict[str, Any] | None = None
        code = getattr(function, "__code__", None)
        if code is None or hasattr(function, "__wrapped__"):
            parameters = _inspected(function, error)
            self.is_async = inspect.iscoroutinefunction(function)
            self.is_generator = inspect.isgeneratorfunction(function)
            self.is_async_generator = inspect.isasyncgenfunction(function)
        else:
            parameters = _from_code(function, code, error)
            self.is_async = bool(code.co_flags & inspect.CO_COROUTINE)
            self.is_generator = bool(code.co_flags & inspect.CO_GENERATOR)
            self.is_async_generator = bool(code.co_flags & inspect.CO_ASYNC_GENERATOR)
        self.context: str | None = None
        if parameters and self._is_context(parameters[0].name):
            self.context = parameters[0].name
            parameters = parameters[1:]
        self.parameters: tuple[Parameter, ...] = parameters

    @property
    def needs_loop(self) -> bool:
        """Whether the body runs on an event loop."""
        return self.is_async or self.is_async_generator

    @property
    def hints(self) -> dict[str, Any]:
        """The resolved annotations; one that cannot be resolved is left out, as nothing can be checked against it."""
        if self._hints is None:
            self._hints = _hints(self.function)
        return self._hints

    @property
    def config_model(self) -> Any:
        """The pydantic model in `AssetExecutionContext[Model]`, or None."""
        if self.context is None:
            return None
        arguments = typing.get_args(self.hints.get(self.context))
        return arguments[0] if arguments and isinstance(arguments[0], type) else None

    def _is_context(self, name: str) -> bool:
        if name == "context":
            return True
        annotation = _annotations(self.function).get(name)
        if annotation is None:
            return False
        if isinstance(annotation, str) and not any(context in annotation for context in _CONTEXTS):
            return False
        hint = self.hints.get(name, annotation)
        origin = typing.get_origin(hint) or hint
        return isinstance(origin, type) and issubclass(origin, AssetExecutionContext | TaskExecutionContext)


def _from_code(function: Any, code: types.CodeType, error: type[DefinitionError]) -> tuple[Parameter, ...]:
    if code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS):
        _refuse_variadic(function, error)
    positional, keyword_only = code.co_argcount, code.co_kwonlyargcount
    names = code.co_varnames
    first_default = positional - len(function.__defaults__ or ())
    keyword_defaults = function.__kwdefaults__ or ()
    first = 1 if isinstance(function, types.MethodType) else 0
    found = [Parameter(names[i], i >= first_default, i < code.co_posonlyargcount) for i in range(first, positional)]
    if keyword_only:
        for name in names[positional : positional + keyword_only]:
            found.append(Parameter(name, name in keyword_defaults, False))
    return tuple(found)


def _inspected(function: Callable[..., Any], error: type[DefinitionError]) -> tuple[Parameter, ...]:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as problem:
        raise error(f"the parameters of {function!r:.80} cannot be read: {problem}") from None
    found = []
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            _refuse_variadic(function, error)
        has_default = parameter.default is not parameter.empty
        found.append(Parameter(parameter.name, has_default, parameter.kind is parameter.POSITIONAL_ONLY))
    return tuple(found)


def _refuse_variadic(function: Any, error: type[DefinitionError]) -> typing.NoReturn:
    raise error(
        f"{getattr(function, '__qualname__', function)} ({where(function)}) takes *args or **kwargs; "
        "upstreams and resources are found by the names of parameters",
        hint="name each upstream as a parameter of its own",
    )


def _annotations(function: Any) -> dict[str, Any]:
    inner = inspect.unwrap(function) if hasattr(function, "__wrapped__") else function
    return getattr(inner, "__annotations__", None) or {}


def _hints(function: Any) -> dict[str, Any]:
    """typing.get_type_hints, but a plain type costs nothing and one bad annotation does not hide the others."""
    annotations = _annotations(function)
    if not annotations:
        return {}
    inner = inspect.unwrap(function) if hasattr(function, "__wrapped__") else function
    names = getattr(inner, "__globals__", {})
    found: dict[str, Any] = {}
    for name, annotation in annotations.items():
        if not isinstance(annotation, str):
            found[name] = type(None) if annotation is None else annotation
        elif annotation in _PLAIN:
            found[name] = _PLAIN[annotation]
        else:
            try:
                found[name] = typing.get_type_hints(types.SimpleNamespace(__annotations__={name: annotation}), names)[
                    name
                ]
            except Exception:  # noqa: BLE001, S112 - evaluating a user's annotation may raise anything; it only cannot be checked
                continue
    return found


_PLAIN: dict[str, Any] = {
    name: getattr(builtins, name)
    for name in ("int", "float", "str", "bytes", "bool", "list", "dict", "set", "tuple", "object")
} | {"None": type(None)}
