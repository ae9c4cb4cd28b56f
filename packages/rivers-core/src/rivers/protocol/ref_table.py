"""The table of refs in an encoded spec, so that a repeated ref is written once.

An asset with 10,000 inputs has few IO handlers, and each of their refs takes about 200 bytes. In an encoded spec the
inputs, outputs and inner steps hold a `TableRef` instead, and `StepSpec.refs` the refs themselves. Only the codecs use
this form. Small specs are written without a table, so that a peer of protocol 1.0 can read them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from msgspec.structs import replace

from rivers.protocol.ref import Ref, TableRef
from rivers.protocol.spec import Input, StepSpec

__all__ = ["encode_with_table", "restore_refs", "share_refs"]

MANY_REFS = 64
"""From this number of inputs, outputs and inner steps on, a spec is written with a table."""
MANY_BYTES = 64 * 1024
"""Above this size, a spec of fewer refs is written with a table, too: each may be a pickle of up to 1 MiB."""

T = TypeVar("T")


def encode_with_table(spec: StepSpec, encode: Callable[[StepSpec], T], size: Callable[[T], int]) -> T:
    """Encode a spec by `encode`, with a table of refs where that pays; `size` measures what `encode` returns."""
    # A small spec goes without a table, so that a peer of protocol 1.0 can read it.
    if len(spec.inputs) + len(spec.outputs) + len(spec.inner) < MANY_REFS:
        encoded = encode(spec)
        if size(encoded) <= MANY_BYTES:
            return encoded
    return encode(share_refs(spec))


def share_refs(spec: StepSpec) -> StepSpec:
    """Return the spec with each ref once in its table, and a `TableRef` where it was."""
    entries: dict[Ref, TableRef] = {}

    def to_entry(ref: Ref) -> Ref:
        entry = entries.get(ref)
        if entry is None:
            entry = entries[ref] = TableRef(index=len(entries))
        return entry

    shared = _with_refs(spec, to_entry)
    return replace(shared, refs=tuple(entries))


def restore_refs(spec: StepSpec) -> StepSpec:
    """Return the spec without its table; a `TableRef` to no entry stays, and `check_limits` refuses it."""
    table = spec.refs

    def from_entry(ref: Ref) -> Ref:
        # The index comes from the peer: a negative one would count from the end of the tuple.
        known = type(ref) is TableRef and 0 <= ref.index < len(table)
        return table[ref.index] if known else ref  # type: ignore[union-attr]  # a TableRef has one

    return replace(_with_refs(spec, from_entry), refs=())


def _with_refs(spec: StepSpec, change: Callable[[Ref], Ref]) -> StepSpec:
    """Return the spec with every ref changed, except that of its function, which occurs once."""
    return replace(
        spec,
        inputs=tuple([_input_with_refs(given, change) for given in spec.inputs]),
        outputs=tuple([replace(output, io_handler=change(output.io_handler)) for output in spec.outputs]),
        inner=tuple(
            [
                replace(
                    inner,
                    function=change(inner.function),
                    inputs=tuple([_input_with_refs(given, change) for given in inner.inputs]),
                )
                for inner in spec.inner
            ]
        ),
    )


def _input_with_refs(given: Input, change: Callable[[Ref], Ref]) -> Input:
    handler = getattr(given, "io_handler", None)
    if handler is not None:
        return replace(given, io_handler=change(handler))
    ref = getattr(given, "ref", None)
    return given if ref is None else replace(given, ref=change(ref))
