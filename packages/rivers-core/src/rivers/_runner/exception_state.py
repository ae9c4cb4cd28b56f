"""Carry an exception across a process boundary as plain data, and build it again on the other side.

    worker                                            controller
    error ── args, attributes ──▶ Failure ── class among the loaded modules ──▶ error of the same type and text, or None

Plain data are None, bool, int, float, str, bytes, and lists, tuples and dicts of them. In JSON, what JSON has no value
for is an object of one member that names its kind: `{"bytes": "aGk="}`, `{"tuple": [1]}`, `{"dict": [["a", 1]]}`.
"""

from __future__ import annotations

import base64
import builtins
import contextlib
import inspect
import math
import sys
from collections.abc import Iterable, Sequence
from types import GetSetDescriptorType, MemberDescriptorType
from typing import Any

import msgspec

from rivers.protocol.exception_text import MAX_TEXT, clip, exception_text, type_name
from rivers.protocol.failure import Failure

__all__ = ["UnplainError", "is_json", "rebuild", "write_state"]

DEPTH = 24
"""JSON levels of a state; the protocol allows 32."""
MAX_VALUES = 2000
"""Values of a state, members of its containers included."""


class UnplainError(Exception):
    """A value that does not travel: it is no plain data, or there is too much of it."""


# ── the worker's side ──


def write_state(error: BaseException, args_travel: bool) -> str | None:
    """Return the plain arguments and attributes of an exception as a JSON object, None where there is nothing to add.

    `args_travel` says that `Failure.args` holds the arguments. An attribute that is not plain, or for which there is no
    room in `MAX_TEXT` bytes, is left out and counted in `omitted`. Never raises.
    """
    try:
        state = _Writer().state(error, args_travel)
        return msgspec.json.encode(state).decode() if state else None
    except BaseException:  # noqa: BLE001 - looking at a user's exception may raise anything
        return None


def is_json(values: Sequence[Any]) -> bool:
    """Return whether JSON has these very values, so that any language reads them without a word on kinds."""
    return all(_is_json(value) for value in values)


def _is_json(value: Any) -> bool:
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, int):
        return abs(value) < 2**63
    return isinstance(value, str | None)


class _Writer:
    """Writes values until `MAX_VALUES` or `MAX_TEXT` is reached."""

    def __init__(self) -> None:
        self._values = MAX_VALUES
        self._bytes = MAX_TEXT

    def state(self, error: BaseException, args_travel: bool, depth: int = DEPTH) -> dict[str, Any]:
        state: dict[str, Any] = {}
        if not args_travel:
            try:
                state["args"] = [self.plain(value, depth - 2) for value in error.args]
            except UnplainError:
                state["omitted"] = 1
        attributes: dict[str, Any] = {}
        for name, value in _attributes(error):
            try:
                attributes[name] = self.plain(value, depth - 2)
            except UnplainError:
                state["omitted"] = state.get("omitted", 0) + 1
        if attributes:
            state["attributes"] = attributes
        return state

    def plain(self, value: Any, depth: int) -> Any:
        self._values -= 1
        if self._values < 0 or depth < 0:
            raise UnplainError
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str | bytes | int | float):
            return self._scalar(value)
        if isinstance(value, list):
            return self._all(list.__iter__(value), depth)
        if isinstance(value, tuple):
            return {"tuple": self._all(tuple.__iter__(value), depth - 1)}
        if isinstance(value, dict):
            return {"dict": [self._all(pair, depth - 2) for pair in dict.items(value)]}
        if isinstance(value, BaseException):
            return {"exception": self._exception(value, depth - 1)}
        raise UnplainError

    def _all(self, values: Iterable[Any], depth: int) -> list[Any]:
        return [self.plain(value, depth - 1) for value in values]

    def _scalar(self, value: Any) -> Any:
        """Write the value that a subclass of a plain type, such as an IntEnum, has as one of that type."""
        if isinstance(value, str):
            return self._text(str.__str__(value))
        if isinstance(value, bytes):
            self._take(len(value) * 4 // 3)
            return {"bytes": base64.b64encode(value).decode()}
        if isinstance(value, float):
            number = float.__float__(value)
            return number if math.isfinite(number) else {"float": repr(number)}
        whole = int.__int__(value)
        self._take(whole.bit_length() // 4)
        return whole if abs(whole) < 2**63 else {"int": hex(whole)}

    def _text(self, text: str) -> str | dict[str, str]:
        self._take(len(text))
        try:
            # A control character takes six bytes in JSON.
            self._take(len(msgspec.json.encode(text)) - len(text))
        except UnicodeEncodeError:
            # A file's name of undecodable bytes has surrogates, which are no Unicode text.
            data = base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()
            self._take(len(data) - len(text))
            return {"str": data}
        return text

    def _exception(self, error: BaseException, depth: int) -> dict[str, Any]:
        return {
            "type": type_name(type(error)),
            "message": self._text(exception_text(error)),
            "notes": [self._text(clip(str(note))) for note in getattr(error, "__notes__", ())],
            **self.state(error, args_travel=False, depth=depth),
        }

    def _take(self, size: int) -> None:
        if size > self._bytes:
            raise UnplainError
        self._bytes -= size


def _attributes(error: BaseException) -> Iterable[tuple[str, Any]]:
    """Yield what the exception has beside its arguments: its `__dict__`, its slots, and the fields that C code keeps.

    OSError keeps `filename` in such a field and not in `args`; likewise ImportError, SyntaxError and others.
    """
    for cls in type(error).__mro__:
        for name, found in vars(cls).items():
            if isinstance(found, MemberDescriptorType | GetSetDescriptorType) and _is_own(name):
                # A slot that was never set.
                with contextlib.suppress(AttributeError):
                    value = found.__get__(error, type(error))
                    if value is not None:
                        yield name, value
    yield from ((name, value) for name, value in error.__dict__.items() if _is_own(name))


def _is_own(name: object) -> bool:
    return isinstance(name, str) and not name.startswith("__") and name not in ("args", "exceptions")


# ── the controller's side ──


def rebuild(failure: Failure) -> Exception | None:
    """Return the exception that a failure describes, or None where no equal one can be made here.

    Its class is looked up among the modules that are loaded: none is imported for the sake of what a worker says, only
    subclasses of Exception are made, and only of plain data. Type and text are those of the worker, or it is None.
    """
    try:
        args = msgspec.json.decode(failure.args) if failure.args is not None else None
        state = msgspec.json.decode(failure.state, type=dict[str, Any]) if failure.state is not None else {}
        values = _read_all(state["args"]) if "args" in state else args
        error = _rebuild(failure.type, failure.message, values, state, failure.notes)
    except Exception:  # noqa: BLE001 - a class may need anything; then a StepFailedError is raised
        return None
    return error if isinstance(error, Exception) else None


def _rebuild(
    name: str, message: str, args: Sequence[Any] | None, state: dict[str, Any], notes: Iterable[str]
) -> BaseException:
    cls = _class(name)
    attributes = {str(key): _read(value) for key, value in state.get("attributes", {}).items()}
    given = (message,) if args is None else tuple(args)
    # With all attributes at hand no code of the class need run; else only its constructor may know the others.
    makers = (_make_without_init, _make_by_class) if not state.get("omitted") else (_make_by_class, _make_without_init)
    for make in makers:
        try:
            error = make(cls, given)
            _set(error, attributes)
            if type(error) is cls and exception_text(error) == message:
                for note in notes:
                    error.add_note(note)
                return error
        except Exception:  # noqa: BLE001, S112 - the other way may do; a class may need anything
            continue
    raise UnplainError(name)


def _make_without_init(cls: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """Make an exception without its own `__init__`, whose parameters need not be its `args`."""
    base = next(base for base in cls.__mro__ if base.__module__ == "builtins")
    error: BaseException = base.__new__(cls, *args)
    base.__init__(error, *args)  # type: ignore[misc]  # as its own class, which is below `base`, does
    return error


def _make_by_class(cls: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """Make an exception as pickle does: attributes that did not travel are there if its `__init__` sets them."""
    return cls(*args)


def _set(error: BaseException, attributes: dict[str, Any]) -> None:
    for name, value in attributes.items():
        if not _is_own(name):
            continue
        found = inspect.getattr_static(type(error), name, None)
        if isinstance(found, MemberDescriptorType | GetSetDescriptorType):
            # Read-only ones, such as a group's message, were set by `args`.
            with contextlib.suppress(AttributeError):
                object.__setattr__(error, name, value)
        else:
            error.__dict__[name] = value


def _class(name: str) -> type[BaseException]:
    """Find an exception class by `module.qualname` among the loaded modules, without running their code.

    Raises:
        UnplainError: there is none.
    """
    module = name.rpartition(".")[0]
    while module and module not in sys.modules:
        module = module.rpartition(".")[0]
    found: Any = sys.modules[module] if module else builtins
    for part in name[len(module) + 1 if module else 0 :].split("."):
        # Not getattr: it would run a module's `__getattr__`, which may import.
        found = vars(found).get(part)
    if not (isinstance(found, type) and issubclass(found, BaseException) and type_name(found) == name):
        raise UnplainError(name)
    return found


def _read(value: Any) -> Any:
    """Turn a value back from JSON.

    Raises:
        UnplainError: it is of a kind that only a newer rivers writes.
    """
    if isinstance(value, list):
        return _read_all(value)
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    match kind:
        case "tuple":
            return tuple(_read_all(content))
        case "dict":
            return dict(map(_read_all, content))
        case "bytes":
            return base64.b64decode(content, validate=True)
        case "str":
            return base64.b64decode(content, validate=True).decode("utf-8", "surrogatepass")
        case "float":
            return float(content)
        case "int":
            return int(content, 16)
        case "exception":
            args = _read_all(content["args"]) if "args" in content else None
            return _rebuild(content["type"], content["message"], args, content, content["notes"])
    raise UnplainError(kind)


def _read_all(values: Iterable[Any]) -> list[Any]:
    return [_read(value) for value in values]
