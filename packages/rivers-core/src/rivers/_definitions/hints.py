"""Hints for arguments of the wrong kind: one hint for each likely mistake."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Iterable, Iterator, Mapping, Set
from types import FunctionType, MethodType, ModuleType
from typing import Any

from rivers._definitions.arguments import plain_number, short_repr

__all__ = ["call_hint", "function_hint", "list_hint"]


def call_hint(value: object) -> str | None:
    """Return how to make the instance, where a class or one of rivers' factories is given without being called."""
    if isinstance(value, type):
        return f"make an instance of it: {_public_name(value)}(...)"
    if isinstance(value, FunctionType) and value.__module__.partition(".")[0] == "rivers":
        return f"call it: {_public_name(value)}(...)"
    return None


def _public_name(value: type | FunctionType) -> str:
    name = value.__qualname__.removeprefix("_Nested.")
    return f"rs.{name}" if value.__module__.partition(".")[0] == "rivers" else name


def list_hint(name: str, value: object, kinds: tuple[type, ...]) -> str | None:
    """Return how to make a list of what is given in the place of one: a single item, a generator, a set or a dict."""
    if isinstance(value, kinds):
        item = short_repr(value) if isinstance(value, str) else getattr(value, "name", None) or "..."
        return f"write {name}=[{item}], a list of one"
    if isinstance(value, Mapping):
        return f"write {name}=list(....values())"
    if isinstance(value, Iterator):
        return f"write {name}=[...] or list(...): a generator can be read only once"
    if isinstance(value, Set):
        return f"write {name}=sorted(...) or list(...): a set has no order"
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | type):
        return f"write {name}=list(...)"
    return call_hint(value)


def function_hint(value: object, what: str) -> str | None:
    """Return what to do where `value` is not the function that a `what` (asset or task) wraps."""
    decorator = f"@rs.{what.title()}"
    if isinstance(value, str):
        return f"write name={value!r:.80}, and decorate a function"
    if isinstance(value, classmethod):
        return f"a classmethod gets no class here: decorate a function outside the class with {decorator}"
    if isinstance(value, property | functools.cached_property):
        return f"a property has no instance here: decorate a function outside the class with {decorator}"
    if inspect.iscoroutine(value) or inspect.isgenerator(value) or inspect.isasyncgen(value):
        return f"give the function itself, without calling it: {value.__name__}"
    if isinstance(value, ModuleType):
        return f"decorate the functions of the module {value.__name__} one by one"
    if isinstance(value, Mapping | list | tuple | set):
        return f"make one {what} of each function"
    if isinstance(value, type):
        return f"write a function that returns {value.__name__}(...), or name it: name={value.__name__!r}"
    if value is None or plain_number(value) is not None or isinstance(value, bool | bytes):
        return f"give the function itself, without calling it, and the {what}'s name as name=..."
    return None


def bound_definition(value: object) -> Any:
    """Return what a `classmethod` around a definition binds, as `Model.asset` under `@classmethod`; None otherwise."""
    return value.__func__ if isinstance(value, MethodType) and not isinstance(value.__func__, FunctionType) else None
