"""The limits of the protocol: one table, and the checks that hold every field of a spec, result or event to it.

Both codecs call `check_limits`, before they encode and after they decode. The checks are made once, at import, from the
structs' own annotations; `_RULES` says where a field is narrower than its type.
"""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from typing import Any, TypeAlias

import msgspec
from msgspec import inspect

from rivers.exceptions import SpecDecodeError, SpecLimitError, SpecTooDeepError
from rivers.protocol.compiled import Quick, compiled
from rivers.protocol.ref import ConfiguredRef, ImportRef, LocalRef
from rivers.protocol.result import LogRecord, StepResult, StepStarted
from rivers.protocol.spec import LogSettings, StepSpec

__all__ = ["LIMITS", "MISSING", "Limits", "Refused", "check_limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The most that a spec, a result or an event may measure (the table "input validation limits" of the design).

    `size` is bytes of a whole encoded value, `depth` how far its containers (and those of a JSON text in it) nest,
    `nodes` how many values it holds. `inputs` is the length of a list of inputs, outputs or inner steps. In bytes of
    UTF-8: `text` any text, `key` a name or key (1 to that many, printable), `name` a module or qualname, `metadata`
    what one output or asset says of itself, `log` one log message, `traceback` one traceback. `pickle` is bytes of one
    pickled payload, `timeout` seconds (30 days), `attempt` the highest attempt number.
    """

    size: int = 1 << 20
    depth: int = 32
    nodes: int = 20_000
    inputs: int = 10_000
    text: int = 256 * 1024
    key: int = 512
    name: int = 255
    metadata: int = 256 * 1024
    log: int = 16 * 1024
    traceback: int = 64 * 1024
    pickle: int = 1 << 20
    timeout: float = 30 * 24 * 3600.0
    attempt: int = 1_000


LIMITS = Limits()
"""The limits in force, the same on both sides of every boundary."""

MISSING = object()
"""Stands for the value of a required field that was left out."""

Check: TypeAlias = Callable[[Any], None]
_ROOTS = (StepSpec, StepStarted, LogRecord, StepResult)
_REPEATED = (ImportRef, ConfiguredRef, LogSettings)
_INT64, _UNSHOWN = 1 << 63, object()
_JSON = msgspec.json.Decoder(msgspec.Raw)
_BITS = bytes.maketrans(b"[{]}", b"1100")
_NO_BRACKET = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS = [[1 if byte >> shift & 1 else -1 for shift in range(7, -1, -1)] for byte in range(256)]
_RISES = [(max(accumulate(steps)), sum(steps)) for steps in _STEPS]
"""For eight brackets: how far they rise at most, and by how much they end higher."""
_SEGMENT = r"(?!__\w*__(?:\.|\Z))[^\W\d]\w*"
_DOTTED = re.compile(rf"{_SEGMENT}(?:\.{_SEGMENT})*")


class Refused(Exception):
    """A value that is not allowed where it stands; gathers the way to it while it rises, then becomes an error."""

    def __init__(
        self, value: object, allowed: str, *, hint: str | None = None, error: type[SpecDecodeError] = SpecLimitError
    ) -> None:
        super().__init__(allowed)
        self.value = value
        self.allowed = allowed
        self.hint = hint
        self.error = error
        self.path: list[str] = []

    def to_error(self) -> SpecDecodeError:
        """The error to raise instead: it names the field, the value shortened, and what is allowed."""
        where = ".".join(reversed(self.path)).replace(".[", "[")
        return self.error(f"{where} {_shown(self.value)}; allowed is {self.allowed}", hint=self.hint)


def check_limits(value: StepSpec | StepStarted | LogRecord | StepResult) -> None:
    """Hold every field of a spec or event to its type, limit and pattern.

    Raises:
        SpecLimitError: a field is outside its limit or is a LocalRef; it is named, with what is allowed.
        SpecTooDeepError: a JSON text is nested deeper than `LIMITS.depth`.
    """
    if not isinstance(value, _ROOTS):
        raise TypeError(f"only a StepSpec or an event crosses a process, not a {type(value).__name__}")
    try:
        _CHECKS[type(value)](value)
    except Refused as refused:
        raise refused.to_error() from None


def _shown(value: object) -> str:
    if value is _UNSHOWN or value is MISSING:
        return "is missing" if value is MISSING else "is not acceptable"
    if isinstance(value, str | bytes):
        cut = f"{value[:60]!r}… ({len(value)} long)" if len(value) > 60 else repr(value)
        return f"is {cut}"
    if isinstance(value, int) and abs(value) > 2 * _INT64:
        return "is an int of more than 64 bits"
    if value is None or isinstance(value, int | float | enum.Enum):
        return f"is {value}"
    size = f" of {len(value)}" if isinstance(value, tuple | list | dict) else ""
    return f"is a {type(value).__name__}{size}"


def _fits(text: str, limit: int) -> bool:
    if len(text) > limit:
        return False
    try:
        return text.isascii() or len(text.encode()) <= limit
    except UnicodeEncodeError:
        return False


def _text(limit: int) -> Check:
    def check(value: Any) -> None:
        if type(value) is not str or not _fits(value, limit):
            raise Refused(value, f"Unicode text of at most {limit} bytes")

    return Quick(check, f"type(item) is str and len(item) <= {limit} and item.isascii()")


def _key(value: Any) -> None:
    if type(value) is not str or not value or not value.isprintable() or not _fits(value, LIMITS.key):
        raise Refused(value, f"1 to {LIMITS.key} bytes of printable text, without control characters")


def _dotted(value: Any) -> None:
    if type(value) is not str or not _fits(value, LIMITS.name) or not _DOTTED.fullmatch(value):
        raise Refused(
            value,
            f"a dotted name of at most {LIMITS.name} bytes, no part of it like __this__ or <locals>",
            hint="move what it names to module scope of an importable module, or let it travel as a PickledRef",
        )


def _choice(*choices: str) -> Check:
    def check(value: Any) -> None:
        if value not in choices:
            raise Refused(value, "one of " + ", ".join(choices))

    return check


def _integer(low: int, high: int) -> Check:
    def check(value: Any) -> None:
        if type(value) is not int or not low <= value <= high:
            raise Refused(value, f"an int from {low} to {high}")

    return Quick(check, f"type(item) is int and {low} <= item <= {high}")


def _finite(value: Any) -> None:
    if type(value) is float and math.isfinite(value):
        return
    if type(value) is not int or abs(value) >= _INT64:
        raise Refused(value, "a finite number")


def _timeout(value: Any) -> None:
    if type(value) not in (float, int) or not 0 < value <= LIMITS.timeout:
        raise Refused(value, f"more than 0 and at most {LIMITS.timeout:.0f} seconds (30 days)")


def _octets(low: int, high: int) -> Check:
    allowed = f"{low} bytes" if low == high else f"{low} to {high} bytes"

    def check(value: Any) -> None:
        if type(value) is not bytes or not low <= len(value) <= high:
            raise Refused(value, allowed)

    return check


def _json(limit: int, kind: str = "value", opening: str = "") -> Check:
    """A JSON text; its content is never shown, as fields of resources may be secrets."""

    def check(value: Any) -> None:
        if type(value) is not str or not _fits(value, limit):
            shown = _UNSHOWN if type(value) is str else value
            raise Refused(shown, f"the text of a JSON {kind}, at most {limit} bytes")
        try:
            _JSON.decode(value)
        except RecursionError:
            raise _too_deep() from None
        except (msgspec.DecodeError, UnicodeError) as error:
            raise Refused(_UNSHOWN, f"the text of a JSON {kind}, and this is none: {error}") from None
        if opening and not value.lstrip(" \t\r\n").startswith(opening):
            raise Refused(_UNSHOWN, f"the text of a JSON {kind}, and this is another JSON value")
        if value.count("[") + value.count("{") > LIMITS.depth:
            _check_nesting(value)

    return check


def _check_nesting(text: str) -> None:
    """Find how deep a well-formed JSON text nests: its brackets as bits, 1 opens and 0 closes, eight at a time."""
    plain = text.encode().replace(b"\\\\", b"").replace(b'\\"', b"")
    bits = b"".join(plain.split(b'"')[::2]).translate(_BITS, _NO_BRACKET)
    bits += b"0" * (-len(bits) % 8)
    depth = 0
    for byte in int(b"0" + bits, 2).to_bytes(len(bits) // 8, "big"):
        if depth + _RISES[byte][0] > LIMITS.depth:
            raise _too_deep()
        depth += _RISES[byte][1]


def _too_deep() -> Refused:
    return Refused(_UNSHOWN, f"JSON nested at most {LIMITS.depth} deep", error=SpecTooDeepError)


def _mapping(limit: int) -> Check:
    """A map of text to text that measures at most `limit` bytes in all."""
    text = _text(limit)

    def check(value: Any) -> None:
        if type(value) is not dict:
            raise Refused(value, "a dict of str to str")
        for key, item in value.items():
            text(key)
            try:
                text(item)
            except Refused as refused:
                refused.path.append(f"[{key[:60]!r}]")
                raise
        if sum(len(key.encode()) + len(item.encode()) for key, item in value.items()) > limit:
            raise Refused(value, f"at most {limit} bytes of keys and values together")

    return check


def _each(item: Check, most: int) -> Check:
    def check(value: Any) -> None:
        if type(value) is not tuple or len(value) > most:
            raise Refused(value, f"a tuple of at most {most}")
        passed = 0
        try:
            for element in value:
                item(element)
                passed += 1
        except Refused as refused:
            refused.path.append(f"[{passed}]")
            raise

    return check


def _instance(cls: type) -> Check:
    def check(value: Any) -> None:
        if type(value) is not cls:
            raise Refused(value, f"a {cls.__name__}")

    return check


def _variant(checks: dict[type, Check]) -> Check:
    names = ", ".join(cls.__name__ for cls in checks)

    def check(value: Any) -> None:
        found = checks.get(type(value))
        if found is not None:
            return found(value)
        hint = "a LocalRef never leaves its process, only a backend with isolation none can follow it"
        raise Refused(value, f"one of {names}", hint=hint if isinstance(value, LocalRef) else None)

    return check


_KEY = Quick(_key, f"type(item) is str and 0 < len(item) <= {LIMITS.key} and item.isascii() and item.isprintable()")
_FINITE = Quick(_finite, "type(item) is float and item - item == 0.0")  # an infinity less itself is no number

_RULES: dict[str, Check] = {
    "StepSpec.attempt": _integer(1, LIMITS.attempt),
    "StepSpec.attempt_id": _KEY,
    "StepSpec.config": _json(LIMITS.text, "object", "{"),
    "StepSpec.epoch": _integer(0, _INT64 - 1),
    "StepSpec.timeout": _timeout,
    "ImportRef.module": _dotted,
    "ImportRef.qualname": _dotted,
    "ConfiguredRef.json": _json(LIMITS.text, "object", "{"),
    "PickledRef.payload": _octets(1, LIMITS.pickle),
    "PickledRef.sha256": _octets(32, 32),
    "PickledRef.hmac": _octets(32, 32),
    "LiteralInput.json": _json(LIMITS.text),
    "ElementInput.how": _choice("value", "element", "collect", "stream"),
    "OutputRecord.metadata": _json(LIMITS.metadata, "object", "{"),
    "Failure.args": _json(LIMITS.text, "array", "["),
    "Failure.state": _json(LIMITS.text, "object", "{"),
    "Failure.traceback": _text(LIMITS.traceback),
    "Evidence.native_traceback": _text(LIMITS.traceback),
    "LogRecord.message": _text(LIMITS.log),
    "LogRecord.stream": _choice("log", "stdout", "stderr"),
    "attempt_id": _KEY,
    "key": _KEY,
    "map_keys": _each(_key, LIMITS.nodes),
    "mapped_over": _KEY,
    "name": _KEY,
    "parameter": _KEY,
    "run_id": _KEY,
    "step": _KEY,
}
"""Where a field is narrower than its type: by struct and field, or by the field's name in every struct."""

_CHECKS: dict[type, Check] = {}


def _struct(info: inspect.StructType) -> Check:
    """The check of a struct: every field in turn, by its rule or by its type; what is left at its default is fine."""
    cls = info.cls
    fields: list[tuple[str, Check, object]] = []
    for field in info.fields:
        name = field.name
        rule = _RULES.get(f"{cls.__name__}.{name}") or _RULES.get(name)
        options = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
        allowed = None if any(isinstance(option, inspect.NoneType) for option in options) else field.default
        fields.append((name, rule or _by_type(options), allowed))

    def plain(value: Any) -> None:
        if type(value) is not cls:
            raise Refused(value, f"a {cls.__name__}")
        name = ""
        try:
            for name, field_check, default in fields:
                item = getattr(value, name)
                if item is not default:
                    field_check(item)
        except Refused as refused:
            refused.path.append(name)
            raise

    check = compiled(cls, fields, plain)
    return _remembered(check) if cls in _REPEATED else check


def _remembered(check: Check) -> Check:
    """The same for values that come again and again, as a repository has few handlers: those found good are known."""
    known = lru_cache(maxsize=1024)(check)

    def checked(value: Any) -> None:
        try:
            known(value)
        except TypeError:  # a field of a wrong type that has no hash
            check(value)

    return checked


def _by_type(options: tuple[inspect.Type, ...]) -> Check:
    present = [option for option in options if not isinstance(option, inspect.NoneType)]
    if len(present) > 1:
        structs = [option for option in present if isinstance(option, inspect.StructType)]
        return _variant({kind.cls: _known_struct(kind) for kind in structs if kind.cls is not LocalRef})
    match present[0]:
        case inspect.StrType():
            return _text(LIMITS.text)
        case inspect.BoolType():
            return _instance(bool)
        case inspect.IntType():
            return _integer(-_INT64, _INT64 - 1)
        case inspect.FloatType():
            return _FINITE
        case inspect.EnumType(cls=cls):
            return _instance(cls)
        case inspect.DictType():
            return _mapping(LIMITS.metadata)
        case inspect.VarTupleType(item_type=item):
            elements = item.types if isinstance(item, inspect.UnionType) else (item,)
            scalar = isinstance(elements[0], inspect.StrType)
            return _each(_by_type(elements), LIMITS.nodes if scalar else LIMITS.inputs)
        case inspect.StructType() as kind:
            return _known_struct(kind)
    raise TypeError(f"the protocol has no check for fields of type {present[0]}: add one to rivers.protocol.limits")


def _known_struct(kind: inspect.StructType) -> Check:
    if kind.cls not in _CHECKS:
        _CHECKS[kind.cls] = _struct(kind)
    return _CHECKS[kind.cls]


for _kind in inspect.multi_type_info(_ROOTS):
    _by_type((_kind,))
