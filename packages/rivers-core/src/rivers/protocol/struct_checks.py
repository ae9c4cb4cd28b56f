"""The checks that hold every field of a spec, result or event to its limit.

Both codecs call `check_limits`, before they encode and after they decode. The checks are made once, at import, from the
structs' own annotations; `_RULES` lists the fields that are narrower than their type.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from msgspec import inspect

from rivers.protocol.field_checks import (
    INT64,
    Check,
    Refused,
    are_ascii_keys,
    are_short_ascii,
    check_dotted,
    check_finite,
    check_inline,
    check_key,
    check_metadata,
    check_no_table,
    check_timeout,
    check_traceparent,
    each,
    instance,
    integer,
    json_text,
    mapping,
    octets,
    one_of,
    text_of,
)
from rivers.protocol.limits import LIMITS
from rivers.protocol.ordinary import is_ordinary
from rivers.protocol.ref import ConfiguredRef, ImportRef, LocalRef, PickledRef, TableRef
from rivers.protocol.result import LogRecord, StepResult, StepStarted
from rivers.protocol.spec import LogSettings, StepSpec

__all__ = ["check_limits", "register_later_spec"]

_ROOTS = (StepSpec, StepStarted, LogRecord, StepResult)
_REPEATED = (ImportRef, ConfiguredRef, LogSettings)
_NOT_SENT = (LocalRef, TableRef)


def check_limits(value: StepSpec | StepStarted | LogRecord | StepResult) -> None:
    """Hold every field of a spec or event to its type, limit and pattern.

    Raises:
        SpecLimitError: a field is outside its limit or is a LocalRef; the message names it, and what is expected.
        SpecTooDeepError: a JSON text is nested deeper than `LIMITS.depth`.
    """
    if not isinstance(value, _ROOTS):
        raise TypeError(f"only a StepSpec or an event crosses a process, not a {type(value).__name__}")
    try:
        # Nearly all values pass this quick test; only the others pay for a check that names the field.
        if not is_ordinary(value, _check_ref, _check_logs):
            _CHECKS[type(value)](value)
    except Refused as refused:
        raise refused.to_error() from None


def register_later_spec(cls: type[StepSpec]) -> None:
    """Let specs of a later version's class be encoded, for the conformance kit; nothing of them is checked."""
    _CHECKS[cls] = lambda spec: None


_RULES: dict[str, Check] = {
    "StepSpec.attempt": integer(1, LIMITS.attempt),
    "StepSpec.attempt_id": check_key,
    "StepSpec.config": json_text(LIMITS.text, "object", "{"),
    "StepSpec.fingerprint": text_of(LIMITS.fingerprint),
    "StepSpec.epoch": integer(0, INT64 - 1),
    "StepSpec.refs": check_no_table,
    "StepSpec.timeout": check_timeout,
    "TraceContext.traceparent": check_traceparent,
    "TraceContext.tracestate": text_of(LIMITS.key),
    "ImportRef.module": check_dotted,
    "ImportRef.qualname": check_dotted,
    "ConfiguredRef.json": json_text(LIMITS.text, "object", "{"),
    "PickledRef.payload": octets(1, LIMITS.pickle),
    "InlineValue.data": check_inline,
    "PickledRef.sha256": octets(32, 32),
    "PickledRef.hmac": octets(32, 32),
    "LiteralInput.json": json_text(LIMITS.text),
    "ElementInput.how": one_of("value", "element", "collect", "stream"),
    "GroupInput.how": one_of("collect", "stream"),
    "OutputRecord.metadata": check_metadata,
    "OutputRecord.versions": each(
        text_of(LIMITS.version), LIMITS.nodes, lambda texts: are_short_ascii(texts, LIMITS.version)
    ),
    "Failure.args": json_text(LIMITS.text, "array", "["),
    "Failure.state": json_text(LIMITS.text, "object", "{"),
    "Failure.traceback": text_of(LIMITS.traceback),
    "Evidence.native_traceback": text_of(LIMITS.traceback),
    "LogRecord.message": text_of(LIMITS.log),
    "LogRecord.stream": one_of("log", "stdout", "stderr"),
    "attempt_id": check_key,
    "key": check_key,
    "keys": check_key,
    "map_keys": each(check_key, LIMITS.nodes, are_ascii_keys),
    "mapped_over": check_key,
    "name": check_key,
    "parameter": check_key,
    "partition": check_key,
    "partitions": each(check_key, LIMITS.nodes, are_ascii_keys),
    "run_id": check_key,
    "step": check_key,
}
"""The fields that are narrower than their type, by struct and field, or by the name of the field in any struct."""

_CHECKS: dict[type, Check] = {}


def _struct(info: inspect.StructType) -> Check:
    """Return the check of a struct: every field by its rule or by its type; what is left at its default passes."""
    cls = info.cls
    checks: dict[str, Check] = {}
    defaults: dict[str, object] = {}
    for field in info.fields:
        name = field.name
        rule = _RULES.get(f"{cls.__name__}.{name}") or _RULES.get(name)
        options = field.type.types if isinstance(field.type, inspect.UnionType) else (field.type,)
        optional = any(isinstance(option, inspect.NoneType) for option in options)
        checks[name] = rule or _by_type(options)
        defaults[name] = None if optional else field.default
    check = _exact(cls, checks, defaults)
    return _remembered(check) if cls in _REPEATED else check


def _exact(cls: type, checks: dict[str, Check], defaults: dict[str, object]) -> Check:
    """Return the check that looks at one field after the other, and names the one that is refused."""

    def check(value: Any) -> None:
        # A subclass could override attributes, so isinstance is not enough.
        if type(value) is not cls:
            raise Refused(value, f"a {cls.__name__}")
        name = ""
        try:
            for name, field_check in checks.items():
                item = getattr(value, name)
                if item is not defaults[name]:
                    field_check(item)
        except Refused as refused:
            refused.path.append(name)
            raise

    return check


def _remembered(check: Check) -> Check:
    """Return the check with a cache of values that passed: a repository has few handlers, in many specs."""
    known = lru_cache(maxsize=1024)(check)

    def checked(value: Any) -> None:
        try:
            known(value)
        except TypeError:
            # A field of a wrong type that has no hash.
            check(value)

    return checked


def _variant(checks: dict[type, Check]) -> Check:
    names = ", ".join(cls.__name__ for cls in checks)

    def check(value: Any) -> None:
        found = checks.get(type(value))
        if found is not None:
            return found(value)
        hint = "a LocalRef never leaves its process, only a backend with isolation none can follow it"
        raise Refused(value, f"one of {names}", hint=hint if isinstance(value, LocalRef) else None)

    return check


def _by_type(options: tuple[inspect.Type, ...]) -> Check:
    present = [option for option in options if not isinstance(option, inspect.NoneType)]
    if len(present) > 1:
        structs = [option for option in present if isinstance(option, inspect.StructType)]
        return _variant({kind.cls: _known_struct(kind) for kind in structs if kind.cls not in _NOT_SENT})
    match present[0]:
        case inspect.StrType():
            return text_of(LIMITS.text)
        case inspect.BoolType():
            return instance(bool)
        case inspect.IntType():
            return integer(-INT64, INT64 - 1)
        case inspect.FloatType():
            return check_finite
        case inspect.EnumType(cls=cls):
            return instance(cls)
        case inspect.DictType():
            return mapping(LIMITS.metadata)
        case inspect.VarTupleType(item_type=item):
            elements = item.types if isinstance(item, inspect.UnionType) else (item,)
            if isinstance(elements[0], inspect.StrType):
                return each(text_of(LIMITS.text), LIMITS.nodes, lambda texts: are_short_ascii(texts, LIMITS.text))
            return each(_by_type(elements), LIMITS.inputs)
        case inspect.StructType() as kind:
            return _known_struct(kind)
    raise TypeError(f"the protocol has no check for fields of type {present[0]}: add one to rivers.protocol.limits")


def _known_struct(kind: inspect.StructType) -> Check:
    if kind.cls not in _CHECKS:
        _CHECKS[kind.cls] = _struct(kind)
    return _CHECKS[kind.cls]


for _kind in inspect.multi_type_info(_ROOTS):
    _by_type((_kind,))

_check_logs = _CHECKS[LogSettings]
_check_ref = _variant({cls: check for cls, check in _CHECKS.items() if cls in (ImportRef, ConfiguredRef, PickledRef)})
