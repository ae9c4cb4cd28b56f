"""Replace secrets in what is recorded and shown."""

from __future__ import annotations

import contextlib
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
_OWN_FIELDS = frozenset({"event", "kind", "run_id", "attempt_id", "status", "reason", "stream"})
"""Fields whose values rivers itself has made: readers could not do without them."""
_TEXTS_OF_JSON = frozenset({"metadata", "args", "state"})
"""Fields that hold JSON as text."""
DEPTH = 8
FEW = 24
"""Texts that are sooner found one after another than by one regular expression."""


class Redactor:
    """A replacement of known secret values by `***`, in text and in encoded JSON; false when it knows none."""

    def __init__(self, secrets: Iterable[str]) -> None:
        # The longest first, so that a secret which contains another one is replaced whole.
        known = sorted({secret for secret in secrets if len(secret) >= SHORTEST}, key=len, reverse=True)
        self._known = frozenset(known)
        self._text = re.compile("|".join(map(re.escape, known))) if known else None
        # In JSON a secret with quotes, line breaks or other than ASCII characters is written in one of two ways, and
        # once more so in a text that is JSON itself.
        forms = _escaped(known)
        encoded = {form.encode("utf-8", "surrogatepass") for form in forms | _escaped(forms)}
        self._few = tuple(encoded) if len(encoded) <= FEW else ()
        self._line = re.compile(b"|".join(map(re.escape, encoded))) if len(encoded) > FEW else None

    def __bool__(self) -> bool:
        return self._text is not None

    def text(self, text: str) -> str:
        """Return the text without secrets."""
        return self._text.sub(MASK, text) if self._text is not None else text

    def line(self, line: bytes) -> bytes:
        """Return encoded JSON without secrets; it stays JSON of the same fields."""
        for form in self._few:
            if form in line:
                break
        else:
            if self._line is None or self._line.search(line) is None:
                return line
        # Not in the bytes: a PIN occurs in the digits of a time, and a password may be the name of a field.
        return json.dumps(self._redact(json.loads(line)), separators=(",", ":")).encode()

    def _redact(self, value: Any, name: str = "", *, is_of_user: bool = False) -> Any:
        """Return a value without secrets; `name` is the field that it is in, `is_of_user` for data of any shape."""
        if isinstance(value, str):
            if name in _TEXTS_OF_JSON and not is_of_user:
                with contextlib.suppress(ValueError, RecursionError):
                    return json.dumps(self._redact(json.loads(value), is_of_user=True))
            return value if name in _OWN_FIELDS and not is_of_user else self.text(value)
        if isinstance(value, dict):
            names = {key: self.text(key) if is_of_user else key for key in value}
            return {names[key]: self._redact(item, key, is_of_user=is_of_user) for key, item in value.items()}
        if isinstance(value, list):
            return [self._redact(item, name, is_of_user=is_of_user) for item in value]
        return MASK if is_of_user and str(value) in self._known else value


def _escaped(texts: Iterable[str]) -> set[str]:
    """Return the ways in which JSON writes these texts."""
    return {json.dumps(text, ensure_ascii=is_ascii)[1:-1] for text in texts for is_ascii in (False, True)}


def secrets_of(resources: Iterable[object], environment: Mapping[str, str]) -> set[str]:
    """Return the secret values that the controller knows.

    Those are the `SecretStr` and `SecretBytes` in resources, IO handlers and configs, and the variables of the
    environment whose names contain PASSWORD, SECRET, TOKEN or KEY; a path or a word such as `true` is taken for no
    secret.
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
        # Its fields alone: a handler in memory has its values beside them, which may be large and are no settings.
        for name in type(value).model_fields:
            _collect(value.__dict__.get(name), found, depth - 1)
        for item in (value.__pydantic_extra__ or {}).values():
            _collect(item, found, depth - 1)
    elif isinstance(value, Mapping):
        for item in value.values():
            _collect(item, found, depth - 1)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            _collect(item, found, depth - 1)
