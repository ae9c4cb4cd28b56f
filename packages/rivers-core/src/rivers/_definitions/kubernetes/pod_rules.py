"""What a pod template is judged by: rules, each a function that refuses a value at a path, put together as data.

`pod_template.py` is the table made of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from rivers._definitions.arguments import short_repr
from rivers._definitions.names import closest
from rivers.exceptions import ConfigurationError

__all__ = ["Rule", "both", "each", "fields", "free", "items", "mapping", "one_of", "ours", "refused", "safe", "text"]

Rule: TypeAlias = Callable[[Any, str, bool], None]
"""Refuses a value at a path; the flag is whether to let through what loosens the pod."""


def refused(path: str, value: object, allowed: str, hint: str | None = None) -> ConfigurationError:
    """The error for a value. It shows no more than one plain value: what is longer may hold what is not for logs."""
    given = f"={short_repr(value)}" if value is None or isinstance(value, str | int | float) else f" ({_kind(value)})"
    return ConfigurationError(f"{path}{given}: {allowed} is allowed", hint=hint)


def _kind(value: object) -> str:
    names = ((Mapping, "an object"), (list, "a list"), (bool, "a bool"), (str, "a str"))
    return next((name for kind, name in names if isinstance(value, kind)), "a number")


def free(value: Any, path: str, insecure: bool) -> None:
    """Anything."""


def text(value: Any, path: str, insecure: bool) -> None:
    """A str. What was given instead is not shown: it may be a password without quotes."""
    if not isinstance(value, str):
        raise ConfigurationError(f"{path} ({_kind(value)}): a str is allowed", hint="write it in quotes")


def ours(hint: str, *same: object) -> Rule:
    """What rivers sets itself: nothing but the `same`. `hint` says why, or where else to set it."""
    allowed = " or ".join(map(repr, same)) or "nothing"

    def rule(value: Any, path: str, insecure: bool) -> None:
        if value not in same:
            raise refused(path, value, f"{allowed}, as rivers sets it,", hint)

    return rule


def safe(accepts: Callable[[Any], bool], allowed: str) -> Rule:
    """What keeps the pod as restricted as it is: values that `accepts` takes, which `allowed` describes."""

    def rule(value: Any, path: str, insecure: bool) -> None:
        if not insecure and not accepts(value):
            hint = "what loosens the pod's security needs rs.Executor.kubernetes(allow_insecure_pod=True)"
            raise refused(path, value, allowed, hint)

    return rule


def one_of(*values: str) -> Rule:
    """What keeps the pod as restricted as it is: one of these."""
    return safe(lambda value: value in values, f"one of {', '.join(map(repr, values))}")


def both(first: Rule, second: Rule) -> Rule:
    """What both rules accept."""

    def rule(value: Any, path: str, insecure: bool) -> None:
        first(value, path, insecure)
        second(value, path, insecure)

    return rule


def each(names: str, rule: Rule) -> dict[str, Rule]:
    """The same rule for several fields."""
    return dict.fromkeys(names.split(), rule)


def fields(kind: str, names: str = "", /, **rules: Rule) -> Rule:
    """An object of the Kubernetes API: the names of its fields that may hold anything, and rules for the others."""
    known = each(names, free) | rules

    def rule(value: Any, path: str, insecure: bool) -> None:
        if not isinstance(value, Mapping):
            raise refused(path, value, f"an object, {kind},")
        for name, given in value.items():
            if name not in known and not insecure:
                near = closest(name, known)
                hint = f"did you mean {near!r}?" if near else f"its fields are {', '.join(sorted(known))}"
                raise ConfigurationError(f"{path}.{name}: a field of {kind} is allowed, and this is none", hint=hint)
            if given is not None:
                known.get(name, free)(given, f"{path}.{name}", insecure)

    return rule


def mapping(rule_of: Callable[[str], Rule]) -> Rule:
    """An object with names of the user's own; `rule_of` has the rule for each."""

    def rule(value: Any, path: str, insecure: bool) -> None:
        if not isinstance(value, Mapping):
            raise refused(path, value, "an object")
        for name, given in value.items():
            if given is not None:
                rule_of(name)(given, f"{path}[{name!r}]", insecure)

    return rule


def items(item: Rule, key: str | None = None) -> Rule:
    """A list. Where it has a `key`, its items are objects that are told apart by that field."""

    def rule(value: Any, path: str, insecure: bool) -> None:
        if not isinstance(value, list):
            raise refused(path, value, "a list")
        named: dict[str, int] = {}
        for number, given in enumerate(value):
            item(given, f"{path}[{number}]", insecure)
            if key is not None:
                name, at = given.get(key), f"{path}[{number}].{key}"
                text("" if name is None else name, at, insecure)
                if not name:
                    raise refused(at, name, "a str that is not empty")
                if named.setdefault(name, number) != number:
                    raise refused(at, name, "another one", f"{path}[{named[name]}] has it already")

    return rule
