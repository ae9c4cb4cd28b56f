"""Replace secrets in what is recorded and shown."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import pydantic

__all__ = ["MASK", "Redactor", "secrets_of"]

MASK = "***"
SHORTEST = 4
"""Characters. Shorter values occur in ordinary text: hiding `1` would hide most of a record."""
SHORTEST_VARIABLE = 6
"""Characters, for environment variables, whose names alone do not prove that they hold a secret."""
_NAMES = re.compile("PASSWORD|PASSWD|SECRET|TOKEN|KEY", re.IGNORECASE)
_NOT_SECRET = re.compile(r"(?i)(true|false|enabled|disabled|default|/.*)")
DEPTH = 8


class Redactor:
    """A replacement of known secret values by `***`, in text and in encoded JSON; false when it knows none."""

    def __init__(self, secrets: Iterable[str]) -> None:
        # The longest first, so that a secret which contains another one is replaced whole.
        known = sorted({secret for secret in secrets if len(secret) >= SHORTEST}, key=len, reverse=True)
        self._text = re.compile("|".join(map(re.escape, known))) if known else None
        # In JSON a secret with quotes, line breaks or other than ASCII characters is written in one of two ways.
        forms = {json.dumps(one, ensure_ascii=is_ascii)[1:-1] for one in known for is_ascii in (False, True)}
        encoded = sorted((form.encode() for form in forms), key=len, reverse=True)
        self._line = re.compile(b"|".join(map(re.escape, encoded))) if known else None

    def __bool__(self) -> bool:
        return self._text is not None

    def text(self, text: str) -> str:
        """Return the text without secrets."""
        return self._text.sub(MASK, text) if self._text is not None else text

    def line(self, line: bytes) -> bytes:
        """Return encoded JSON without secrets; it stays JSON."""
        return self._line.sub(MASK.encode(), line) if self._line is not None else line


def secrets_of(resources: Iterable[object], environment: Mapping[str, str]) -> set[str]:
    """Return the secret values that the controller knows.

    Those are the `SecretStr` and `SecretBytes` in resources and IO handlers, and the variables of the environment whose
    names contain PASSWORD, SECRET, TOKEN or KEY; a path or a word such as `true` is taken for no secret.
    """
    found: set[str] = set()
    for resource in resources:
        _collect(resource, found, DEPTH)
    for name, value in environment.items():
        if _NAMES.search(name) and len(value) >= SHORTEST_VARIABLE and not _NOT_SECRET.fullmatch(value):
            found.add(value)
    return found


def _collect(value: Any, found: set[str], depth: int) -> None:
    if depth == 0:
        return
    if isinstance(value, pydantic.SecretStr):
        found.add(value.get_secret_value())
    elif isinstance(value, pydantic.SecretBytes):
        found.add(value.get_secret_value().decode("utf-8", "replace"))
    elif isinstance(value, pydantic.BaseModel):
        for item in (*value.__dict__.values(), *(value.__pydantic_extra__ or {}).values()):
            _collect(item, found, depth - 1)
    elif isinstance(value, Mapping):
        for item in value.values():
            _collect(item, found, depth - 1)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            _collect(item, found, depth - 1)
