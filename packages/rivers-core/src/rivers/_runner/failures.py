"""From an exception to a `Failure`: bounded text and plain values, whatever the exception does when it is looked at."""

from __future__ import annotations

import traceback
from types import TracebackType

import msgspec

from rivers.protocol.failure import Evidence, Failure, FailureReason

__all__ = ["failure_of", "text_of"]

MAX_TEXT = 64 * 1024
"""Bytes of a message or a traceback that are kept (security.md 3.7)."""
MAX_CHAIN = 50


def failure_of(
    error: BaseException,
    reason: FailureReason,
    *,
    transient: bool = True,
    evidence: Evidence | None = None,
) -> Failure:
    """Describe an exception as a value. Never raises, also when the exception's own methods do."""
    return Failure(
        reason=reason,
        type=_name(type(error)),
        mro=tuple(_name(cls) for cls in type(error).__mro__),
        message=text_of(error),
        args=_args(error),
        traceback=_clip(_traceback(error)),
        notes=_notes(error),
        evidence=evidence,
        transient=transient,
    )


def _name(cls: type) -> str:
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def text_of(error: BaseException) -> str:
    """The exception's text, also where making it raises."""
    if isinstance(error, SystemExit):
        return f"the body called sys.exit({error.code!r})"
    try:
        return _clip(str(error))
    except BaseException as problem:  # noqa: BLE001 - a user's __str__ may raise anything
        return f"<{type(error).__name__} whose text could not be made: {type(problem).__name__}>"


def _notes(error: BaseException) -> tuple[str, ...]:
    try:
        return tuple(_clip(str(note)) for note in list(error.__notes__)[:MAX_CHAIN])
    except BaseException:  # noqa: BLE001 - there are none, or they are no list of texts
        return ()


def _args(error: BaseException) -> str | None:
    """The arguments as JSON, when all are plain values, so that the controller can build the exception again."""
    try:
        args = error.args
        if all(isinstance(value, str | int | float | bool | None) for value in args):
            text = msgspec.json.encode(args)
            return text.decode() if len(text) <= MAX_TEXT else None
    except BaseException:  # noqa: BLE001 - a user's args may be anything
        return None
    return None


def _traceback(error: BaseException) -> str:
    try:
        _cut_chain(error)
        lines = traceback.TracebackException.from_exception(
            error, limit=-100, compact=True, max_group_width=1000
        ).format()
        return "".join(lines)
    except BaseException:  # noqa: BLE001 - formatting calls the user's __str__ and __repr__
        return "".join(_frames(error.__traceback__)) + f"{_name(type(error))}: {text_of(error)}\n"


def _frames(trace: TracebackType | None) -> list[str]:
    return ["Traceback (most recent call last):\n", *traceback.format_tb(trace, limit=-100)]


def _cut_chain(error: BaseException) -> None:
    """Cut a chain of causes that is longer than MAX_CHAIN; one that goes in a circle has an end already."""
    seen: set[int] = set()
    here: BaseException | None = error
    while here is not None and id(here) not in seen:
        seen.add(id(here))
        following = here.__cause__ or here.__context__
        if len(seen) == MAX_CHAIN:
            here.__cause__ = here.__context__ = None
        here = following if len(seen) < MAX_CHAIN else None


def _clip(text: str) -> str:
    """Bounded, and valid UTF-8 whatever it was made of; the middle is what goes."""
    if len(text) <= MAX_TEXT // 4 and text.isascii():
        return text
    data = text.encode("utf-8", "replace")
    if len(data) > MAX_TEXT:
        half = MAX_TEXT // 2 - 40
        dropped = len(data) - 2 * half
        data = data[:half] + f"\n… {dropped} bytes left out …\n".encode() + data[-half:]
    return data.decode("utf-8", "replace")[:MAX_TEXT]
