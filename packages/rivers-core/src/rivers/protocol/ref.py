"""References to functions, IO handlers and resources, as names and JSON, never as code.

One union for all three. Making a ref (`rivers._plan.refs`) looks at the live object; following one is
`rivers._runner.refs`. How a pickle is signed and how its signature is judged stand here, side by side.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import TypeAlias

import msgspec

__all__ = [
    "ConfiguredRef",
    "ImportRef",
    "InlineRef",
    "InlineValue",
    "LocalRef",
    "PickledRef",
    "Ref",
    "TableRef",
    "is_signed",
    "sign",
]


class ImportRef(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="import", tag_field="kind"):
    """An object at module scope: import `module`, then walk the attributes of `qualname`."""

    module: str
    qualname: str


class ConfiguredRef(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="configured", tag_field="kind"):
    """A pydantic object: its class by import, its fields as JSON (the text of a JSON object)."""

    cls: ImportRef
    json: str


# The digest finds damage even where the key is not known; the HMAC proves who pickled it.
class PickledRef(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="pickled", tag_field="kind"):
    """The fallback for closures and `<locals>`: a cloudpickle, at most 1 MiB.

    `sha256` is the digest of `payload`, `hmac` is HMAC-SHA256 over it with the key of the run; both are verified
    before a byte is unpickled, and only where the worker's own policy allows pickles at all.
    """

    payload: bytes
    sha256: bytes
    hmac: bytes


# A token, not the object: specs stay plain values, also in process, and are tested as such.
class LocalRef(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="local", tag_field="kind"):
    """An object of this process, under `token` in the run's table; the ref never leaves the process.

    Closures, in-memory stores and live resources on a backend with `isolation="none"`. Both codecs refuse it.
    """

    token: str


class TableRef(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="table", tag_field="kind"):
    """The ref at position `index` of `StepSpec.refs`; it exists in encoded specs only (`rivers.protocol.ref_table`)."""

    index: int


class InlineRef(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="inline", tag_field="kind"):
    """The IO handler of small values that travel in `StepSpec.values` and `OutputRecord.values` instead of storage."""


class InlineValue(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A small value that travels in a spec or a result; `data` is its encoding under the storage key `key`.

    The encoding is msgpack with extension types, never a pickle (`rivers._io.inline`).
    """

    key: str
    data: bytes

    def __repr__(self) -> str:
        # Specs and results end up in logs and error messages; a value may be a secret.
        return f"InlineValue(key={self.key!r}, data=<{len(self.data)} bytes>)"


Ref: TypeAlias = ImportRef | ConfiguredRef | PickledRef | LocalRef | TableRef | InlineRef


def sign(payload: bytes, key: bytes) -> PickledRef:
    """Return the ref of a pickled payload, signed with the key of the run."""
    return PickledRef(
        payload=payload,
        sha256=hashlib.sha256(payload).digest(),
        hmac=hmac.new(key, payload, hashlib.sha256).digest(),
    )


def is_signed(ref: PickledRef, key: bytes) -> bool:
    """Return whether a holder of this key has signed the payload; unpickle nothing."""
    expected = hmac.new(key, ref.payload, hashlib.sha256).digest()
    # Compared in constant time, so that a caller cannot guess a signature byte by byte.
    return hmac.compare_digest(expected, ref.hmac) and hashlib.sha256(ref.payload).digest() == ref.sha256
