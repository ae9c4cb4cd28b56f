"""Move inline values between bodies and the spec or the result, with errors that name the asset and the way out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from rivers._io.files.value_files import commit_error
from rivers._io.inline.errors import InlineError
from rivers._io.inline.values import decode_value, encode_value
from rivers._io.one_shot import refuse_one_shot
from rivers.exceptions import InputLoadError, ValueNotFoundError
from rivers.protocol.limits import LIMITS
from rivers.protocol.ref import InlineValue

__all__ = ["check_total", "load_input", "make_input", "make_output"]


def make_output(key: str, value: Any, run_id: str, step: str) -> InlineValue:
    """Return an output as it travels in the result.

    Raises:
        OutputCommitError: it cannot travel inline; another attempt cannot help.
    """
    refuse_one_shot(value, key, run_id, step)
    try:
        return InlineValue(key=key, data=encode_value(value))
    except InlineError as error:
        message = f"{_subject(key, value, error)} {error}, so it cannot travel inline"
        raise commit_error(message, run_id, step, retryable=False, hint=_way_out(key, error)) from error


def make_input(key: str, value: Any, reader: str) -> InlineValue:
    """Return an input of a step as it travels in the spec.

    Raises:
        InputLoadError: it cannot travel inline.
    """
    try:
        return InlineValue(key=key, data=encode_value(value))
    except InlineError as error:
        raise InputLoadError(
            f"{_subject(key, value, error)} {error}, so it cannot travel inline to {reader!r}",
            hint=_way_out(key, error),
        ) from error


def load_input(values: Mapping[str, InlineValue], key: str, reader: str) -> Any:
    """Return the value of an input from those of its spec.

    Raises:
        InputLoadError: it is not among them, or cannot be decoded here.
    """
    found = values.get(key)
    if found is None:
        raise ValueNotFoundError(f"the value of {key!r}, an input of {reader!r}, is not in the spec of its step")
    try:
        return decode_value(found.data)
    except InlineError as error:
        raise InputLoadError(
            f"the value of {key!r}, an input of {reader!r}, {error}",
            hint="the worker needs the same packages as the process that made the value",
        ) from error


def check_total(values: Iterable[InlineValue]) -> str | None:
    """Return the problem of a spec or a result with more inline values than it may have, or None."""
    sizes = [len(value.data) for value in values]
    if len(sizes) > LIMITS.inputs:
        return f"{len(sizes):,} values travel inline, and at most {LIMITS.inputs:,} may"
    if sum(sizes) > LIMITS.inline_total:
        most = f"{LIMITS.inline_total:,}"
        return f"{len(sizes):,} values of {sum(sizes):,} bytes travel inline, and at most {most} bytes may"
    return None


def _way_out(key: str, error: InlineError) -> str:
    store = 'rs.PickleIOHandler("s3://bucket/folder")'
    name = key.partition("[")[0]
    # A task of a graph asset uses its graph's handlers.
    on = f"the graph asset {name.partition('/')[0]!r} a node_io_handler" if "/" in name else f"{name!r} an io_handler"
    way = f"give {on}, or the repository a default_io_handler, such as {store}"
    return f"{error.hint}, or {way}" if error.hint else way


def _subject(key: str, value: object, error: InlineError) -> str:
    """Return the subject of an error's sentence, with the type unless the error names it."""
    kind = type(value)
    if str(error).startswith("is "):
        return f"the value of {key!r}"
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"the value of {key!r}, a {name},"
