"""The lanes of a timeline: the workers of a run, or slots where each attempt has a worker of its own."""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import NamedTuple

__all__ = ["Lane", "LaneItem", "assign_lanes"]


class LaneItem(NamedTuple):
    """An attempt that takes a lane from `begin` to `end`; `attempt` is the number of its row."""

    attempt: int
    executor: str
    worker: str
    begin: float
    end: float


class Lane(NamedTuple):
    """A lane: its executor, its label and its attempts in order; `busy` are its seconds with an attempt."""

    executor: str
    label: str
    items: tuple[int, ...]
    busy: float


def assign_lanes(items: Iterable[LaneItem]) -> list[Lane]:
    """Return lanes in which no two attempts overlap.

    An executor whose workers run several attempts has a lane for each worker, and more where a worker runs several at
    once (async steps). One whose workers run one attempt each, as pods do, has as many lanes as attempts ran at once.
    """
    by_executor: dict[str, list[LaneItem]] = defaultdict(list)
    for item in items:
        by_executor[item.executor].append(item)
    lanes: list[Lane] = []
    for executor, own in sorted(by_executor.items()):
        # A pod runs one attempt: a lane for each would be as long as the table of steps.
        slots = _pack(executor, "slot", own, is_numbered=True)
        workers = {item.worker for item in own}
        if (len(workers) == len(own) and len(slots) < len(workers)) or workers == {""}:
            lanes += slots
            continue
        by_worker: dict[str, list[LaneItem]] = defaultdict(list)
        for item in sorted(own, key=lambda item: item.begin):
            by_worker[item.worker].append(item)
        for worker, given in by_worker.items():
            lanes += _pack(executor, worker or "no worker", given, is_numbered=False)
    return lanes


def _pack(executor: str, label: str, items: Sequence[LaneItem], *, is_numbered: bool) -> list[Lane]:
    """Give each item the lane that became free first, or a new one."""
    rows: list[list[LaneItem]] = []
    free: list[tuple[float, int]] = []
    for item in sorted(items, key=lambda item: (item.begin, item.end)):
        # Ends and begins of the same instant come from different clocks: 1 ms of overlap is none.
        if free and free[0][0] <= item.begin + 0.001:
            _, row = heapq.heappop(free)
        else:
            row = len(rows)
            rows.append([])
        rows[row].append(item)
        heapq.heappush(free, (item.end, row))
    # Most workers run one attempt at a time, and their lane needs no number.
    has_number = is_numbered or len(rows) > 1
    return [
        Lane(
            executor,
            f"{label} {number}" if has_number else label,
            tuple(item.attempt for item in row),
            sum(item.end - item.begin for item in row),
        )
        for number, row in enumerate(rows, 1)
    ]
