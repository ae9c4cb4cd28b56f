"""The elements of a value that a task is mapped over, each under its mapping key."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rivers._definitions.output import DynamicOutput
from rivers.exceptions import ResultDefinitionError

__all__ = ["elements_of"]

_TEXT = (str, bytes, bytearray, memoryview)


def elements_of(value: Any, name: str) -> dict[str, Any]:
    """Return the elements of `value` by mapping key, in order.

    A mapping gives its values under its keys as text, a sequence or an iterator its items under their positions. A
    `DynamicOutput` among the items of any iterable has a key of its own. Other iterables are refused: a set has no
    order, and a DataFrame iterates over its column names. `name` is the value's name in errors.

    Raises:
        ResultDefinitionError: the value has no elements, or two elements have the same key.
    """
    if isinstance(value, Mapping):
        return _by_key(value, name)
    if isinstance(value, _TEXT) or not isinstance(value, Iterable):
        raise _no_elements(value, name)
    items = list(value)
    # A set has no order: the keys of its items would differ between attempts.
    ordered = isinstance(value, Sequence | Iterator)
    found: dict[str, Any] = {}
    for position, item in enumerate(items):
        if isinstance(item, DynamicOutput):
            _add(found, item.key, item.value, name)
        elif ordered:
            _add(found, str(position), item, name)
        else:
            raise _no_elements(value, name)
    return found


def _by_key(value: Mapping[Any, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, DynamicOutput):
            raise ResultDefinitionError(
                f"the value of {name!r} is mapped over and has two keys for one element: {key!r:.80} and {item.key!r}",
                hint="give a list of rs.DynamicOutputs, or a dict of plain values",
            )
        # A mapping key is a part of step names and storage keys, so it must be text that DynamicOutput takes.
        _add(found, DynamicOutput(str(key), item).key, item, name)
    return found


def _add(found: dict[str, Any], key: str, item: Any, name: str) -> None:
    if key in found:
        raise ResultDefinitionError(
            f"output {name!r} has the mapping key {key!r} twice", hint="each element needs a mapping key of its own"
        )
    found[key] = item


def _no_elements(value: Any, name: str) -> ResultDefinitionError:
    return ResultDefinitionError(
        f"cannot map over the value of {name!r}, which is of type {type(value).__name__}: expected a list, a dict by "
        "mapping key, or rs.DynamicOutputs",
        hint="make a list of the elements inside the task, such as list(values), sorted(values) or [rows of a frame]",
    )
