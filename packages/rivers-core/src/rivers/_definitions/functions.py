"""The function that a definition wraps, and the name that it lends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rivers._definitions.arguments import short_repr
from rivers._definitions.hints import function_hint
from rivers._definitions.names import check_name
from rivers._definitions.signature import Signature
from rivers.exceptions import DefinitionError

__all__ = ["check_function", "definition_name"]


def check_function(function: object, what: str, error: type[DefinitionError]) -> Callable[..., Any] | None:
    """Return the function that a `what` (asset or task) wraps, taken out of a staticmethod; None for a decorator.

    Raises:
        DefinitionError: it cannot be wrapped; the hint depends on what it is.
    """
    if isinstance(function, staticmethod):
        function = function.__func__
    if function is None:
        return None
    # A definition is callable, too, so it must be recognised before.
    if isinstance(getattr(function, "signature", None), Signature):
        raise error(f"{function!r} is a definition already and cannot become a second one", hint="decorate it once")
    if isinstance(getattr(function, "command", None), str | list):
        raise error(f"{function!r} is a bash task and cannot be wrapped", hint="compose it in @rs.Asset.from_graph")
    if not callable(function):
        raise error(
            f"invalid function {short_repr(function)} (of type {type(function).__name__}): expected a function for "
            f"the {what} to wrap",
            hint=function_hint(function, what),
        )
    return function


def definition_name(function: Any, name: object, what: str, error: type[DefinitionError]) -> str:
    """Return the name of what wraps `function`: the given one, else the function's own; empty for a decorator.

    Raises:
        DefinitionError: the name is invalid, or the function has none.
    """
    if name is None and function is None:
        return ""
    if name is not None:
        return check_name(name, what, error=error)
    if isinstance(function, type):
        raise error(
            f"invalid function {short_repr(function)}: expected a function, not a class, for the {what} to wrap",
            hint=function_hint(function, what),
        )
    own = getattr(function, "__name__", None)
    if own is None or own == "<lambda>":
        described = "a lambda" if own is not None else short_repr(function)
        raise error(f"{described} has no name of its own", hint=f'give the {what} one: name="..."')
    return check_name(own, what, error=error)
