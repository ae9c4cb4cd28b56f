"""What people give to a repository, checked: lists, dicts by name, selections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rivers._definitions.asset import Asset
from rivers._definitions.names import closest, refusal
from rivers._definitions.task import BashTask, Task
from rivers._io.base import BaseIOHandler
from rivers.exceptions import ConfigurationError

__all__ = ["check_default_handler", "dict_of", "list_of", "names_of"]


def names_of(selection: Any) -> tuple[Any, ...]:
    """The names of a selection: of one asset or task, or of several."""
    if isinstance(selection, str | Asset | Task | BashTask):
        return (getattr(selection, "name", selection),)
    if not isinstance(selection, Iterable):
        raise ConfigurationError(f"selection={selection!r:.80}: assets, their names or a list of them is allowed")
    names = tuple(item.name if isinstance(item, Asset | Task | BashTask) else item for item in selection)
    for name in names:
        if not isinstance(name, str):
            raise ConfigurationError(f"selection holds {name!r:.80}: an asset or the name of one is allowed")
    return names


def list_of(what: str, given: Any, kinds: tuple[type, ...], hint: str) -> list[Any]:
    """A list of objects of these kinds."""
    if isinstance(given, str | bytes) or not isinstance(given, Sequence):
        raise ConfigurationError(f"{what}={given!r:.80}: a list is allowed", hint=hint)
    for item in given:
        if not isinstance(item, kinds):
            raise ConfigurationError(f"{what} holds {item!r:.80}, which is no {kinds[0].__name__}", hint=hint)
    return list(given)


def dict_of(what: str, given: Any, kinds: tuple[type, ...], allowed: str) -> dict[str, Any]:
    """A dict of objects of these kinds by name; None is an empty one."""
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{what}={given!r:.80}: a dict by name is allowed")
    for name, value in given.items():
        if not isinstance(name, str) or not name:
            raise ConfigurationError(f"{what}: the name {name!r:.80} is no str, or empty")
        if not isinstance(value, kinds):
            raise ConfigurationError(f"{what}[{name!r}]={value!r:.80}: {allowed} is allowed")
    return dict(given)


def check_default_handler(given: Any, resources: Mapping[str, Any]) -> BaseIOHandler | None:
    """The IO handler that is meant: itself, or the one of that name among the resources."""
    if given is None or isinstance(given, BaseIOHandler):
        return given
    handlers = {name: value for name, value in resources.items() if isinstance(value, BaseIOHandler)}
    allowed = "an IO handler, the name of one among the resources, or None,"
    if not isinstance(given, str):
        raise refusal("default_io_handler", given, allowed)
    if given not in handlers:
        near = closest(given, handlers)
        hint = f"did you mean {near!r}?" if near else f"handlers among the resources: {', '.join(handlers) or 'none'}"
        raise refusal("default_io_handler", given, allowed, hint)
    return handlers[given]
