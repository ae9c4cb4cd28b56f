"""Checks of structs as code: every step is held to its limits four times, and most values are as they should be.

A struct's check is written out field by field and compiled, as dataclasses do with theirs. It says only whether all is
well; where something is not, the plain check is asked, which finds the field and says what is allowed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["Quick", "compiled"]

Check = Callable[[Any], None]


class Quick:
    """A check and an expression over `item` that is true for nearly all that passes it: then it is not called."""

    def __init__(self, check: Check, passes: str) -> None:
        self.check = check
        self.passes = passes

    def __call__(self, value: Any) -> None:
        """Check a value, also one that the expression is not true for."""
        self.check(value)


def compiled(cls: type, fields: Sequence[tuple[str, Check, object]], plain: Check) -> Check:
    """The check of a struct: `fields` are names, their checks, and what needs no check; `plain` does the same slowly.

    `plain` is called for what is not found good, and raises.
    """
    scope: dict[str, Any] = {"cls": cls, "plain": plain}
    lines = ["def check(value):", " if type(value) is not cls: plain(value)", " try:"]
    for number, (name, check, default) in enumerate(fields):
        scope[f"check{number}"], scope[f"default{number}"] = check, default
        passes = f" and not ({check.passes})" if isinstance(check, Quick) else ""
        lines.append(f"  item = value.{name}")
        lines.append(f"  if item is not default{number}{passes}: check{number}(item)")
    lines += [" except Exception: plain(value); raise"]
    exec("\n".join(lines), scope)  # noqa: S102 - names of fields and expressions of this package
    found: Check = scope["check"]
    return found
