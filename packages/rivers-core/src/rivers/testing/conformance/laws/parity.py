"""Laws of parity: the same body has the same result, values, events and logs as in the controller's process."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rivers._definitions.executor import Executor
from rivers.testing.conformance.cases.case import Case
from rivers.testing.conformance.cases.merged import make_batches
from rivers.testing.conformance.cases.outcome import CaseOutcome
from rivers.testing.conformance.cases.table import ALL_CASES, QUICK_CASES
from rivers.testing.conformance.law import Law, expect, law
from rivers.testing.conformance.needs import STORE
from rivers.testing.conformance.subject import Subject

__all__ = ["LAWS"]

MAX_LINES = 10
"""Differences that a violation names; it counts the others."""


@dataclass(frozen=True)
class _Pair:
    """A case with its outcomes on the executor under test and in this process; a body that forks runs there alone."""

    case: Case
    there: CaseOutcome
    here: CaseOutcome | None

    def wrong(self, aspect: str) -> list[str]:
        """Return what is not as the case says, and how the outcome differs from that in this process."""
        differences = self.there.differences(self.case, self.here, (aspect,)) if self.here is not None else []
        return [*self.there.problems(self.case, (aspect,)), *differences]


def _run_cases(subject: Subject) -> list[_Pair]:
    """Run the cases of the tier on both executors, each batch in one run."""
    return list(_pairs(subject))


def _pairs(subject: Subject) -> Iterator[_Pair]:
    in_process = Executor.in_process()
    for batch in make_batches(ALL_CASES if subject.tier == "full" else QUICK_CASES):
        there = CaseOutcome(batch.merged, subject.executor, default_io_handler=subject.io_handler())
        here = None
        # A fork of a controller with threads may deadlock, and Python 3.12 warns of it.
        if not any(case.forks for case in batch.cases):
            here = CaseOutcome(batch.merged, in_process, default_io_handler=subject.io_handler())
        yield from (_Pair(case, there, here) for case in batch.cases)


def _expect_none(lines: list[str]) -> None:
    more = f"\n    and {len(lines) - MAX_LINES} more" if len(lines) > MAX_LINES else ""
    expect(not lines, "\n    ".join(["", *lines[:MAX_LINES]]) + more)


@law(
    "same-results",
    demand="A step has the state, attempts, outputs and failure that it has in_process.",
    reason="people choose an executor by one line, and a pipeline must not change its meaning by it.",
    needs=(STORE,),
)
def same_results(subject: Subject) -> None:
    """Compare the reports of all steps, with what each case expects and with in_process."""
    pairs: list[_Pair] = subject.share("cases", lambda: _run_cases(subject))
    subject.figures["cases"] = len(pairs)
    _expect_none([line for pair in pairs for line in pair.wrong("steps")])


@law(
    "same-values",
    demand="A step stores the value that it stores in_process.",
    reason="values cross a store and a process: a codec on the way that loses a type corrupts data silently.",
    needs=(STORE,),
)
def same_values(subject: Subject) -> None:
    """Compare what can be loaded after a run."""
    pairs: list[_Pair] = subject.share("cases", lambda: _run_cases(subject))
    _expect_none([line for pair in pairs for line in pair.wrong("values")])


@law(
    "same-events",
    demand="The events of a step are of the same kinds and in the same order as in_process.",
    reason="progress, hooks and reports are made of events.",
    needs=(STORE,),
)
def same_events(subject: Subject) -> None:
    """Compare the kinds of each step's events."""
    pairs: list[_Pair] = subject.share("cases", lambda: _run_cases(subject))
    _expect_none([line for pair in pairs for line in pair.wrong("events")])


@law(
    "same-logs",
    demand="A step's log records and printed lines are those that it has in_process.",
    reason="a line that is lost or changed is the one that somebody looks for.",
    needs=(STORE,),
)
def same_logs(subject: Subject) -> None:
    """Compare level, logger and text of each step's logs."""
    pairs: list[_Pair] = subject.share("cases", lambda: _run_cases(subject))
    _expect_none([line for pair in pairs for line in pair.wrong("logs")])


LAWS: tuple[Law, ...] = (same_results, same_values, same_events, same_logs)
