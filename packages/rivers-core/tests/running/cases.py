"""All semantic cases: the same body gives the same result, events and failure reason on every executor."""

from __future__ import annotations

from running import bodies, children, faults, graphs, hints, iterators, shared
from running.case import Case, Fails

__all__ = ["CASES", "Case", "Fails"]

CASES: list[Case] = [
    *bodies.CASES,
    *hints.CASES,
    *iterators.CASES,
    *graphs.CASES,
    *faults.CASES,
    *children.CASES,
    *shared.CASES,
]
