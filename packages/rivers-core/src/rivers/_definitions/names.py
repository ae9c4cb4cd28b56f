"""Names of assets, tasks, outputs and jobs: the rule, and the closest name to a wrong one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import SequenceMatcher
from heapq import nlargest
from itertools import islice, pairwise

from rivers._definitions.arguments import plain_text, short_repr
from rivers.exceptions import ConfigurationError, DefinitionError

__all__ = ["check_name", "closest", "did_you_mean"]

# So that `graph/task[mapping key]` fits the 512 bytes of a step key.
MAX_NAME_BYTES = 180
"""Storage keys and file names are made of names, and a file name holds 255 bytes on every common file system."""

NAME_RULE = (
    "a name is 1 to 180 bytes of printable text without [ ] * or a comma and without white space at its ends; "
    'between slashes it has no empty part and no "." or ".."'
)
FORBIDDEN = "[]*,"
"""Brackets and comma separate mapping keys and names in selections, the star is their wildcard."""

LIKENESS = 0.6
"""How alike, from 0 to 1 as difflib counts, two names must be for one to be suggested; difflib's own default."""
MAX_CANDIDATES = 100_000
MAX_COMPARED = 32
"""A comparison by difflib takes about 20 µs, so only this many of the most promising candidates get one."""


def check_name(name: object, what: str = "asset", *, error: type[DefinitionError] = ConfigurationError) -> str:
    """Return the name of a `what` (asset, task, output, job, …) as plain text, else raise `error`.

    Every name can be part of a storage key, a file name, a selection and a log line as it stands.
    """
    text = plain_text(name)
    if text is None:
        raise error(
            f"invalid {what} name {short_repr(name)} (of type {type(name).__name__}): expected a str", hint=NAME_RULE
        )
    if problem := _name_problem(text):
        raise error(f"invalid {what} name {short_repr(name)}: it {problem}", hint=NAME_RULE)
    return text


def _name_problem(name: str) -> str | None:
    if not name:
        return "is empty"
    # Log lines and terminals show names as they are.
    if not name.isprintable():
        return "has a character that cannot be printed"
    if (size := len(name.encode())) > MAX_NAME_BYTES:
        return f"is {size} bytes long"
    if name != name.strip():
        return "has white space at an end"
    for character in FORBIDDEN:
        if character in name:
            return f"contains {character!r}"
    for part in name.split("/"):
        if part in ("", ".", ".."):
            return f"has the part {part!r}" if part else "has an empty part"
    return None


def closest(name: str, candidates: Iterable[str]) -> str | None:
    """Return the candidate most like `name`, or None when none is alike enough to be meant.

    About 0.1 s for 50,000 candidates: all are ranked by the letter pairs they share with `name`, and only the best few
    are compared properly. At most 100,000 candidates are looked at.
    """
    name = name[:MAX_NAME_BYTES]
    # Letter pairs first, difflib second: difflib on 50,000 names takes a second.
    wanted = name.casefold()
    pairs = set(pairwise(f" {wanted} "))

    def promise(candidate: str) -> float:
        theirs = set(pairwise(f" {candidate.casefold()} "))
        return len(pairs & theirs) / (len(pairs) + len(theirs))

    matcher = SequenceMatcher(a="", b=wanted, autojunk=False)
    best: tuple[float, str] | None = None
    for candidate in nlargest(MAX_COMPARED, islice(candidates, MAX_CANDIDATES), key=promise):
        matcher.set_seq1(candidate[:MAX_NAME_BYTES].casefold())
        likeness = matcher.ratio()
        if likeness >= LIKENESS and (best is None or likeness > best[0]):
            best = (likeness, candidate)
    return best[1] if best else None


def did_you_mean(name: str, candidates: Iterable[str]) -> str:
    """Return `; did you mean 'x'?` for the closest candidate, or nothing."""
    near = closest(name, candidates)
    return f"; did you mean {near!r}?" if near is not None else ""
