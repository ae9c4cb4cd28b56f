"""The limits of the protocol, in one table."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["LIMITS", "Limits"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """The largest size of a spec, a result or an event, and of their parts.

    `size` is bytes of a whole encoded value, `depth` how far its containers (and those of a JSON text in it) nest,
    `nodes` how many values it holds. `inputs` is the length of a list of inputs, outputs or inner steps. In bytes of
    UTF-8: `text` any text, `key` a name or key (1 to that many, printable), `name` a module or qualname, `metadata`
    what one output or asset says of itself, `log` one log message, `traceback` one traceback. `pickle` is bytes of one
    pickled payload, `timeout` seconds (30 days), `attempt` the highest attempt number. `inline` is bytes of one inline
    value, `inline_total` bytes of all that are in a spec or in a result. `fingerprint` is bytes of
    a fingerprint, `version` bytes of the data version of an element.
    """

    # gRPC refuses messages above 4 MiB by default; 64 KiB are left for what surrounds the value.
    size: int = (4 << 20) - (64 << 10)
    depth: int = 32
    nodes: int = 250_000
    inputs: int = 10_000
    text: int = 256 * 1024
    key: int = 512
    name: int = 255
    metadata: int = 256 * 1024
    log: int = 16 * 1024
    traceback: int = 64 * 1024
    pickle: int = 1 << 20
    inline: int = 32 * 1024
    # The rest of `size` is left for the names.
    inline_total: int = 3 << 20
    # Both stand in a value's trailer, of which a reader gets 4 KiB.
    fingerprint: int = 2048
    version: int = 128
    timeout: float = 30 * 24 * 3600.0
    attempt: int = 1_000


LIMITS = Limits()
"""The limits in force, the same on both sides of every boundary."""
