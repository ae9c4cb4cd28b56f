"""One-shot values: iterators and open files, which only the first reader finds full."""

from __future__ import annotations

import io
import itertools
from copy import copy
from typing import Any

from rivers._io.files.value_files import commit_error
from rivers.exceptions import ResultDefinitionError

__all__ = ["PLAIN_MODULES", "REREADABLE", "is_one_shot", "list_items", "own_copy", "refuse_one_shot"]

PLAIN_MODULES = frozenset(
    {
        "_collections",
        "_csv",
        "_struct",
        "array",
        "builtins",
        "collections.abc",
        "csv",
        "itertools",
        "posix",
        "rivers._runner.inputs",
    }
)
"""Modules whose iterators are nothing but their items: a list replaces them without a loss."""

REREADABLE = frozenset({type(None), bool, int, float, str, bytes, list, tuple, dict, set, frozenset})
"""Classes of most values, which need no further look; that saves a microsecond in a step that takes 40."""
_FILES_IN_MEMORY = (io.BytesIO, io.StringIO)


def is_one_shot(value: object) -> bool:
    """Return whether `value` is an iterator, an async iterator or an open file."""
    kind = type(value)
    if kind in REREADABLE:
        return False
    if hasattr(kind, "__next__") or hasattr(kind, "__anext__"):
        return True
    # A NamedTemporaryFile delegates to its file by __getattr__, so its class has no __next__.
    return kind.__module__ == "tempfile"


def own_copy(value: Any) -> Any:
    """Return a copy of a file in memory, whose position is its reader's own; anything else as it is."""
    return copy(value) if type(value) in _FILES_IN_MEMORY else value


def list_items(value: Any) -> Any:
    """Return a list of the items of a plain iterator (map, zip, a generator, csv.reader …), anything else as it is.

    Raises:
        ResultDefinitionError: the iterator has no end.
        Exception: what the iterator raises.
    """
    kind = type(value)
    if not hasattr(kind, "__next__") or kind.__module__ not in PLAIN_MODULES:
        return value
    if kind in (itertools.count, itertools.cycle) or (kind is itertools.repeat and not _has_end(value)):
        raise ResultDefinitionError(
            f"invalid value {value!r:.80}: expected an iterator with an end",
            hint="return what is needed of it, such as list(itertools.islice(…, 10))",
        )
    return list(value)


def refuse_one_shot(value: object, key: str, run_id: str, step: str) -> None:
    """Check a value that is to be kept by reference.

    A file in memory passes: `own_copy` gives each reader its own position.

    Raises:
        OutputCommitError: the value is an iterator or an open file, so its second reader would find nothing.
    """
    if not is_one_shot(value) or type(value) in _FILES_IN_MEMORY:
        return
    kind = type(value)
    what = "an open file" if isinstance(value, io.IOBase) or kind.__module__ == "tempfile" else "an iterator"
    raise commit_error(
        f"the value of {key!r}, a {kind.__module__}.{kind.__qualname__}, is {what}, which only "
        "its first reader could use",
        run_id,
        step,
        retryable=False,
        hint="return a list of its items, its content or its path, or use an IO handler that stores it",
    )


def _has_end(value: Any) -> bool:
    try:
        # operator.length_hint hides the TypeError of a repeat(x) without times.
        value.__length_hint__()
    except TypeError:
        return False
    return True
