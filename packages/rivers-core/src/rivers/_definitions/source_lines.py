"""Pickle functions by value together with their source lines, so that a worker's tracebacks show them."""

from __future__ import annotations

import io
import linecache
from collections import ChainMap
from types import CodeType
from typing import Any

__all__ = ["SourceLines", "attach_source", "pickle_with_source"]

MAX_CHARACTERS = 256 * 1024
"""Characters of source that travel with one pickle, of the 1 MiB that a pickle may have."""

SourceLines = dict[str, dict[int, str]]
"""By file name and line number."""


def pickle_with_source(cloudpickle: Any, found: Any) -> bytes:
    """Return a cloudpickle of an object; where it is loaded, the lines of its code are known to `linecache`.

    `cloudpickle` is the module, which is an optional dependency.
    """
    reducers = cloudpickle.Pickler.dispatch_table
    lines: SourceLines = {}
    room = [MAX_CHARACTERS]

    def reduce_code(code: CodeType) -> Any:
        _collect(code, lines, room)
        make, arguments, *rest = reducers[CodeType](code)
        # cloudpickle 3.1 and later replace the file's name.
        named = tuple(code.co_filename if value == "<dynamic-code>" else value for value in arguments)
        return (make, named, *rest)

    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]  # imported at run time
        dispatch_table = ChainMap({CodeType: reduce_code}, reducers)  # noqa: RUF012 - as its base has it

    file = io.BytesIO()
    # The lines come second: they are complete once the object is pickled.
    Pickler(file, protocol=5).dump(_Sourced(found, lines))
    return file.getvalue()


def attach_source(found: Any, lines: SourceLines) -> Any:
    """Return the object after adding the lines of its code to `linecache`; called by the pickle as it is loaded."""
    for filename, sent in lines.items():
        known = linecache.getlines(filename)
        if any(known[number - 1 : number] != [line] for number, line in sent.items()):
            last = max(sent)
            known = known + ["\n"] * (last - len(known))
            for number, line in sent.items():
                known[number - 1] = line
            # Without a time of modification the entry is never looked up on disk.
            linecache.cache[filename] = (sum(map(len, known)), None, known, filename)
    return found


class _Sourced:
    """An object and its source lines; loaded, it is the object alone."""

    def __init__(self, found: Any, lines: SourceLines) -> None:
        self._arguments = (found, lines)

    def __reduce__(self) -> Any:
        return attach_source, self._arguments


def _collect(code: CodeType, lines: SourceLines, room: list[int]) -> None:
    numbers = [line for _, _, line in code.co_lines() if line]
    of_file = linecache.getlines(code.co_filename)
    if not numbers or max(numbers) > len(of_file):
        return
    found = {number: of_file[number - 1] for number in range(min(numbers), max(numbers) + 1)}
    room[0] -= sum(map(len, found.values()))
    if room[0] >= 0:
        lines.setdefault(code.co_filename, {}).update(found)
