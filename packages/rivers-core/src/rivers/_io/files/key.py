"""Map storage keys to file and object names: injective, readable, never outside the prefix.

A key is a printable string of at most 512 bytes; `/` separates its segments. Two different keys never get the same
name on a case-sensitive store. Ambiguous characters are percent-encoded; a name that is too long for a file (255 bytes)
or an object (1,024 bytes) ends in a SHA-256 instead.
"""

from __future__ import annotations

import re
from hashlib import sha256
from urllib.parse import quote

from rivers.exceptions import ConfigurationError

__all__ = ["SUFFIX", "flat_name", "object_path"]

SUFFIX = ".pkl"

_MAX_KEY_BYTES = 512
_MAX_SEGMENT_BYTES = 200
_MAX_PATH_BYTES = 700
# Two of them, a separator and a suffix make one file name of at most 255 bytes.
_MAX_FLAT = 120

# Percent-encoding never puts a dash behind the percent sign, so `%-` can only start a digest.
_DIGEST = "%-"
_RESERVED = re.compile(r'[%\\:*?"<>|]')
# Most keys match this and need no escaping.
_SIMPLE = re.compile(r"[A-Za-z0-9_\-=,+@()\[\]]+(?:/[A-Za-z0-9_\-=,+@()\[\]]+)*").fullmatch
# The same for one file name. An attempt id has a dot inside, and escaping one costs 2 µs a step.
_SIMPLE_FLAT = re.compile(r"[A-Za-z0-9_\-=,+@()\[\]][A-Za-z0-9_\-=,+@()\[\]./]*").fullmatch
_FLAT_SAFE = "[]=,+@()"


def object_path(key: str) -> str:
    """Return the path of `key`'s latest value below the prefix; its segments stay readable.

    A name with the suffix is always a value and a name without it always a folder, so that `a` and `a.pkl/b` do not
    collide. No segment starts with a dot: `.rivers` is reserved for rivers' own files.

    Raises ConfigurationError for a key that is empty, too long, not printable, or has a `..` segment.
    """
    if len(key) <= _MAX_FLAT and _SIMPLE(key):
        return key + SUFFIX
    _check(key)
    segments = key.split("/")
    if ".." in segments:
        raise ConfigurationError(
            f"invalid storage key {key!r}: expected no '..' segment, as it would leave the store's prefix",
            hint="rename the asset or the mapping key; '/' may be used, '..' between slashes may not",
        )
    names = [_segment(segment) for segment in segments]
    folders = [f"{name[:-4]}%2Epkl" if name.endswith(SUFFIX) else name for name in names[:-1]]
    path = "/".join((*folders, names[-1]))
    if len(path.encode()) > _MAX_PATH_BYTES:
        path = f"{_DIGEST}key-{sha256(key.encode()).hexdigest()}"
    return path + SUFFIX


def flat_name(name: str) -> str:
    """Return one file name for a key, a run id or an attempt id: ASCII, no `/`, no `~`, at most 120 characters."""
    if _SIMPLE_FLAT(name):
        flat = name.replace("/", "%2F")
    elif not name:
        return "%"
    else:
        _check(name)
        flat = quote(name, safe=_FLAT_SAFE).replace("~", "%7E")
        if flat.startswith("."):
            flat = "%2E" + flat[1:]
    if len(flat) > _MAX_FLAT:
        flat = f"{flat[:40]}{_DIGEST}{sha256(name.encode()).hexdigest()}"
    return flat


def _segment(segment: str) -> str:
    if not segment:
        return "%"
    name = _RESERVED.sub(lambda found: f"%{ord(found[0]):02X}", segment)
    if name.startswith("."):
        name = "%2E" + name[1:]
    encoded = name.encode()
    if len(encoded) > _MAX_SEGMENT_BYTES:
        head = encoded[:100].decode(errors="ignore")
        name = f"{head}{_DIGEST}{sha256(segment.encode()).hexdigest()}"
    return name


def _check(key: str) -> None:
    if not key or not key.isprintable():
        raise ConfigurationError(
            f"invalid storage key {key[:200]!r}: expected one or more printable characters",
            hint="a key may hold any printable character, but no control characters, newlines or lone surrogates",
        )
    if len(key.encode()) > _MAX_KEY_BYTES:
        raise ConfigurationError(
            f"invalid storage key {key[:60]!r}…: expected at most {_MAX_KEY_BYTES} bytes, it has {len(key.encode()):,}"
        )
