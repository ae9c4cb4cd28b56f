"""Digests of code without a source: cells that are gone, `exec`, files that were edited since their import."""

from __future__ import annotations

import dis
import sys
import types
from collections.abc import Iterator
from hashlib import blake2b

from rivers._code.syntax import Reference, Syntax

__all__ = ["digest_bytecode"]

_LOOKUPS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF"})


def digest_bytecode(code: types.CodeType) -> Syntax:
    """Return the digest of the instructions, which a new version of Python changes; names of locals count, too."""
    parts: list[str] = [f"bytecode {sys.version_info[:2]}"]
    references: dict[Reference, None] = {}
    waiting = [code]
    while waiting:
        one = waiting.pop()
        constants = [const for const in one.co_consts if not isinstance(const, types.CodeType)]
        parts += [one.co_code.hex(), _stable(constants), repr((one.co_names, one.co_varnames, one.co_freevars))]
        parts.append(repr((one.co_argcount, one.co_kwonlyargcount, one.co_flags)))
        # Attributes are among the names, too: those that are no names of the module are found to be missing.
        references.update((Reference(name), None) for name in (*one.co_names, *one.co_freevars))
        references.update((reference, None) for reference in _chains(one))
        waiting += [const for const in one.co_consts if isinstance(const, types.CodeType)]
    digest = blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=16).digest()
    return Syntax(digest, tuple(references))


def _chains(code: types.CodeType) -> Iterator[Reference]:
    """Yield the names that are looked up with attributes, as `module.function`."""
    name: str = ""
    attributes: tuple[str, ...] = ()
    for one in dis.get_instructions(code):
        if one.opname in {"LOAD_ATTR", "LOAD_METHOD"} and name:
            attributes += (one.argval,)
            continue
        if attributes:
            yield Reference(name, attributes)
        name, attributes = (one.argval if one.opname in _LOOKUPS else ""), ()


def _stable(value: object) -> str:
    """Return the text of a constant; the order of a frozenset differs from process to process."""
    if isinstance(value, frozenset):
        return f"frozenset {sorted(map(_stable, value))}"
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_stable, value))}]"
    return f"{type(value).__name__} {value!r}"
