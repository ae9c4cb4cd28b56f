"""Replace the iterators that a body returns by lists of their items, as for the items of a generator body."""

from __future__ import annotations

from typing import Any

from rivers._definitions.output import DynamicOutput, Output
from rivers._io.one_shot import REREADABLE, list_items

__all__ = ["list_iterators"]

# Tuples, lists and dicts of at most so many items are taken for records and looked into; longer ones are data.
_MOST_FIELDS = 16


def list_iterators(value: Any) -> Any:
    """Return a body's value with lists in the place of its plain iterators.

    They are looked for in the value itself, in an Output, and among the items of a record or of a list of Outputs.

    Raises:
        ResultDefinitionError: an iterator has no end.
        Exception: what an iterator raises.
    """
    kind = type(value)
    if kind not in REREADABLE:
        value = _list_item(value)
        kind = type(value)
    if kind is dict:
        if 0 < len(value) <= _MOST_FIELDS and not REREADABLE.issuperset(map(type, value.values())):
            items = [_list_item(item) for item in value.values()]
            if any(new is not old for new, old in zip(items, value.values(), strict=True)):
                return dict(zip(value, items, strict=True))
    elif kind is list or kind is tuple:
        is_record = len(value) <= _MOST_FIELDS and not REREADABLE.issuperset(map(type, value))
        if is_record or (value and isinstance(value[0], Output | DynamicOutput)):
            items = [_list_item(item) for item in value]
            if any(new is not old for new, old in zip(items, value, strict=True)):
                return kind(items)
    return value


def _list_item(value: Any) -> Any:
    if isinstance(value, Output | DynamicOutput):
        value.value = list_iterators(value.value)
        return value
    return list_items(value)
