"""The trailer behind every stored pickle: which attempt wrote which key, and a checksum that proves it whole.

    pickle | time \\n attempt id \\n key | length of the names | checksum of all before it | RIV2
                                          4 bytes, little       16 bytes, XXH3-128          4 bytes

Before the key may stand a memo, data version \\n fingerprint \\n, of a run that skips what did not change, and behind
the memo, which is empty otherwise, a note \\n of what the body has said of its output.

`pickle.load` stops at the end of the pickle, so the file can be read without rivers, too. Values of earlier versions
end in RIV1 and have a SHA-256 of 32 bytes.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from hashlib import sha256
from typing import Any, NamedTuple

from xxhash import xxh3_128

from rivers._io.memo import Memo

__all__ = [
    "TAIL_BYTES",
    "Damaged",
    "Names",
    "Trailer",
    "find_pointed_attempt",
    "parse_names",
    "seal",
    "trailer_size",
    "unseal",
]

_MAGIC = b"RIV2"
# XXH3-128 takes 0.3 ms for 10 MB, zlib.crc32 2.9 and SHA-256 6.6 (one core of an x86-64 server, Python 3.11). It finds
# torn and damaged files. A cryptographic hash would not help: anyone who can write to the store can run code.
_FORMATS: dict[bytes, tuple[Any, str, int]] = {_MAGIC: (xxh3_128, "XXH3-128", 16), b"RIV1": (sha256, "SHA-256", 32)}
_UNKNOWN: tuple[Any, str, int] = (None, "", 0)

TAIL_BYTES = 4096
"""Reading this much from the end of a stored value is enough for its `Trailer`, unless that has a long note."""
_MOST_BYTES = 256 * 1024


class Names(NamedTuple):
    """The time of writing (nanoseconds since the epoch, the writer's clock), the attempt and the key of a value.

    The time orders two values where the store's own times cannot: file systems count in milliseconds, object stores in
    seconds. `version` and `fingerprint` are those of its memo, and `note` its note, None without one.
    """

    written: int
    attempt_id: str
    key: str
    version: str | None = None
    fingerprint: str | None = None
    note: str | None = None

    def memo(self) -> Memo:
        """Return what a later run needs to know of the value."""
        return Memo(self.attempt_id, self.version, self.fingerprint, self.note)


class Damaged(Exception):
    """The error of bytes that are not what was written under this key."""


class Trailer:
    """The trailer of a value of `size` bytes, read from its last bytes.

    `pickled` is the size of the pickle. Update `checksum` with the first `covered` bytes, in any pieces, then `check`.

    Raises:
        Damaged: the trailer is not whole.
    """

    __slots__ = ("_expected", "_name", "_names", "checksum", "covered", "pickled")

    def __init__(self, tail: memoryview, size: int) -> None:
        new, self._name, length = _FORMATS.get(bytes(tail[-4:]), _UNKNOWN)
        end = len(tail) - length - 8
        names = int.from_bytes(tail[end : end + 4], "little") if end >= 0 else 0
        self.covered = size - length - 4
        self.pickled = self.covered - 4 - names
        if new is None or end < names or self.pickled < 0:
            raise Damaged(f"{size:,} bytes without the trailer that rivers writes: cut short, or from elsewhere")
        self.checksum = new()
        self._names = bytes(tail[end - names : end])
        self._expected = bytes(tail[end + 4 : -4])

    def check(self, key: str) -> None:
        """Raise Damaged if a byte is missing, added or changed, or if it is the value of another key."""
        found = self.checksum.digest()
        if found != self._expected:
            raise Damaged(f"{self._name} expected {self._expected.hex()}, found {found.hex()}")
        if not self._names.endswith(b"\n" + key.encode()):
            raise Damaged(f"it holds the value of {self.names().key!r}")

    def names(self) -> Names:
        """Return the names; raise Damaged if rivers did not write them."""
        try:
            written, attempt_id, *memo, key = self._names.decode().split("\n")
            if len(memo) not in (0, 2, 3):
                raise ValueError(f"{len(memo) + 3} lines")
            version, fingerprint, note = [*[text or None for text in memo], None, None, None][:3]
            return Names(int(written), attempt_id, key, version, fingerprint, note)
        except ValueError as error:
            raise Damaged(f"a trailer with names that rivers does not write: {error}") from error


def seal(
    body: Iterable[bytes | memoryview],
    attempt_id: str,
    key: str,
    written: int | None = None,
    memo: Memo | None = None,
) -> bytes:
    """Return the trailer to write behind the pieces of `body`; `written` in nanoseconds is now unless it is given."""
    noted = ""
    if memo is not None and memo.fingerprint:
        noted = f"{memo.version}\n{memo.fingerprint}\n"
    if memo is not None and memo.note:
        noted = f"{noted or chr(10) * 2}{memo.note}\n"
    # A key that cannot be encoded is refused later, as a path.
    names = f"{time.time_ns() if written is None else written}\n{attempt_id}\n{noted}{key}".encode(errors="replace")
    names += len(names).to_bytes(4, "little")
    checksum = xxh3_128()
    for chunk in body:
        checksum.update(chunk)
    checksum.update(names)
    return b"%b%b%b" % (names, checksum.digest(), _MAGIC)


def trailer_size(tail: memoryview) -> int:
    """Return the bytes that a trailer takes, by the last `TAIL_BYTES` of its value; 0 if they are damaged."""
    _, _, length = _FORMATS.get(bytes(tail[-4:]), _UNKNOWN)
    end = len(tail) - length - 8
    if not length or end < 0:
        return 0
    size = int.from_bytes(tail[end : end + 4], "little") + length + 8
    return size if size <= _MOST_BYTES else 0


def unseal(data: memoryview, key: str) -> memoryview:
    """Return the pickle of a whole value; raise Damaged as `Trailer.check` does."""
    trailer = Trailer(data, len(data))
    trailer.checksum.update(data[: trailer.covered])
    trailer.check(key)
    return data[: trailer.pickled]


def parse_names(data: memoryview) -> Names:
    """Return the names at the end of a value without checking the rest; raise Damaged without a whole trailer."""
    return Trailer(data, len(data)).names()


def find_pointed_attempt(data: memoryview) -> str | None:
    """Return the attempt that a pointer, whose pickle is empty, names; None for a value or damaged bytes."""
    try:
        trailer = Trailer(data, len(data))
    except Damaged:
        return None
    return trailer.names().attempt_id if trailer.pickled == 0 else None
