"""All semantic cases, and those of the quick tier."""

from __future__ import annotations

from rivers.testing.conformance.cases import bash, bodies, children, faults, graphs, hints, iterators, shared
from rivers.testing.conformance.cases.case import Case, Fails

__all__ = ["ALL_CASES", "CASES", "QUICK_CASES", "Case", "Fails"]

CASES: list[Case] = [
    *bodies.CASES,
    *hints.CASES,
    *iterators.CASES,
    *graphs.CASES,
    *bash.CASES,
    *faults.CASES,
    *children.CASES,
    *shared.CASES,
]

# What becomes of a surrogate depends on the encoding of the process's own stdout, too.
ALL_CASES = [case for case in CASES if case.name != "surrogates"]
"""The cases of the full tier."""
_QUICK = (
    *("upstream by parameter name", "async", "generator", "output", "two outputs of one value", "context", "logs"),
    *("hint list", "map", "a failure stops neither siblings nor unrelated steps", "sys.exit"),
    *("async timeout", "retried until it succeeds", "fan-out breaks", "stream ordered", "bash signal"),
)
QUICK_CASES: list[Case] = [case for case in ALL_CASES if case.name in _QUICK]
"""Cases that need no repository of their own: they run together, in one run."""
