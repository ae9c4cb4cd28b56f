"""Fingerprints: one line of text for all that a step's value depends on, which a later run compares with its own.

1:<digest> c:shop.assets:clean=8f3a12bc g:limit=… i:orders=…
  └ decides └ short hashes by name: they only explain a difference, and are left out where there is no room
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from hashlib import blake2b
from typing import Final
from urllib.parse import quote, unquote
from zlib import crc32

from rivers.protocol.limits import LIMITS

__all__ = ["UNKNOWN", "detail", "explain", "is_same", "make_fingerprint"]

UNKNOWN: Final = "?"
"""The fingerprint of a step that cannot be compared; its value is made in every run."""

_KINDS = {
    "c": "code of `{}`",
    "v": "code_version",
    "g": "config field `{}`",
    "h": "IO handler of `{}`",
    "r": "resource `{}`",
    "k": "constant `{}`",
    "i": "input `{}`",
    "a": "upstream `{}`, which ran again",
}


def detail(kind: str, name: str, short: str) -> str:
    """Return the detail of one dependency: `kind` is a key of the table above, `short` its short hash."""
    return f" {kind}:{_quote(name)}={short}"


# An upstream has the same name for each of its readers, and an element for each of its runs.
@lru_cache(1024)
def _quote(name: str) -> str:
    return quote(name, safe=":/[]._<>-")


def make_fingerprint(seed: bytes, details: str, inputs: Iterable[tuple[str, str, str]]) -> str:
    """Return the fingerprint of a unit.

    `seed` is the digest of what its definition depends on, and `details` its details. `inputs` are the kind, the name
    and the version of each input, in order.
    """
    digest = blake2b(seed, digest_size=16)
    parts = [details]
    for kind, name, version in inputs:
        digest.update(f"{kind}{name}\0{version}\0".encode("utf-8", "surrogatepass"))
        parts.append(detail(kind, name, f"{crc32(version.encode('utf-8', 'surrogatepass')):x}"))
    head = f"1:{digest.hexdigest()}"
    whole = head + "".join(parts)
    return whole if len(whole) <= LIMITS.fingerprint else head


def is_same(stored: str | None, wanted: str) -> bool:
    """Return whether a stored fingerprint says that nothing has changed."""
    return stored is not None and wanted != UNKNOWN and stored.partition(" ")[0] == wanted.partition(" ")[0]


def explain(stored: str, wanted: str) -> tuple[str, ...]:
    """Return what differs between two fingerprints, in words."""
    old, new = _details(stored), _details(wanted)
    found = [name for name in new if old.get(name) != new[name]]
    if not old or not new:
        # One of the two had no room for details.
        found = []
    reasons = dict.fromkeys(_word(name) for name in found)
    # A helper that is gone was left out of a function that changed, too.
    gone = [name for name in old if name not in new and not name.startswith("c:")] if new else []
    reasons |= dict.fromkeys(f"{_word(name)}, which is gone" for name in gone)
    return tuple(reasons) or ("its code, its config or an input",)


def _details(fingerprint: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in fingerprint.split(" ")[1:]:
        name, _, short = part.rpartition("=")
        found[name] = short
    return found


def _word(name: str) -> str:
    kind, _, rest = name.partition(":")
    rest = unquote(rest)
    return _KINDS.get(kind, "{}").format(rest.rpartition(":")[2] if kind == "c" else rest)
