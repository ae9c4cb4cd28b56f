"""Notes: what a body has said of its output, stored with the value for a controller that did not hear of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from rivers._record.redact import Redactor

__all__ = ["MOST_NOTE_BYTES", "Note", "make_note", "parse_note"]

MOST_NOTE_BYTES = 64 * 1024
"""Of larger metadata none are stored with the value: a note is read with each look at a trailer."""


class Note(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The metadata that a body has attached, as the text of a JSON object, and the data version that it registered."""

    metadata: str | None = None
    data_version: str | None = None

    def fields(self) -> dict[str, Any]:
        """Return the metadata as a dict."""
        return msgspec.json.decode(self.metadata, type=dict[str, Any]) if self.metadata is not None else {}


def make_note(metadata: Mapping[str, Any], version: str | None, redactor: Redactor) -> str | None:
    """Return the note of an output as one line, without secrets; None if there is nothing to note, or it is too long.

    `metadata` are JSON values, as `check_metadata` takes them.
    """
    text = msgspec.json.encode(metadata).decode() if metadata else None
    # JSON escapes line breaks.
    line = redactor.line(msgspec.json.encode(Note(metadata=text, data_version=version)))
    if len(line) > MOST_NOTE_BYTES:
        line = redactor.line(msgspec.json.encode(Note(data_version=version))) if version is not None else b""
    return line.decode() if 0 < len(line) <= MOST_NOTE_BYTES else None


def parse_note(text: str | None) -> Note:
    """Return a stored note; an empty one for None and for what is no note."""
    if text is None:
        return Note()
    try:
        note = msgspec.json.decode(text, type=Note)
        note.fields()
    except (msgspec.DecodeError, UnicodeError):
        return Note()
    return note
