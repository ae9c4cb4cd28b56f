"""Describe an exception as a `Failure`: bounded text and plain values, whatever the exception's methods do."""

from __future__ import annotations

import traceback
from types import TracebackType

import msgspec

from rivers._runner.exception_state import is_json, write_state
from rivers._runner.own_frames import hide_own_frames, is_full_traceback_wanted
from rivers.protocol.exception_text import MAX_TEXT, clip, exception_text, type_name
from rivers.protocol.failure import Evidence, Failure, FailureReason

__all__ = ["make_failure"]

MAX_CHAIN = 50


def make_failure(
    error: BaseException,
    reason: FailureReason,
    *,
    transient: bool = True,
    evidence: Evidence | None = None,
) -> Failure:
    """Describe an exception as a value. Never raises, even when the exception's own methods do."""
    args = _args(error)
    return Failure(
        reason=reason,
        type=type_name(type(error)),
        mro=tuple(type_name(cls) for cls in type(error).__mro__),
        message=exception_text(error),
        args=args,
        state=write_state(error, args is not None),
        traceback=clip(_traceback(error)),
        notes=_notes(error),
        evidence=evidence,
        transient=transient,
    )


def _notes(error: BaseException) -> tuple[str, ...]:
    notes: list[str] = []
    # Message, traceback, state and notes together must stay below the protocol's 1 MiB.
    room = 2 * MAX_TEXT
    try:
        for note in list(error.__notes__)[:MAX_CHAIN]:
            text = clip(str(note))
            room -= len(text.encode())
            if room < 0:
                break
            notes.append(text)
    except BaseException:  # noqa: BLE001 - there are none, or they are no list of texts
        return tuple(notes)
    return tuple(notes)


def _args(error: BaseException) -> str | None:
    """Return the arguments as a JSON array where all of them are JSON's own values, for readers in any language."""
    try:
        args = error.args
        if is_json(args):
            text = msgspec.json.encode(args)
            return text.decode() if len(text) <= MAX_TEXT else None
    except BaseException:  # noqa: BLE001 - a user's args may be anything
        return None
    return None


def _traceback(error: BaseException) -> str:
    try:
        _cut_chain(error)
        shown = traceback.TracebackException.from_exception(error, limit=-100, compact=True, max_group_width=1000)
        if not is_full_traceback_wanted():
            hide_own_frames(shown, error)
        return "".join(shown.format())
    except BaseException:  # noqa: BLE001 - formatting calls the user's __str__ and __repr__
        return "".join(_frames(error.__traceback__)) + f"{type_name(type(error))}: {exception_text(error)}\n"


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
