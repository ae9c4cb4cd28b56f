"""The parts of functions, methods and wrappers that are not in their syntax."""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Iterator
from typing import Any

from rivers._code.source import ModuleSource

__all__ = [
    "cells_of",
    "foreign_parts",
    "generic_of",
    "is_made_by_call",
    "is_method_of",
    "methods_in",
    "name_of",
    "own_state",
    "self_of",
    "wrapped_in",
]

# What functools.update_wrapper copies.
_COPIED = frozenset({*functools.WRAPPER_ASSIGNMENTS, "__wrapped__"})


def cells_of(function: types.FunctionType) -> dict[str, Any]:
    """Return the values that a function closes over, by name; None for one that is not assigned yet."""
    cells: dict[str, Any] = {}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            cells[name] = cell.cell_contents
        except ValueError:
            cells[name] = None
    return cells


def foreign_parts(function: types.FunctionType) -> tuple[str, Any] | None:
    """Return what a function that another package has made holds, and how; None for one of its own functions."""
    if _is_public(function):
        return None
    registry = getattr(function, "registry", None)
    if isinstance(registry, types.MappingProxyType):
        # functools.singledispatch, whose closure has a cache.
        return "of", dict(registry)
    # functools.wraps leaves the inner function there, which may be one of the package. What the decorator holds beside
    # it is in the expression that made it.
    wrapped = getattr(function, "__wrapped__", None)
    if wrapped is not None:
        return "around", wrapped
    held = (cells_of(function), function.__defaults__, function.__kwdefaults__)
    return ("over", held) if function.__closure__ else None


def _is_public(function: types.FunctionType) -> bool:
    """Return whether the package of a function's code has it under its own name."""
    found = _find(function.__globals__.get("__name__", ""), function.__qualname__)
    return getattr(found, "__func__", found) is function


def is_made_by_call(cls: type) -> bool:
    """Return whether a class of no module, as dataclasses.make_dataclass makes them, has nothing but a name."""
    return cls.__module__ == "types" and _find("types", cls.__qualname__) is not cls


def _find(module: str, qualname: str) -> Any:
    found: Any = sys.modules.get(module)
    for name in qualname.split("."):
        found = vars(found).get(name) if isinstance(found, type | types.ModuleType) else None
    return found


def own_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return the attributes that functools.update_wrapper has not copied."""
    return {name: one for name, one in state.items() if name not in _COPIED}


def self_of(value: types.BuiltinFunctionType | types.MethodWrapperType) -> Any:
    """Return the object that a method of a built-in type is bound to; None for a function."""
    found = value.__self__
    return None if isinstance(found, types.ModuleType) else found


def methods_in(value: Any) -> Iterator[types.FunctionType]:
    """Yield the functions of one attribute of a class: a method, or those of a property."""
    if isinstance(value, property):
        found: tuple[Any, ...] = (value.fget, value.fset, value.fdel)
    elif isinstance(value, functools.cached_property):
        found = (value.func,)
    else:
        found = (getattr(value, "__func__", value),)
    # Annotations are no code; since Python 3.14 a function makes those of a class.
    yield from (one for one in found if isinstance(one, types.FunctionType) and one.__name__ != "__annotate__")


def is_method_of(
    cls: type, name: str, source: ModuleSource | None, is_known: bool, function: types.FunctionType
) -> bool:
    """Return whether a function is the method that the source of a class has under a name."""
    code = function.__code__
    if not is_known or source is None:
        return False
    # Those that dataclasses make are of no file.
    if code.co_filename.startswith("<"):
        return True
    return code.co_qualname == f"{cls.__qualname__}.{name}" and source.function(code) is not None


def generic_of(cls: type) -> tuple[type, tuple[Any, ...]] | None:
    """Return the model and the arguments of a generic model of pydantic as `Model[int]`; None for another class."""
    found = getattr(cls, "__pydantic_generic_metadata__", None) or {}
    return (found["origin"], found["args"]) if found.get("origin") is not None else None


def wrapped_in(value: Any) -> tuple[Any, dict[str, Any]] | None:
    """Return what a definition of rivers, `functools.cache` or another wrapper holds, with its own attributes.

    None for other objects.
    """
    if type(value).__module__.startswith("rivers."):
        inner = getattr(value, "function", None) or getattr(value, "command", None)
        return (inner, {}) if inner is not None else None
    # Not by getattr: a proxy may answer to every name.
    state: dict[str, Any] = getattr(value, "__dict__", {})
    if "__wrapped__" not in state:
        return None
    return state["__wrapped__"], own_state(state)


def name_of(value: Any) -> str:
    """Return the name of an object's module and its own."""
    module = getattr(value, "__module__", None) or type(getattr(value, "__self__", value)).__name__
    return f"{module}:{getattr(value, '__qualname__', type(value).__qualname__)}"
