"""Checks of single values against the limits: text, keys, numbers, JSON, maps and lists."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Collection
from itertools import accumulate
from typing import Any, TypeAlias

import msgspec

from rivers.exceptions import SpecDecodeError, SpecLimitError, SpecTooDeepError
from rivers.protocol.limits import LIMITS

__all__ = [
    "INT64",
    "MISSING",
    "Check",
    "Refused",
    "are_ascii_keys",
    "are_short_ascii",
    "check_dotted",
    "check_finite",
    "check_inline",
    "check_key",
    "check_metadata",
    "check_no_table",
    "check_timeout",
    "each",
    "instance",
    "integer",
    "json_text",
    "mapping",
    "octets",
    "one_of",
    "text_of",
]

MISSING = object()
"""The value of a required field that was left out."""

Check: TypeAlias = Callable[[Any], None]
INT64 = 1 << 63
_UNSHOWN = object()
_JSON = msgspec.json.Decoder(msgspec.Raw)
_BITS = bytes.maketrans(b"[{]}", b"1100")
_NO_BRACKET = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS = [[1 if byte >> shift & 1 else -1 for shift in range(7, -1, -1)] for byte in range(256)]
# For each group of eight brackets, the highest rise of the depth, and the rise at its end.
_RISES = [(max(accumulate(steps)), sum(steps)) for steps in _STEPS]
_SEGMENT = r"(?!__\w*__(?:\.|\Z))[^\W\d]\w*"
_TRACEPARENT = re.compile("00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_DOTTED = re.compile(rf"{_SEGMENT}(?:\.{_SEGMENT})*")


class Refused(Exception):
    """A value outside its limits. Each caller adds its part of the field's path, then `to_error` makes the error."""

    def __init__(
        self, value: object, expected: str, *, hint: str | None = None, error: type[SpecDecodeError] = SpecLimitError
    ) -> None:
        super().__init__(expected)
        self.value = value
        self.expected = expected
        self.hint = hint
        self.error = error
        self.path: list[str] = []

    def to_error(self) -> SpecDecodeError:
        """Return the error to raise: it names the field, the shortened value, and the expected values."""
        field = ".".join(reversed(self.path)).replace(".[", "[")
        if self.value is MISSING:
            return self.error(f"missing {field}: expected {self.expected}", hint=self.hint)
        value = "" if self.value is _UNSHOWN else f"={_short_repr(self.value)}"
        return self.error(f"invalid {field}{value}: expected {self.expected}", hint=self.hint)


def _short_repr(value: object) -> str:
    if isinstance(value, str | bytes):
        return f"{value[:60]!r}… ({len(value)} long)" if len(value) > 60 else repr(value)
    if isinstance(value, int) and abs(value) > 2 * INT64:
        return "<int of more than 64 bits>"
    if value is None or isinstance(value, int | float | enum.Enum):
        return str(value)
    size = f" of {len(value)}" if isinstance(value, tuple | list | dict) else ""
    return f"<{type(value).__name__}{size}>"


def _fits(text: str, limit: int) -> bool:
    if len(text) > limit:
        return False
    try:
        return text.isascii() or len(text.encode()) <= limit
    except UnicodeEncodeError:
        return False


def are_short_ascii(texts: Collection[Any], limit: int) -> bool:
    """Return whether all texts are ASCII, and together at most `limit` long, as in nearly all specs."""
    try:
        whole = "".join(texts)
    except TypeError:
        # One of them is no text.
        return False
    return len(whole) <= limit and whole.isascii()


def text_of(limit: int) -> Check:
    """Return the check of a text of at most `limit` bytes of UTF-8."""

    def check(value: Any) -> None:
        if type(value) is not str or not _fits(value, limit):
            raise Refused(value, f"Unicode text of at most {limit} bytes")

    return check


def check_key(value: Any) -> None:
    """Check a name or key: printable text of 1 to `LIMITS.key` bytes."""
    if type(value) is not str or not value or not value.isprintable() or not _fits(value, LIMITS.key):
        raise Refused(value, f"1 to {LIMITS.key} bytes of printable text, without control characters")


def are_ascii_keys(values: Collection[Any]) -> bool:
    """Return whether all values are keys in ASCII, as in nearly all specs; the loops run in C."""
    try:
        whole = "".join(values)
        return (
            whole.isascii()
            and whole.isprintable()
            and all(values)
            and (len(whole) <= LIMITS.key or max(map(len, values)) <= LIMITS.key)
        )
    except TypeError:
        # One of them is no text.
        return False


def check_dotted(value: Any) -> None:
    """Check the name of a module, or the way from it to an object."""
    if type(value) is not str or not _fits(value, LIMITS.name) or not _DOTTED.fullmatch(value):
        raise Refused(
            value,
            f"a dotted name of at most {LIMITS.name} bytes, no part of it like __this__ or <locals>",
            hint="move what it names to module scope of an importable module, or let it travel as a PickledRef",
        )


def one_of(*choices: str) -> Check:
    """Return the check of a text with these possible values."""

    def check(value: Any) -> None:
        if value not in choices:
            raise Refused(value, "one of " + ", ".join(choices))

    return check


def integer(low: int, high: int) -> Check:
    """Return the check of an int from `low` to `high`."""

    def check(value: Any) -> None:
        if type(value) is not int or not low <= value <= high:
            raise Refused(value, f"an int from {low} to {high}")

    return check


def check_finite(value: Any) -> None:
    """Check a number: no NaN, no infinity, and no int of more than 64 bits."""
    if type(value) is float and math.isfinite(value):
        return
    if type(value) is not int or abs(value) >= INT64:
        raise Refused(value, "a finite number")


def check_timeout(value: Any) -> None:
    """Check a timeout in seconds."""
    if type(value) not in (float, int) or not 0 < value <= LIMITS.timeout:
        raise Refused(value, f"more than 0 and at most {LIMITS.timeout:.0f} seconds (30 days)")


def check_traceparent(value: Any) -> None:
    """Check the header `traceparent` of W3C Trace Context, version 00."""
    if type(value) is not str or not _TRACEPARENT.fullmatch(value):
        raise Refused(value, "a traceparent, 00-<32 hex digits>-<16 hex digits>-<2 hex digits>")


def check_no_table(value: Any) -> None:
    """Check that a spec has no table of refs: the codec makes it, and takes it apart again."""
    if value != ():
        raise Refused(value, "no table of refs, which only the codec makes")


def octets(low: int, high: int) -> Check:
    """Return the check of `low` to `high` bytes."""
    allowed = f"{low} bytes" if low == high else f"{low} to {high} bytes"

    def check(value: Any) -> None:
        if type(value) is not bytes or not low <= len(value) <= high:
            raise Refused(value, allowed)

    return check


def check_inline(value: Any) -> None:
    """Check the encoding of an inline value; no error shows its content, which may be a secret."""
    if type(value) is not bytes or not 1 <= len(value) <= LIMITS.inline:
        raise Refused(_UNSHOWN, f"1 to {LIMITS.inline} bytes")


def json_text(limit: int, kind: str = "value", opening: str = "") -> Check:
    """Return the check of a JSON text; no error shows its content, as fields of resources may be secrets."""

    def check(value: Any) -> None:
        if type(value) is not str or not _fits(value, limit):
            # A field of a resource may be a secret.
            shown = _UNSHOWN if type(value) is str else value
            raise Refused(shown, f"the text of a JSON {kind}, at most {limit} bytes")
        try:
            _JSON.decode(value)
        except RecursionError:
            raise _too_deep() from None
        except (msgspec.DecodeError, UnicodeError) as error:
            raise Refused(_UNSHOWN, f"the text of a JSON {kind}, but {error}") from None
        if opening and not value.lstrip(" \t\r\n").startswith(opening):
            raise Refused(_UNSHOWN, f"the text of a JSON {kind}, not of another JSON value")
        # Fewer brackets than the limit cannot nest deeper; brackets in strings only make the count too high.
        if value.count("[") + value.count("{") > LIMITS.depth:
            _check_nesting(value)

    return check


check_metadata = json_text(LIMITS.metadata, "object", "{")
"""Check what a handler reports of an output, or raise Refused."""


def _check_nesting(text: str) -> None:
    """Raise if a well-formed JSON text nests deeper than the limit."""
    # Its brackets become bits, 1 opens and 0 closes, which are counted eight at a time.
    # Escaped backslashes go first: in `\\"` the quote ends the string.
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


def mapping(limit: int) -> Check:
    """Return the check of a map of text to text that measures at most `limit` bytes in all."""
    text = text_of(limit)

    def check(value: Any) -> None:
        if type(value) is not dict:
            raise Refused(value, "a dict of str to str")
        if are_short_ascii((*value, *value.values()), limit):
            return
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


def each(item: Check, most: int, quick: Callable[[tuple[Any, ...]], bool] | None = None) -> Check:
    """Return the check of a tuple of at most `most` elements, each checked by `item` unless `quick` passes them all."""

    def check(value: Any) -> None:
        if type(value) is not tuple or len(value) > most:
            raise Refused(value, f"a tuple of at most {most}")
        if quick is not None and quick(value):
            return
        passed = 0
        try:
            for element in value:
                item(element)
                passed += 1
        except Refused as refused:
            refused.path.append(f"[{passed}]")
            raise

    return check


def instance(cls: type) -> Check:
    """Return the check of an instance of this very class."""

    def check(value: Any) -> None:
        if type(value) is not cls:
            raise Refused(value, f"a {cls.__name__}")

    return check
