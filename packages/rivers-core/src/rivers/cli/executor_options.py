"""Make the executor of a run from `--executor KIND` and `--set name=value`, typed by the executor's own fields."""

from __future__ import annotations

import dataclasses
import enum
import json
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any

from rivers._definitions.executor import BUILT_IN, Executor
from rivers._definitions.names import did_you_mean
from rivers._executor.registry import default_of, installed
from rivers._plan.placement import Placement
from rivers.cli.errors import CommandError

__all__ = ["find_executor", "make_executor", "parse_pairs", "set_fields"]

_NONE = ("none", "null")
_FLAGS = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}


def make_executor(kind: str | None, settings: Sequence[str], placement: Placement) -> Executor | None:
    """Return the executor that the options ask for, None where they ask for none.

    A kind means the executor of that kind that the job or the repository configures, else one with defaults, as in
    `rivers/executor`. Settings without a kind change the executor of steps that name none.

    Raises:
        CommandError: an unknown kind or field, or a value that does not fit the field.
        ConfigurationError: the executor refuses a value.
    """
    if kind is None and not settings:
        return None
    executor = find_executor(kind, placement) if kind is not None else placement.base
    return set_fields(executor, parse_pairs(settings, "--set"))


def find_executor(kind: str, placement: Placement) -> Executor:
    """Return the executor of a kind, or of a name in `CodeRepository(executors=...)`.

    Raises:
        CommandError: there is none.
        ExecutorNotInstalledError: its package cannot be imported.
    """
    found = placement.find(kind)
    if found is not None:
        return found
    if kind in installed():
        # The reason why the package cannot be used.
        return default_of(kind)
    names = sorted({*placement.names, *installed(), *BUILT_IN})
    raise CommandError(
        f"invalid --executor {kind!r}: expected one of {', '.join(names)}{did_you_mean(kind, names)}",
        hint="`rivers executors` lists those that are installed",
    )


def parse_pairs(texts: Iterable[str], option: str) -> dict[str, str]:
    """Return `name=value` texts as a dict.

    Raises:
        CommandError: a text has no `=` or no name.
    """
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise CommandError(f"invalid {option} {text!r}: expected name=value")
        found[name.strip()] = value
    return found


def set_fields(executor: Executor, settings: Mapping[str, str]) -> Executor:
    """Return the executor with fields replaced by values that are given as text.

    Raises:
        CommandError: there is no such field, or the value is not of its type.
        ConfigurationError: the executor refuses the value.
    """
    if not settings:
        return executor
    # Fields that the constructor does not take are computed from the others.
    fields = {field.name: field for field in dataclasses.fields(executor) if field.init}
    try:
        hints = typing.get_type_hints(type(executor))
    except NameError:
        # A third party's annotations may name what only type checkers import; the text is passed on then.
        hints = {}
    values: dict[str, Any] = {}
    for name, text in settings.items():
        if name not in fields:
            known = f"its fields are {', '.join(fields)}" if fields else "it has no fields; --executor chooses another"
            raise CommandError(
                f"invalid --set {name}: the executor {executor.kind!r} has no such field{did_you_mean(name, fields)}",
                hint=known,
            )
        hint = hints.get(name, str)
        try:
            values[name] = parse_value(text, hint)
        except ValueError:
            raise CommandError(f"invalid --set {name}={text!r}: expected {describe_hint(hint)}") from None
    return dataclasses.replace(executor, **values)


def parse_value(text: str, hint: Any) -> Any:
    """Return the value that a text stands for in a field of that type; the narrowest type of a union wins.

    Raises:
        ValueError: the text is none of the types.
    """
    # From the narrowest type to the widest, as text fits them all.
    options = _members(hint)
    lowered = text.strip().lower()
    if type(None) in options and lowered in _NONE:
        return None
    if bool in options and lowered in _FLAGS:
        return _FLAGS[lowered]
    for option in options:
        if isinstance(option, type) and issubclass(option, enum.Enum):
            return option(text)
    for option in (int, float):
        if option in options:
            try:
                return option(text)
            except ValueError:
                continue
    if timedelta in options:
        return timedelta(seconds=float(text))
    literals = [value for option in options for value in typing.get_args(option) if _is_literal(option)]
    for value in literals:
        if str(value) == text:
            return value
    if any(_is_json(option) for option in options) and text.lstrip()[:1] in ("{", "["):
        return json.loads(text)
    if str in options or not (literals or set(options) <= {int, float, bool, type(None)}):
        return text
    raise ValueError(text)


def _members(hint: Any) -> tuple[Any, ...]:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(member for option in typing.get_args(hint) for member in _members(option))
    return (hint,)


def _is_literal(option: Any) -> bool:
    return typing.get_origin(option) is typing.Literal


def _is_json(option: Any) -> bool:
    origin = typing.get_origin(option) or option
    return isinstance(origin, type) and issubclass(origin, Mapping | list | tuple)


def describe_hint(hint: Any) -> str:
    """Return a type as a person reads it: `a whole number or none`."""
    words = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "none"}
    found: list[str] = []
    for option in _members(hint):
        if _is_literal(option):
            found += [str(value) for value in typing.get_args(option)]
        elif isinstance(option, type) and issubclass(option, enum.Enum):
            found += [str(member.value) for member in option]
        else:
            found.append(words.get(option, "JSON" if _is_json(option) else getattr(option, "__name__", str(option))))
    return " or ".join(dict.fromkeys(found))
