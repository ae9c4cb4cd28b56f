"""Refs: how a function, an IO handler or a resource travels to a worker, as a name and JSON, never as code.

One union for all three. Making a ref looks at the live object; following one is `rivers._runner.refs`.
"""

from __future__ import annotations

from typing import TypeAlias

import msgspec

__all__ = ["ConfiguredRef", "ImportRef", "LocalRef", "PickledRef", "Ref"]


class ImportRef(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="import", tag_field="kind"):
    """An object that lives at module scope: import `module`, then walk the attributes of `qualname`."""

    module: str
    qualname: str


class ConfiguredRef(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="configured", tag_field="kind"):
    """A pydantic object: its class by import, its fields as JSON (the text of a JSON object)."""

    cls: ImportRef
    json: str


class PickledRef(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="pickled", tag_field="kind"):
    """The fallback for closures and `<locals>`: a cloudpickle, at most 1 MiB.

    `sha256` is the digest of `payload`, `hmac` is HMAC-SHA256 over it with the key of the run; both are verified
    before a byte is unpickled, and only where the worker's own policy allows pickles at all.
    """

    payload: bytes
    sha256: bytes
    hmac: bytes


class LocalRef(msgspec.Struct, frozen=True, kw_only=True, gc=False, tag="local", tag_field="kind"):
    """An object that only this process holds, under `token` in the run's table; it never leaves the process.

    Closures, in-memory stores and live resources on a backend with `isolation="none"`. Both codecs refuse it.
    """

    token: str


Ref: TypeAlias = ImportRef | ConfiguredRef | PickledRef | LocalRef
