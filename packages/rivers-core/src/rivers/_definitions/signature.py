"""The parameters, context and hints of a function, inspected once when it is decorated."""

from __future__ import annotations

import builtins
import importlib
import inspect
import sys
import types
import typing
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

from pydantic import BaseModel

from rivers._definitions.context import AssetExecutionContext, TaskExecutionContext
from rivers._definitions.locations import source_location
from rivers.exceptions import DefinitionError
from rivers.protocol.exception_text import describe_exception

__all__ = ["Parameter", "Signature"]

_CONTEXTS = {"AssetExecutionContext": AssetExecutionContext, "TaskExecutionContext": TaskExecutionContext}


class Parameter(NamedTuple):
    """One parameter that rivers fills, by name unless it is positional only."""

    name: str
    has_default: bool
    positional_only: bool
    keyword_only: bool = False


class Signature:
    """The signature of a body, as rivers fills it.

    `parameters` leaves out the context; `context` is the name of its parameter, or None.
    """

    __slots__ = (
        "_hints",
        "_local",
        "context",
        "function",
        "is_async",
        "is_async_generator",
        "is_generator",
        "module",
        "parameters",
        "positional",
    )

    def __init__(self, function: Callable[..., Any], error: type[DefinitionError]) -> None:
        self.function = function
        self._hints: dict[str, Any] | None = None
        # Now, as the frame that defines the function may be gone when the hints are needed.
        frame = _definition_frame()
        self.module = str(frame.f_globals.get("__name__"))
        self._local = self._resolve_local(frame)
        code = getattr(function, "__code__", None)
        if code is None or hasattr(function, "__wrapped__") or hasattr(function, "__signature__"):
            parameters = _inspect(function, error)
            called = function if code is not None or isinstance(function, partial) else type(function).__call__
            self.is_async = inspect.iscoroutinefunction(called)
            self.is_generator = inspect.isgeneratorfunction(called)
            self.is_async_generator = inspect.isasyncgenfunction(called)
        else:
            # A plain function: reading its code object costs a fraction of inspect.signature.
            parameters = _from_code(function, code, error)
            self.is_async = bool(code.co_flags & inspect.CO_COROUTINE)
            self.is_generator = bool(code.co_flags & inspect.CO_GENERATOR)
            self.is_async_generator = bool(code.co_flags & inspect.CO_ASYNC_GENERATOR)
        self.context: str | None = None
        if parameters and self._is_context(parameters[0].name):
            self.context = parameters[0].name
            parameters = parameters[1:]
        self.parameters: tuple[Parameter, ...] = parameters
        self.positional = tuple([parameter.name for parameter in parameters if parameter.positional_only])

    @property
    def keyword_only(self) -> int:
        """The number of parameters that can only be given by name."""
        return sum(parameter.keyword_only for parameter in self.parameters)

    @property
    def needs_loop(self) -> bool:
        """True where the body runs on an event loop."""
        return self.is_async or self.is_async_generator

    @property
    def hints(self) -> dict[str, Any]:
        """The resolved annotations, without those that cannot be resolved."""
        if self._hints is None:
            self._hints = {**_hints(self.function), **self._local}
        return self._hints

    @property
    def config_model(self) -> type[BaseModel] | None:
        """The pydantic model in `AssetExecutionContext[Model]`, or None."""
        model = self._config_argument()
        return model if isinstance(model, type) and issubclass(model, BaseModel) else None

    @property
    def config_problem(self) -> str | None:
        """A text about an invalid `Model` in `AssetExecutionContext[Model]`, or None."""
        if self.context is None:
            return None
        annotation = _annotations(self.function).get(self.context)
        if isinstance(annotation, str) and self.context not in self.hints and "[" in annotation:
            return (
                f"the annotation {annotation!r} of {self.context!r} cannot be resolved; define or import its model at "
                "module scope"
            )
        model = self._config_argument()
        if isinstance(model, type) and model not in {Any, object} and not issubclass(model, BaseModel | Mapping):
            return f"{model.__qualname__} in the annotation of {self.context!r} is no pydantic model"
        return None

    def is_context_type(self, name: str) -> bool:
        """Return whether a parameter, first or not, is annotated as a context."""
        return _is_context(_annotations(self.function).get(name), self.function)

    def _config_argument(self) -> Any:
        arguments = typing.get_args(self.hints.get(self.context)) if self.context is not None else ()
        return arguments[0] if arguments else None

    def _is_context(self, name: str) -> bool:
        return name == "context" or self.is_context_type(name)

    def _resolve_local(self, frame: types.FrameType) -> dict[str, Any]:
        """Resolve annotations that are local to the function which defines the asset, as in a test.

        Names of a module are resolved later, as they may be defined further down.
        """
        if frame.f_code.co_name == "<module>":
            return {}
        names = getattr(_plain(self.function), "__globals__", {})
        found: dict[str, Any] = {}
        for name, annotation in _annotations(self.function).items():
            if isinstance(annotation, str) and annotation not in _PLAIN and _resolve(annotation, names, None) is None:
                hint = _resolve(annotation, frame.f_globals, frame.f_locals)
                if hint is not None:
                    found[name] = hint
        return found


def _definition_frame() -> types.FrameType:
    """Return the nearest frame outside rivers: the code that makes the definition."""
    frame = sys._getframe(1)
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "rivers":
        frame = frame.f_back
    return frame


def _is_context(annotation: Any, function: Any) -> bool:
    """Return whether an annotation means a context; of a text only the first name is read, its model may come later."""
    if annotation is None:
        return False
    if isinstance(annotation, str):
        # The model in brackets may be defined further down, so only the name before them is read.
        head = annotation.partition("[")[0].strip(" '\"")
        first, *rest = head.split(".")
        found = getattr(_plain(function), "__globals__", {}).get(first)
        for name in rest:
            found = getattr(found, name, None)
        # Imported where only a type checker sees it, or within a function.
        if found is None:
            return head.rpartition(".")[2] in _CONTEXTS
        annotation = found
    origin = typing.get_origin(annotation) or annotation
    return isinstance(origin, type) and issubclass(origin, AssetExecutionContext | TaskExecutionContext)


def _from_code(function: Any, code: types.CodeType, error: type[DefinitionError]) -> tuple[Parameter, ...]:
    if code.co_flags & (inspect.CO_VARARGS | inspect.CO_VARKEYWORDS):
        _refuse_variadic(function, error)
    positional, keyword_only = code.co_argcount, code.co_kwonlyargcount
    names = code.co_varnames
    first_default = positional - len(function.__defaults__ or ())
    keyword_defaults = function.__kwdefaults__ or ()
    # `self` of a bound method is filled already.
    first = 1 if isinstance(function, types.MethodType) else 0
    found = [Parameter(names[i], i >= first_default, i < code.co_posonlyargcount) for i in range(first, positional)]
    if keyword_only:
        for name in names[positional : positional + keyword_only]:
            found.append(Parameter(name, name in keyword_defaults, False, True))
    return tuple(found)


def _inspect(function: Callable[..., Any], error: type[DefinitionError]) -> tuple[Parameter, ...]:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as problem:
        raise error(f"the parameters of {function!r:.80} cannot be read: {describe_exception(problem)}") from None
    found = []
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            _refuse_variadic(function, error)
        has_default = parameter.default is not parameter.empty
        kind = parameter.kind
        found.append(
            Parameter(parameter.name, has_default, kind is parameter.POSITIONAL_ONLY, kind is parameter.KEYWORD_ONLY)
        )
    return tuple(found)


def _refuse_variadic(function: Any, error: type[DefinitionError]) -> typing.NoReturn:
    raise error(
        f"{getattr(function, '__qualname__', function)} ({source_location(function)}) takes *args or **kwargs; "
        "upstreams and resources are found by the names of parameters",
        hint="name each upstream as a parameter of its own; a decorator in between needs functools.wraps",
    )


def _plain(function: Any) -> Any:
    """Return the plain function below wrappers, partials, methods and instances with `__call__`."""
    # Bounded, as a `__wrapped__` may lead back to itself.
    for _ in range(100):
        if isinstance(function, partial):
            function = function.func
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        elif isinstance(function, types.MethodType):
            function = function.__func__
        else:
            break
    if hasattr(function, "__code__") or isinstance(function, type):
        return function
    return getattr(type(function), "__call__", function)  # noqa: B004 - the function itself is wanted


def _annotations(function: Any) -> dict[str, Any]:
    # Most functions wrap nothing, and need no search for what they wrap.
    plain = function if type(function) is types.FunctionType and not function.__dict__ else _plain(function)
    try:
        return getattr(plain, "__annotations__", None) or {}
    except NameError:
        # Python 3.14 evaluates annotations when they are read, and one is not defined (yet).
        annotationlib = importlib.import_module("annotationlib")
        found: dict[str, Any] = annotationlib.get_annotations(plain, format=annotationlib.Format.STRING)
        return found


def _hints(function: Any) -> dict[str, Any]:
    """Resolve the annotations like typing.get_type_hints, but one bad annotation does not hide the others."""
    names: dict[str, Any] | None = None
    found: dict[str, Any] = {}
    for name, annotation in _annotations(function).items():
        if not isinstance(annotation, str):
            found[name] = type(None) if annotation is None else annotation
        elif annotation in _PLAIN:
            found[name] = _PLAIN[annotation]
        else:
            if names is None:
                names = getattr(_plain(function), "__globals__", {})
            hint = _resolve(annotation, names, None)
            if hint is not None:
                found[name] = hint
    return found


def _resolve(annotation: str, names: dict[str, Any], local: Mapping[str, Any] | None) -> Any:
    """Return the type that an annotation's text means, or None."""
    holder = types.SimpleNamespace(__annotations__={"it": annotation})
    try:
        return typing.get_type_hints(holder, names, local)["it"]
    except Exception:  # noqa: BLE001 - evaluating a user's annotation may raise anything; it only cannot be checked
        return None


_PLAIN: dict[str, Any] = {
    name: getattr(builtins, name)
    for name in ("int", "float", "str", "bytes", "bool", "list", "dict", "set", "tuple", "object")
} | {"None": type(None)}
