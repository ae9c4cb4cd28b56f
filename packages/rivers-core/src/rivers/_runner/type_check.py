"""Check values against type hints as a type checker reads them, with all elements of containers.

A value fits a class if it is an instance of it: a subclass fits everywhere, an int is a float, a bool is an int.
Nothing is converted. Properties that a value does not show (a type variable, the items of an iterator, the dtype of an
array) are not checked. Pydantic checks the constraints in `Annotated`.
"""

from __future__ import annotations

import types
import typing
import warnings
from collections import abc
from collections.abc import Callable
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUserError

from rivers._io.one_shot import PLAIN_MODULES

__all__ = ["Check", "checker"]

Check = Callable[[Any], "str | None"]

_UNCHECKED = (Any, object, typing.NoReturn, typing.Never, typing.Self)
_AWAITED = (abc.Awaitable, abc.Coroutine)
_STREAMS = (abc.Iterator, abc.AsyncIterable)
_WIDER: dict[type, tuple[type, ...]] = {float: (float, int), complex: (complex, float, int)}
_cache: dict[Any, Check | None] = {}


def checker(hint: Any) -> Check | None:
    """Return a function that describes how a value breaks the hint, or None if nothing can be checked."""
    try:
        return _cache[hint]
    except KeyError:
        found = _cache[hint] = _make(hint)
        return found
    except TypeError:
        # An unhashable hint.
        return _make(hint)


def _make(hint: Any) -> Check | None:
    if hint is None:
        return _by_class(type(None))
    if hint is typing.LiteralString:
        return _by_class(str)
    if hint in _UNCHECKED:
        return None
    origin = typing.get_origin(hint)
    if origin is not None:
        return _generic(hint, origin, typing.get_args(hint))
    if isinstance(hint, typing.NewType):
        return checker(hint.__supertype__)
    if typing.is_typeddict(hint):
        return _typed_dict(hint)
    # A `type` statement; looked into when it is used, as it may name itself.
    if hasattr(hint, "__value__"):
        return lambda value: _problem(checker(hint.__value__), value)
    return _by_class(hint) if isinstance(hint, type) else None


def _alias_value(alias: Any, arguments: tuple[Any, ...]) -> Any:
    try:
        return alias.__value__[arguments]
    except TypeError:
        # It uses none of its parameters.
        return alias.__value__


def _generic(hint: Any, origin: Any, arguments: tuple[Any, ...]) -> Check | None:
    # A `type` statement with parameters, such as `NDArray` in numpy's releases for Python 3.12 and newer.
    if hasattr(origin, "__value__"):
        return lambda value: _problem(checker(_alias_value(origin, arguments)), value)
    if origin in (typing.Union, types.UnionType):
        return _union(hint, arguments)
    if origin is typing.Literal:
        return _literal(hint, arguments)
    if origin is typing.Annotated:
        return _annotated(hint, arguments)
    if origin in (typing.Final, typing.ClassVar, typing.Required, typing.NotRequired):
        return checker(arguments[0])
    if not isinstance(origin, type):
        return None
    # A plain function that returns a coroutine: its value is what comes of awaiting that.
    if origin in _AWAITED:
        return checker(arguments[-1])
    if issubclass(origin, _STREAMS):
        return None
    if origin is type:
        return _a_class(hint, arguments[0])
    whole = _by_class(origin)
    if whole is None or origin.__module__ not in ("builtins", "collections", "collections.abc"):
        # What a stranger's class does with its arguments is not known.
        return whole
    if origin is tuple:
        return _tuple(hint, whole, arguments)
    if issubclass(origin, abc.Mapping) and len(arguments) == 2:
        return _mapping(hint, whole, checker(arguments[0]), checker(arguments[1]))
    if issubclass(origin, abc.Iterable) and len(arguments) == 1:
        return _elements(hint, whole, checker(arguments[0]), arguments[0])
    return whole


def _by_class(cls: type) -> Check | None:
    if cls.__module__ in PLAIN_MODULES and issubclass(cls, _STREAMS):
        # A list of the iterator's items is what arrives here.
        return None
    allowed = _WIDER.get(cls, (cls,))
    try:
        isinstance(None, allowed)
    except TypeError:
        # A Protocol that is not runtime_checkable.
        return None
    return lambda value: None if isinstance(value, allowed) else _wrong(cls, value)


def _union(hint: Any, members: tuple[Any, ...]) -> Check | None:
    checks = [one for member in members if (one := checker(member)) is not None]
    if len(checks) < len(members):
        return None

    def check(value: Any) -> str | None:
        problems = [one(value) for one in checks]
        if None in problems:
            return None
        inside = next((problem for problem in problems if problem is not None and ": at " in problem), None)
        return inside or _wrong(hint, value)

    return check


def _literal(hint: Any, allowed: tuple[Any, ...]) -> Check:
    def check(value: Any) -> str | None:
        if any(type(value) is type(one) and value == one for one in allowed):
            return None
        return f"expected {_describe_hint(hint)}, got {value!r:.80}"

    return check


def _annotated(hint: Any, arguments: tuple[Any, ...]) -> Check | None:
    inner = checker(arguments[0])
    if not any(type(one).__module__.partition(".")[0] in ("annotated_types", "pydantic") for one in arguments[1:]):
        return inner
    try:
        with warnings.catch_warnings(action="ignore"):
            adapter: TypeAdapter[Any] = TypeAdapter(hint, config={"arbitrary_types_allowed": True})
    except (PydanticUserError, TypeError):
        return inner

    def check(value: Any) -> str | None:
        problem = _problem(inner, value)
        if problem is None:
            try:
                adapter.validate_python(value)
            except ValidationError as error:
                problem = f"expected {_describe_hint(hint)}: {error.errors(include_url=False)[0]['msg']}"
        return problem

    return check


def _a_class(hint: Any, base: Any) -> Check:
    def check(value: Any) -> str | None:
        fits = isinstance(value, type) and (not isinstance(base, type) or issubclass(value, base))
        got = _describe_hint(value) if isinstance(value, type) else f"{value!r:.80}"
        return None if fits else f"expected {_describe_hint(hint)}, got {got}"

    return check


def _tuple(hint: Any, whole: Check, arguments: tuple[Any, ...]) -> Check:
    if len(arguments) == 2 and arguments[1] is Ellipsis:
        return _elements(hint, whole, checker(arguments[0]), arguments[0])
    if any(typing.get_origin(one) is typing.Unpack for one in arguments):
        return whole
    checks = [checker(one) for one in arguments]

    def check(value: Any) -> str | None:
        if whole(value) is not None or len(value) != len(checks):
            length = f" of {len(value)}" if isinstance(value, tuple) else ""
            return _wrong(hint, value) + length
        return next(
            (
                _inside(hint, value, position, problem)
                for position, (one, element) in enumerate(zip(checks, value, strict=True))
                if (problem := _problem(one, element)) is not None
            ),
            None,
        )

    return check


def _elements(hint: Any, whole: Check, element: Check | None, kind: Any) -> Check:
    exact = set(_WIDER.get(kind, (kind,))) if isinstance(kind, type) else set()

    def check(value: Any) -> str | None:
        if whole(value) is not None:
            return _wrong(hint, value)
        if element is None or not isinstance(value, abc.Collection):
            # The items of an iterator are not touched.
            return None
        # Without a call per element: a million ints take 20 ms.
        if exact and set(map(type, value)) <= exact:
            return None
        for position, item in enumerate(value):
            problem = element(item)
            if problem is not None:
                return _inside(hint, value, position, problem)
        return None

    return check


def _mapping(hint: Any, whole: Check, key: Check | None, item: Check | None) -> Check:
    def check(value: Any) -> str | None:
        if whole(value) is not None:
            return _wrong(hint, value)
        for name, element in value.items():
            problem = _problem(key, name)
            if problem is not None:
                return _inside(hint, value, f"the key {name!r:.80}", problem)
            problem = _problem(item, element)
            if problem is not None:
                return _inside(hint, value, f"{name!r:.80}", problem)
        return None

    return check


def _typed_dict(hint: Any) -> Check:
    def check(value: Any) -> str | None:
        if not isinstance(value, dict):
            return _wrong(hint, value)
        for name, field in typing.get_type_hints(hint, include_extras=True).items():
            if name in value:
                problem = _problem(checker(field), value[name])
                if problem is not None:
                    return _inside(hint, value, repr(name), problem)
            elif _is_required(hint, name, field):
                return f"expected {_describe_hint(hint)}, got dict without {name!r}"
        return None

    return check


def _is_required(hint: Any, name: str, field: Any) -> bool:
    # `__required_keys__` takes NotRequired for required where annotations are strings.
    origin = typing.get_origin(field)
    return origin is typing.Required or (origin is not typing.NotRequired and name in hint.__required_keys__)


def _problem(check: Check | None, value: Any) -> str | None:
    return check(value) if check is not None else None


def _wrong(hint: Any, value: Any) -> str:
    cls = type(value)
    expected, got = _describe_hint(hint), _describe_hint(cls)
    if isinstance(hint, type) and (hint.__module__, hint.__qualname__) == (cls.__module__, cls.__qualname__):
        return (
            f"expected {expected}, got an instance of another class {got}: {cls.__module__}.{got} was defined again; "
            "define the asset again as well"
        )
    # numpy.bool and bool, or a class of the same name in another module.
    if expected == got:
        got = f"{cls.__module__}.{got}"
    return f"expected {expected}, got {got}"


def _inside(hint: Any, value: Any, place: object, problem: str) -> str:
    return f"expected {_describe_hint(hint)}, got {_describe_hint(type(value))}: at {place}: {problem}"


def _describe_hint(hint: Any) -> str:
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return " | ".join(_describe_hint(member) for member in typing.get_args(hint))
    if isinstance(hint, type) and typing.get_origin(hint) is None:
        return "None" if hint is type(None) else hint.__qualname__
    return str(hint).replace("typing.", "")
