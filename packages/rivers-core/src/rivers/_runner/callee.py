"""What is called: a function with its signature, the checks of its outputs, the way its context is made."""

from __future__ import annotations

import typing
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any

from pydantic import (
    ConfigDict,
    PydanticSchemaGenerationError,
    PydanticUserError,
    TypeAdapter,
    ValidationError,
)

from rivers._definitions.asset import Asset, MultiAsset
from rivers._definitions.output import Output
from rivers._definitions.signature import Signature
from rivers._definitions.task import Task
from rivers.exceptions import AssetDefinitionError, RefResolutionError

__all__ = ["Callee", "checker"]

Check = Callable[[Any], "str | None"]


class Callee:
    """A function ready to be called by specs: made once per function and worker."""

    __slots__ = ("checks", "config_model", "context", "function", "hints", "positional", "signature")

    def __init__(self, found: Any) -> None:
        if isinstance(found, Asset | Task):
            if found.function is None or found.signature is None:
                raise RefResolutionError(f"{found!r} has no function to call")
            self.signature = found.signature
        elif callable(found):
            self.signature = Signature(found, AssetDefinitionError)
        else:
            raise RefResolutionError(f"{found!r:.80} is no function, Asset or Task")
        self.function = self.signature.function
        self.context = self.signature.context
        self.positional = tuple(p.name for p in self.signature.parameters if p.positional_only)
        self.hints = self.signature.hints
        self.config_model = self.signature.config_model if self.context is not None else None
        self.checks: dict[str, Check | None] = {}
        streamed = self.signature.is_generator or self.signature.is_async_generator
        hint = self.hints.get("return")
        self.checks[""] = None if streamed or hint is None else checker(hint)
        if isinstance(found, MultiAsset):
            for output in found.output_defs:
                self.checks[output.name] = checker(output.type_hint) if output.type_hint is not None else None


_STRICT = ConfigDict(strict=True, arbitrary_types_allowed=True)
_STREAMS = (Iterator, Generator, AsyncIterator)
_cache: dict[Any, Check | None] = {}


def checker(hint: Any) -> Check | None:
    """A function that says what is wrong with a value for this hint, or None where nothing can be checked.

    Plain classes are checked by isinstance (an int is a float, as for type checkers); containers and unions, with all
    their elements, by pydantic in strict mode.
    """
    try:
        return _cache[hint]
    except KeyError:
        found = _cache[hint] = _make(hint)
        return found
    except TypeError:  # an unhashable hint
        return _make(hint)


def _make(hint: Any) -> Check | None:
    if hint in (Any, object, Output) or isinstance(hint, typing.TypeVar):
        return None
    origin = typing.get_origin(hint)
    if isinstance(hint, type) and origin is None and not typing.is_typeddict(hint):
        return _by_class(hint)
    if isinstance(origin, type) and issubclass(origin, _STREAMS):
        return None
    try:
        adapter: TypeAdapter[Any] = TypeAdapter(hint, config=_STRICT)
    except PydanticUserError:
        try:  # a TypedDict or a dataclass brings a configuration of its own
            adapter = TypeAdapter(hint)
        except (PydanticSchemaGenerationError, PydanticUserError):
            return None
    except (PydanticSchemaGenerationError, TypeError, NameError):
        return _by_class(origin) if isinstance(origin, type) else None

    def check(value: Any) -> str | None:
        try:
            adapter.validate_python(value)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            place = ".".join(str(part) for part in first["loc"])
            return f"expected {_shown(hint)}, got {type(value).__name__}" + (
                f": at {place}: {first['msg']}" if place else ""
            )
        return None

    return check


def _by_class(cls: type) -> Check:
    allowed: tuple[type, ...] = (cls,)
    if cls is float:
        allowed = (float, int)
    elif cls is complex:
        allowed = (complex, float, int)

    def check(value: Any) -> str | None:
        if isinstance(value, allowed):
            return None
        return f"expected {_shown(cls)}, got {type(value).__name__}"

    return check


def _shown(hint: Any) -> str:
    if isinstance(hint, type) and typing.get_origin(hint) is None:
        return "None" if hint is type(None) else hint.__qualname__
    return str(hint).replace("typing.", "")
