"""Checks of lists and dicts of definitions, as jobs and repositories take them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import FunctionType, MethodType, ModuleType
from typing import Any

from rivers._definitions.arguments import argument_error, plain_text
from rivers._definitions.hints import call_hint, list_hint

__all__ = ["check_dict", "check_list"]


def check_list(
    name: str,
    value: object,
    kinds: tuple[type, ...],
    expected: str,
    plural: str,
    *,
    make: str,
    owner: str = "",
    homes: Mapping[type, str] | None = None,
) -> list[Any]:
    """Return a list or tuple of objects of these kinds as a list.

    `expected` and `plural` name such objects, `make` is the hint for a plain function, and `homes` are the arguments
    that take objects of other kinds.

    Raises:
        ConfigurationError: it is something else; the hint depends on what it is.
    """
    if isinstance(value, str | bytes) or not isinstance(value, Sequence):
        raise argument_error(name, value, f"a list of {plural}", list_hint(name, value, kinds), owner=owner)
    for position, item in enumerate(value):
        if not isinstance(item, kinds):
            hint = _item_hint(name, item, kinds, make, homes or {})
            raise argument_error(f"{name}[{position}]", item, expected, hint, owner=owner)
    return list(value)


def _item_hint(name: str, item: object, kinds: tuple[type, ...], make: str, homes: Mapping[type, str]) -> str | None:
    for kind, home in homes.items():
        if isinstance(item, kind):
            return f"write it in {home}=[...]"
    if isinstance(item, str):
        return "give the object itself, not its name"
    if isinstance(item, MethodType) and isinstance(item.__func__, kinds):
        return "remove the @classmethod around the definition"
    if isinstance(item, list | tuple):
        return f"write {name}=[*first, *second]: a list within the list is not taken apart"
    if isinstance(item, ModuleType):
        return f"name what it holds: [{item.__name__}.first, {item.__name__}.second]"
    if isinstance(item, type) and issubclass(item, kinds):
        return call_hint(item)
    if isinstance(item, FunctionType | MethodType | type | staticmethod | classmethod | property):
        return make
    return (
        "the function that makes it returned nothing" if item is None else "give the object itself, without calling it"
    )


def check_dict(
    name: str,
    value: object,
    kinds: tuple[type, ...],
    expected: str,
    hint_of: Callable[[object], str | None] = call_hint,
) -> dict[str, Any]:
    """Return a dict of objects of these kinds by name; None is an empty one. `hint_of` gives the hint for a wrong one.

    Raises:
        ConfigurationError: it is something else.
    """
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise argument_error(name, value, f"a dict of {expected} by name", f'write {name}={{"name": ...}}')
    found: dict[str, Any] = {}
    for key, item in value.items():
        text = plain_text(key)
        if not text:
            raise argument_error(f"{name} key", key, "a str that is not empty")
        if not isinstance(item, kinds):
            raise argument_error(f"{name}[{text!r}]", item, expected, hint_of(item) or call_hint(item))
        found[text] = item
    return found
