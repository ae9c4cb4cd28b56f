"""Merge cases whose definitions do not conflict into one, so that they share a repository and a run."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rivers.testing.conformance.cases.case import Case

__all__ = ["CaseBatch", "make_batches"]


class CaseBatch:
    """Cases that run together: `cases`, and the one case that `merged` makes of them."""

    def __init__(self) -> None:
        self.cases: list[Case] = []
        self._names: dict[str, Any] = {}

    def add(self, case: Case) -> bool:
        """Add a case; return False if it cannot share a run with the cases that are here."""
        names = _names_of(case)
        if self.cases and (not _is_mergeable(case) or not _is_mergeable(self.cases[0])):
            return False
        # The same object may be part of many cases.
        if any(self._names.get(name, owner) is not owner for name, owner in names.items()):
            return False
        self._names |= names
        self.cases.append(case)
        return True

    @property
    def merged(self) -> Case:
        """Return one case with the parts of all."""
        if len(self.cases) == 1:
            return self.cases[0]
        parts: dict[str, Any] = {}
        for name in ("assets", "tasks"):
            parts[name] = list({id(one): one for case in self.cases for one in case.parts.get(name, ())}.values())
        parts["resources"] = {k: v for case in self.cases for k, v in case.parts.get("resources", {}).items()}
        config = {k: v for case in self.cases for k, v in case.run.get("config", {}).items()}
        return Case(
            name="several cases",
            parts=parts,
            states={k: v for case in self.cases for k, v in case.states.items()},
            run={"config": config},
            values={k: v for case in self.cases for k, v in case.values.items()},
            absent=tuple(dict.fromkeys(name for case in self.cases for name in case.absent)),
        )


def make_batches(cases: Iterable[Case]) -> list[CaseBatch]:
    """Put each case into the first batch that takes it."""
    batches: list[CaseBatch] = []
    for case in cases:
        if not any(batch.add(case) for batch in batches):
            batch = CaseBatch()
            batch.add(case)
            batches.append(batch)
    return batches


def _is_mergeable(case: Case) -> bool:
    known = {"assets", "tasks", "resources"}
    return case.first is None and case.run.keys() <= {"config"} and case.parts.keys() <= known and bool(case.states)


def _names_of(case: Case) -> dict[str, Any]:
    """Return every name that the case takes, each with its owner."""
    names: dict[str, Any] = {}
    for asset in case.parts.get("assets", ()):
        names |= dict.fromkeys((asset.name, *asset.output_names), asset)
    names |= {task.name: task for task in case.parts.get("tasks", ())}
    names |= {f"resource {name}": owner for name, owner in case.parts.get("resources", {}).items()}
    config = case.run.get("config", {})
    # A default is an upstream where there is one, so a case may depend on the absence of a name.
    return names | {f"config {name}": id(config) for name in config}
