"""The trailer behind every stored pickle: which attempt wrote which key, and a digest that proves it whole.

    pickle | attempt id \\n key | length of the names | SHA-256 of all before it | RIV1
                                 4 bytes, little       32 bytes                   4 bytes

`pickle.load` stops at the end of the pickle, so the file can be read without rivers, too.
"""

from __future__ import annotations

import time
from hashlib import sha256
from typing import NamedTuple

__all__ = ["TAIL_BYTES", "Damaged", "Names", "names_in", "pointed_to", "seal", "unseal"]

_MAGIC = b"RIV1"
_FIXED = 40

TAIL_BYTES = 4096
"""Reading this much from the end of a stored value is enough for `names_in`."""


class Names(NamedTuple):
    """When the value was written (nanoseconds since the epoch, the writer's clock), by which attempt, under which key.

    The time tells which of two values is newer where the store's own times do not: file systems tell times in steps of
    milliseconds, object stores in seconds.
    """

    written: int
    attempt_id: str
    key: str


class Damaged(Exception):
    """The bytes are not what was written under this key."""


def seal(body: bytes, attempt_id: str, key: str, written: int | None = None) -> bytes:
    """Return the trailer to write behind `body`; `written` in nanoseconds is now unless it is given."""
    # What cannot be encoded is refused as a path.
    names = f"{time.time_ns() if written is None else written}\n{attempt_id}\n{key}".encode(errors="replace")
    names += len(names).to_bytes(4, "little")
    digest = sha256(body)
    digest.update(names)
    return b"%b%b%b" % (names, digest.digest(), _MAGIC)


def unseal(data: memoryview, key: str) -> memoryview:
    """Return the pickle; raise Damaged where a byte is missing, added or changed, or where it is another key's."""
    fixed = bytes(data[-_FIXED:])
    size = int.from_bytes(fixed[:4], "little")
    if fixed[36:] != _MAGIC or size + _FIXED > len(data):
        raise _cut_short(data)
    found = sha256(data[:-36]).digest()
    if found != fixed[4:36]:
        raise Damaged(f"SHA-256 expected {fixed[4:36].hex()}, found {found.hex()}")
    end = len(data) - _FIXED - size
    if not bytes(data[end:-_FIXED]).endswith(b"\n" + key.encode()):
        raise Damaged(f"it holds the value of {names_in(data).key!r}")
    return data[:end]


def names_in(data: memoryview) -> Names:
    """Read the names from the end of a value, without looking at the rest; raise Damaged without a whole trailer."""
    size = int.from_bytes(data[-_FIXED : 4 - _FIXED], "little")
    if data[-4:] != _MAGIC or size + _FIXED > len(data):
        raise _cut_short(data)
    try:
        written, attempt_id, key = bytes(data[-_FIXED - size : -_FIXED]).decode().split("\n")
        return Names(int(written), attempt_id, key)
    except ValueError as error:
        raise Damaged(f"a trailer with names that rivers does not write: {error}") from error


def pointed_to(data: memoryview) -> str | None:
    """The attempt whose staged object holds the value, where the pickle is empty; None for a value or damaged bytes."""
    size = int.from_bytes(data[-_FIXED : 4 - _FIXED], "little")
    if data[-4:] != _MAGIC or size + _FIXED != len(data):
        return None
    return names_in(data).attempt_id


def _cut_short(data: memoryview) -> Damaged:
    return Damaged(f"{len(data):,} bytes without the trailer that rivers writes: cut short, or from elsewhere")
