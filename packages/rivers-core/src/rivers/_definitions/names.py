"""What is accepted as a name or a parameter, and the words in which the rest is refused.

check_name      names of assets, tasks, outputs, jobs         closest   "did you mean …?"
check_count …   parameters of the small frozen values         where     file:line of a definition
refusal         the error for one parameter                   called_from  … of what has no function
pasted          a repr that can be pasted back
"""

from __future__ import annotations

import dataclasses
import enum
import linecache
import math
import re
import sys
from collections.abc import Iterable, Mapping
from difflib import SequenceMatcher
from functools import partial
from heapq import nlargest
from itertools import islice, pairwise
from types import FrameType
from typing import Any

from rivers.exceptions import ConfigurationError, DefinitionError

__all__ = [
    "called_from",
    "calling_module",
    "check_count",
    "check_flag",
    "check_name",
    "check_number",
    "check_text",
    "closest",
    "pasted",
    "refusal",
    "shown",
    "where",
]

MAX_NAME_BYTES = 180  # so that `graph/task[mapping key]` fits the 512 bytes of a step key (security.md 3.7)
"""Storage keys and file names are made of names, and a file name holds 255 bytes on every common file system."""

NAME_RULE = (
    "a name is 1 to 180 bytes of printable text without [ ] * or a comma and without white space at its ends; "
    'between slashes it has no empty part and no "." or ".."'
)
FORBIDDEN = "[]*,"
"""Brackets and comma separate mapping keys and names in selections, the star is their wildcard."""

LIKENESS = 0.6
"""How alike, from 0 to 1 as difflib counts, two names must be for one to be suggested; difflib's own default."""
MAX_CANDIDATES = 100_000
MAX_COMPARED = 32
"""A comparison by difflib takes about 20 µs, so only this many of the most promising candidates get one."""


def shown(value: object) -> str:
    """A value's repr for an error text: one line, at most 80 characters, whatever the value is."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 -- a stranger's repr may raise anything, and our error must still come out
        text = f"<{type(value).__name__} without a repr>"
    return text if len(text) <= 80 else f"{text[:79]}…"


def check_name(name: object, what: str = "asset", *, error: type[DefinitionError] = ConfigurationError) -> str:
    """Return `name` when it is acceptable for a `what` (asset, task, output, job, …), else raise `error`.

    Every name can be part of a storage key, a file name, a selection and a log line as it stands.
    """
    if not isinstance(name, str):
        raise error(f"{what} name {shown(name)} is of type {type(name).__name__}, not str", hint=NAME_RULE)
    if problem := _name_problem(name):
        raise error(f"{what} name {shown(name)} {problem}", hint=NAME_RULE)
    return name


def _name_problem(name: str) -> str | None:
    if not name:
        return "is empty"
    if not name.isprintable():
        return "has a character that cannot be printed"
    if (size := len(name.encode())) > MAX_NAME_BYTES:
        return f"is {size} bytes long"
    if name != name.strip():
        return "has white space at an end"
    for character in FORBIDDEN:
        if character in name:
            return f"contains {character!r}"
    for part in name.split("/"):
        if part in ("", ".", ".."):
            return f"has the part {part!r}" if part else "has an empty part"
    return None


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """The candidate most like `name`, or None when none is alike enough to be meant.

    About 0.1 s for 50,000 candidates: all are ranked by the letter pairs they share with `name`, and only the best few
    are compared properly. At most 100,000 candidates are looked at.
    """
    name = name[:MAX_NAME_BYTES]
    wanted = name.casefold()
    pairs = set(pairwise(f" {wanted} "))

    def promise(candidate: str) -> float:
        theirs = set(pairwise(f" {candidate.casefold()} "))
        return len(pairs & theirs) / (len(pairs) + len(theirs))

    matcher = SequenceMatcher(a="", b=wanted, autojunk=False)
    best: tuple[float, str] | None = None
    for candidate in nlargest(MAX_COMPARED, islice(candidates, MAX_CANDIDATES), key=promise):
        matcher.set_seq1(candidate[:MAX_NAME_BYTES].casefold())
        likeness = matcher.ratio()
        if likeness >= LIKENESS and (best is None or likeness > best[0]):
            best = (likeness, candidate)
    return best[1] if best else None


def where(definition: object) -> str | None:
    """`file:line` where a function or class was written, or None for what has no source (builtins, C code).

    Goes through partials, methods, instances with `__call__` and decorators made with `functools.wraps`. Reads no file,
    except for a class before Python 3.13.
    """
    for _ in range(100):  # a `__wrapped__` that leads back to itself must not hang us
        if isinstance(definition, partial):
            definition = definition.func
            continue
        inner = getattr(definition, "__wrapped__", None) or getattr(definition, "__func__", None)
        if inner is None or isinstance(definition, type):
            break
        definition = inner
    code = getattr(definition, "__code__", None)
    if code is None and not isinstance(definition, type):
        code = getattr(getattr(type(definition), "__call__", None), "__code__", None)  # noqa: B004 - its code is wanted
    if code is not None:
        return f"{code.co_filename}:{code.co_firstlineno}"
    return _where_class(definition) if isinstance(definition, type) else None


def called_from() -> str | None:
    """`file:line` of the nearest caller outside rivers: where a definition without a function was written."""
    frame = _frame_outside()
    return f"{frame.f_code.co_filename}:{frame.f_lineno}" if frame is not None else None


def calling_module() -> str:
    """Return the name of the module of the nearest caller outside rivers, empty where there is none."""
    frame = _frame_outside()
    return str(frame.f_globals.get("__name__")) if frame is not None else ""


def _frame_outside() -> FrameType | None:
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and str(frame.f_globals.get("__name__")).partition(".")[0] == "rivers":
        frame = frame.f_back
    return frame


def _where_class(cls: type) -> str | None:
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    if file is None:
        return None
    line: int | None = cls.__dict__.get("__firstlineno__")  # Python 3.13
    if line is None:
        head = re.compile(rf"\s*class\s+{re.escape(cls.__name__)}\b")
        line = next((number for number, text in enumerate(linecache.getlines(file), 1) if head.match(text)), None)
    return f"{file}:{line}" if line is not None else None


def refusal(parameter: str, value: object, allowed: str, hint: str | None = None) -> ConfigurationError:
    """The error for one parameter: its name, what was given and what is allowed."""
    text = shown(value)
    kind = type(value).__name__
    given = text if isinstance(value, str | int | float | list | dict | type | None) else f"{text} (of type {kind})"
    return ConfigurationError(f"{parameter}={given}: {allowed} is allowed", hint=hint)


def check_count(
    parameter: str, value: object, *, least: int = 1, most: int | None = None, optional: bool = False
) -> None:
    """Refuse all but a whole number within the limits (no bool, no float), or None where it is optional."""
    if optional and value is None:
        return
    if isinstance(value, int) and not isinstance(value, bool) and least <= value and (most is None or value <= most):
        return
    span = f"from {least} to {most}" if most is not None else f"of at least {least}"
    raise refusal(parameter, value, f"a whole number {span}{', or None,' if optional else ''}")


def check_number(
    parameter: str,
    value: object,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    unit: str = "",
    optional: bool = False,
) -> None:
    """Refuse all but a finite int or float (no bool) that is >= `least`, > `above` and <= `most`."""
    if optional and value is None:
        return
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and (isinstance(value, int) or math.isfinite(value))
        and (least is None or value >= least)
        and (above is None or value > above)
        and (most is None or value <= most)
    ):
        return
    limits = [
        f"{word} {limit:,}"
        for word, limit in (("at least", least), ("above", above), ("up to", most))
        if limit is not None
    ]
    number = ", ".join(filter(None, (f"a number of {unit}" if unit else "a number", " and ".join(limits))))
    raise refusal(parameter, value, f"{number}{', or None,' if optional else ''}")


def check_flag(parameter: str, value: object) -> None:
    """Refuse all but True and False."""
    if not isinstance(value, bool):
        raise refusal(parameter, value, "True or False")


def check_text(parameter: str, value: object, allowed: str, pattern: re.Pattern[str], *, most: int = 4096) -> None:
    """Refuse all but a str of at most `most` characters that matches `pattern` from end to end."""
    if not isinstance(value, str) or len(value) > most or not pattern.fullmatch(value):
        raise refusal(parameter, value, allowed)


def pasted(value: Any, *, name: str, first: str | None = None, always: Iterable[str] = ()) -> str:
    """The repr `name(field=value, …)` of a frozen dataclass, which makes an equal value when it is pasted back.

    `first` is the field that is shown first and without its name. A field at its default is left out, unless `always`
    has it.
    """
    fields = [field for field in dataclasses.fields(value) if field.name != first]
    parts = [_pasted_value(getattr(value, first))] if first is not None else []
    parts += [
        f"{field.name}={_pasted_value(given)}"
        for field in fields
        if (given := getattr(value, field.name)) != field.default or field.name in always
    ]
    return f"{name}({', '.join(parts)})"


def _pasted_value(value: object) -> str:
    if isinstance(value, enum.Enum):
        return str(value)
    if isinstance(value, type):
        return value.__qualname__
    if isinstance(value, tuple):
        return f"[{', '.join(map(_pasted_value, value))}]"
    if isinstance(value, Mapping):
        return repr(dict(value))
    return repr(value)
