"""Bounded text for exceptions: the type's name, the message, and both on one line."""

from __future__ import annotations

__all__ = ["MAX_TEXT", "clip", "describe_exception", "exception_text", "labelled", "type_name"]

MAX_TEXT = 64 * 1024
"""Bytes of a message or a traceback that are kept (security.md 3.7)."""


def describe_exception(error: BaseException) -> str:
    """Return `KeyError: 'x'`: the type's name and the message, as the last line of a traceback has them.

    The message alone would not do: of `KeyError('x')` it is `'x'`, and of `ValueError()` it is empty.
    """
    return labelled(type_name(type(error)), exception_text(error))


def labelled(name: str, message: str) -> str:
    """Return `name: message`, or the one of them that there is; errors of rivers go without their module's name."""
    name = name.removeprefix("rivers.exceptions.")
    return f"{name}: {message}" if name and message else name or message


def type_name(cls: type) -> str:
    """Return `module.qualname` of a class, or its qualname alone for a builtin."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


def exception_text(error: BaseException) -> str:
    """Return the exception's message; never raises, even where the exception's own `__str__` does."""
    if isinstance(error, SystemExit):
        return f"the body called sys.exit({error.code!r})"
    try:
        return clip(str(error))
    except BaseException as problem:  # noqa: BLE001 - a user's __str__ may raise anything
        return f"<{type(error).__name__} whose text could not be made: {type(problem).__name__}>"


def clip(text: str) -> str:
    """Return text of at most `MAX_TEXT` bytes of valid UTF-8; the middle of a longer text is dropped."""
    if len(text) <= MAX_TEXT // 4 and text.isascii():
        return text
    data = text.encode("utf-8", "replace")
    if len(data) > MAX_TEXT:
        half = MAX_TEXT // 2 - 40
        dropped = len(data) - 2 * half
        data = data[:half] + f"\n… {dropped} bytes left out …\n".encode() + data[-half:]
    return data.decode("utf-8", "replace")[:MAX_TEXT]
