"""Run laws against an executor, without pytest."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from rivers._definitions.executor import Executor
from rivers.protocol import describe_exception
from rivers.testing.conformance.law import Law, LawViolation
from rivers.testing.conformance.registry import LAWS
from rivers.testing.conformance.subject import Subject

__all__ = ["LawResult", "run_law", "run_laws"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LawResult:
    """The result of one law: `text` is the reason of a skip or of a failure, `figures` what was measured."""

    law: Law
    outcome: Literal["passed", "failed", "skipped"]
    text: str = ""
    seconds: float = 0.0
    figures: Mapping[str, float] = field(default_factory=dict)


def run_law(law: Law | str, subject: Subject | Executor) -> LawResult:
    """Judge an executor by one law; a failed law is returned and not raised.

    Raises:
        ExecutorNotInstalledError: the registry finds no backend of the executor.
    """
    if isinstance(subject, Executor):
        with Subject(subject) as made:
            return run_law(law, made)
    law = LAWS[law] if isinstance(law, str) else law
    missing = law.missing(subject)
    if missing is not None:
        return LawResult(law=law, outcome="skipped", text=missing)
    began = time.monotonic()
    subject.figures = {}
    try:
        law.check(subject)
    except LawViolation as violation:
        text = _failure_text(law, str(violation))
    except Exception as error:  # noqa: BLE001 - whatever an executor raises where it should not breaks the law
        text = _failure_text(law, f"raised {describe_exception(error)}")
    else:
        return LawResult(law=law, outcome="passed", seconds=time.monotonic() - began, figures=subject.figures)
    return LawResult(law=law, outcome="failed", text=text, seconds=time.monotonic() - began, figures=subject.figures)


def run_laws(
    subject: Subject | Executor,
    laws: Iterable[Law] | None = None,
    *,
    on_result: Callable[[LawResult], None] | None = None,
) -> list[LawResult]:
    """Judge an executor by all laws of its tier, or by these."""
    if isinstance(subject, Executor):
        with Subject(subject) as made:
            return run_laws(made, laws, on_result=on_result)
    found = []
    for law in LAWS.values() if laws is None else laws:
        if laws is None and law.tier == "full" and subject.tier == "quick":
            continue
        found.append(run_law(law, subject))
        if on_result is not None:
            on_result(found[-1])
    return found


def _failure_text(law: Law, seen: str) -> str:
    return f"{law.name}: {seen}\n  law: {law.demand}\n  why: {law.reason}\n  see: {law.page}"
