"""Errors of inline values; the caller adds the key, the step and the way out."""

from __future__ import annotations

__all__ = ["InlineError", "InlineTooLargeError"]


class InlineError(Exception):
    """A value that cannot travel inline; the message continues "the value of 'x' …" and shows none of it."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.hint = hint


class InlineTooLargeError(InlineError):
    """A value above the limit."""
