"""Checks of single arguments. Every error reads `invalid {name}={value}: expected {what}`.

Checks return the value in its plain form: an `int` for a numpy integer, seconds for a `timedelta`, a `str` for a member
of a `StrEnum`. A bool is never a number.
"""

from __future__ import annotations

import dataclasses
import enum
import math
import os
import re
from collections.abc import Iterable, Mapping
from datetime import timedelta
from numbers import Integral, Real
from typing import Any

from rivers.exceptions import ConfigurationError, DefinitionError

__all__ = [
    "argument_error",
    "as_text",
    "check_count",
    "check_flag",
    "check_number",
    "check_seconds",
    "check_text",
    "constructor_repr",
    "plain_number",
    "plain_text",
    "short_repr",
]


def short_repr(value: object) -> str:
    """Return a value's repr for an error text: one line of at most 80 characters, whatever the value is."""
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - a user's repr may raise anything, and our error must still come out
        text = f"<{type(value).__name__} without a repr>"
    # An error text is one line of a log.
    text = text.replace("\n", " ")
    return text if len(text) <= 80 else f"{text[:79]}…"


def argument_error(
    name: str,
    value: object,
    expected: str,
    hint: str | None = None,
    *,
    owner: str = "",
    error: type[DefinitionError] = ConfigurationError,
) -> DefinitionError:
    """Return the error for one argument; `owner` is whose argument it is, such as `asset 'orders'`."""
    text = short_repr(value)
    kind = type(value).__name__
    given = text if isinstance(value, str | int | float | list | dict | type | None) else f"{text} (of type {kind})"
    return error(f"{owner}{': ' if owner else ''}invalid {name}={given}: expected {expected}", hint=hint)


def plain_text(value: object) -> str | None:
    """Return a str as itself and a member of a string enum as its text, None for anything else."""
    if not isinstance(value, str):
        return None
    # str(member) of a class E(str, Enum) is "E.MEMBER"; this is the text that it holds.
    return value if type(value) is str else str.__str__(value)


def plain_number(value: object) -> int | float | None:
    """Return a number (int, float, Fraction, numpy's) as an int or a float, None for anything else and for a bool."""
    # A bool is an int in Python, and never a number that somebody means.
    if isinstance(value, bool):
        return None
    # numpy registers its numbers with these abstract classes.
    if isinstance(value, Integral):
        return int(value)
    return float(value) if isinstance(value, Real) else None


def as_text(value: object) -> str | None:
    """Return text, a number or a path as text for a command line or an environment; None for anything else."""
    if isinstance(value, os.PathLike):
        path = os.fspath(value)
        return path if isinstance(path, str) else None
    number = plain_number(value)
    return str(number) if number is not None else plain_text(value)


def check_count(
    name: str,
    value: object,
    *,
    least: int = 1,
    most: int | None = None,
    optional: bool = False,
    owner: str = "",
    error: type[DefinitionError] = ConfigurationError,
) -> int | None:
    """Return a whole number within the limits, or None where it is optional.

    Raises:
        DefinitionError: the value is something else, a bool or a float among them.
    """
    if optional and value is None:
        return None
    number = plain_number(value)
    if isinstance(number, int) and least <= number and (most is None or number <= most):
        return number
    # A float is refused, also a whole one: nobody computes a number of workers.
    span = f"from {least} to {most}" if most is not None else f"of at least {least}"
    raise argument_error(
        name, value, f"a whole number {span}{' or None' if optional else ''}", owner=owner, error=error
    )


def check_number(
    name: str,
    value: object,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    optional: bool = False,
) -> float | None:
    """Return a finite number that is >= `least`, > `above` and <= `most`, or None where it is optional.

    Raises:
        ConfigurationError: the value is something else, a bool among them.
    """
    if optional and value is None:
        return None
    number = plain_number(value)
    if number is not None and _is_within(number, least, above, most):
        return number
    raise argument_error(
        name, value, f"a number {_limits(least, above, most)}{' or None' if optional else ''}".rstrip()
    )


def check_seconds(
    name: str,
    value: object,
    *,
    least: float | None = None,
    above: float | None = None,
    most: float | None = None,
    owner: str = "",
    error: type[DefinitionError] = ConfigurationError,
) -> float:
    """Return seconds within the limits, given as a number or a `timedelta`.

    Raises:
        DefinitionError: the value is something else, a bool or text among them.
    """
    number = value.total_seconds() if isinstance(value, timedelta) else plain_number(value)
    if number is not None and _is_within(number, least, above, most):
        return number
    hint = (
        f"write {name}={value}, a number"
        if isinstance(value, str) and re.fullmatch(r"[0-9]+(\.[0-9]+)?", value)
        else None
    )
    expected = f"a number of seconds {_limits(least, above, most)}, or a timedelta"
    raise argument_error(name, value, expected, hint, owner=owner, error=error)


def _is_within(number: float, least: float | None, above: float | None, most: float | None) -> bool:
    return (
        (isinstance(number, int) or math.isfinite(number))
        and (least is None or number >= least)
        and (above is None or number > above)
        and (most is None or number <= most)
    )


def _limits(least: float | None, above: float | None, most: float | None) -> str:
    words = (("of at least", least), ("above", above), ("up to", most))
    return " and ".join(f"{word} {limit:,}" for word, limit in words if limit is not None)


def check_flag(name: str, value: object) -> bool:
    """Return True or False.

    Raises:
        ConfigurationError: the value is something else, 0 and 1 among them.
    """
    if not isinstance(value, bool):
        raise argument_error(name, value, "True or False")
    return value


def check_text(name: str, value: object, expected: str, pattern: re.Pattern[str], *, most: int = 4096) -> str:
    """Return text of at most `most` characters that matches `pattern` from end to end.

    Raises:
        ConfigurationError: the value is something else.
    """
    text = plain_text(value)
    if text is None or len(text) > most or not pattern.fullmatch(text):
        raise argument_error(name, value, expected)
    return text


def constructor_repr(value: Any, *, name: str, first: str | None = None, always: Iterable[str] = ()) -> str:
    """Return the call `name(field=value, …)` that makes an equal value of a frozen dataclass.

    `first` is the field that comes first and without its name. A field at its default is left out, unless `always` has
    it.
    """
    fields = [field for field in dataclasses.fields(value) if field.name != first]
    parts = [_literal(getattr(value, first))] if first is not None else []
    parts += [
        f"{field.name}={_literal(given)}"
        for field in fields
        if (given := getattr(value, field.name)) != field.default or field.name in always
    ]
    return f"{name}({', '.join(parts)})"


def _literal(value: object) -> str:
    # The repr of a member, `<RetryOn.ALL: 'all'>`, cannot be pasted back.
    if isinstance(value, enum.Enum):
        return str(value)
    if isinstance(value, type):
        return value.__qualname__
    if isinstance(value, tuple):
        return f"[{', '.join(map(_literal, value))}]"
    if isinstance(value, Mapping):
        return repr(dict(value))
    return repr(value)
