"""Check the invariants of a torture by its journal, its results and its kills."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable

from journal import JournalEntry

import rivers as rs

__all__ = ["Charge", "charges_of", "find_wrong_charges", "find_wrong_entries", "find_wrong_steps"]

Attempt = tuple[str, str, int]
"""A run, a step and the attempt's number."""


class Charge:
    """An attempt that was charged as lost: `run`, `step`, its number, and the pid of the worker it was lost with."""

    def __init__(self, run: str, step: str, attempt: int, failure: rs.protocol.Failure) -> None:
        evidence = failure.evidence or rs.protocol.Evidence()
        self.attempt: Attempt = (run, step, attempt)
        self.pid = int((evidence.worker or "pid 0").removeprefix("pid "))
        self.by_kill = failure.reason is rs.FailureReason.INFRASTRUCTURE and evidence.signal == 9
        self.text = f"{step} of run {run}, attempt {attempt}: {failure.reason.value}, {failure.message}"


def charges_of(result: rs.RunResult) -> list[Charge]:
    """Return the charged attempts of a run."""
    reports = result.steps.values()
    return [Charge(result.run_id, r.step, i, f) for r in reports for i, f in enumerate(r.failures, 1)]


def find_wrong_steps(result: rs.RunResult, steps: Iterable[str]) -> list[str]:
    """Describe steps that have not succeeded, are missing, or are too many."""
    planned = set(steps)
    wrong = [f"{step}: not in the result" for step in planned - set(result.steps)]
    wrong += [f"{step}: in the result, and not in the plan" for step in set(result.steps) - planned]
    wrong += [
        f"{step}: {report.state.value} after {report.attempts} attempts: {report.failures[-1:]}"
        for step, report in result.steps.items()
        if report.state != rs.StepState.SUCCEEDED
    ]
    wrong += [
        f"{step}: {report.attempts} attempts, but {len(report.failures)} have failed"
        for step, report in result.steps.items()
        if report.attempts != len(report.failures) + 1
    ]
    return wrong


def find_wrong_entries(entries: list[JournalEntry]) -> list[str]:
    """Describe attempts that began, stored or committed twice, and steps that two attempts have committed."""
    wrong = []
    for what in ("begin", "end", "store"):
        counts = Counter((entry.run, entry.step, entry.who) for entry in entries if entry.what == what)
        wrong += [f"{attempt}: {count} times {what!r}" for attempt, count in counts.items() if count > 1]
    winners: dict[tuple[str, str], set[str]] = defaultdict(set)
    for entry in entries:
        if entry.what == "stored":
            winners[entry.run, entry.step].add(entry.who)
    wrong += [f"{step}: committed by {sorted(ids)}" for step, ids in winners.items() if len(ids) > 1]
    return wrong


def find_wrong_charges(
    entries: list[JournalEntry], results: list[rs.RunResult], killed: Counter[int]
) -> tuple[list[str], int]:
    """Describe charges that no kill explains; also return the number of charges for attempts that had not begun.

    The last body that began in the killed worker is the one to be charged, unless it had succeeded: then the worker was
    between two, and the charged attempt, whose inputs were being loaded, must not have begun anywhere.
    """
    began: dict[Attempt, int] = {}
    lives: dict[int, dict[str, Attempt]] = defaultdict(dict)
    for entry in entries:
        if entry.what == "begin":
            attempt = (entry.run, entry.step, int(entry.who))
            began[attempt] = entry.pid
            lives[entry.pid][entry.life] = attempt
    succeeded = {(r.run_id, report.step, report.attempts) for r in results for report in r.steps.values()}
    charges = [charge for result in results for charge in charges_of(result)]
    wrong = [f"not as a kill: {charge.text}" for charge in charges if not charge.by_kill]
    lost = Counter(charge.pid for charge in charges)
    wrong += [f"pid {pid}: {n} charges for {killed[pid]} kills" for pid, n in lost.items() if n > killed[pid]]
    for charge in charges:
        last = lives[charge.pid].values()
        if charge.attempt in began:
            if began[charge.attempt] != charge.pid:
                wrong.append(f"began in pid {began[charge.attempt]}, charged to {charge.pid}: {charge.text}")
            elif charge.attempt not in last:
                wrong.append(f"was over when its worker was killed: {charge.text}")
        elif last and not succeeded.intersection(last):
            wrong.append(f"had not begun when {[*last]} ran in its worker: {charge.text}")
    return wrong, sum(charge.attempt not in began for charge in charges)
