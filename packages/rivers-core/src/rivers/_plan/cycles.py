"""Topological order, and the shortest cycles where there is none."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["find_cycles", "sort_topologically"]

MOST_CYCLES = 20
MOST_STARTS = 200
MOST_VISITS = 400_000
"""Bounds of the search: the most cycles, the most start nodes for each, and visits, which take about 0.1 s."""


def sort_topologically(upstream: Sequence[Sequence[int]]) -> list[int]:
    """Return every index after those it needs, in the given order where there is a choice.

    Indices in a cycle, or downstream of one, are left out.
    """
    waiting = [len(needed) for needed in upstream]
    children: list[list[int]] = [[] for _ in upstream]
    for index, needed in enumerate(upstream):
        for above in needed:
            children[above].append(index)
    order = [index for index, count in enumerate(waiting) if count == 0]
    # Grows while it is walked.
    for index in order:
        for child in children[index]:
            waiting[child] -= 1
            if waiting[child] == 0:
                order.append(child)
    return order


def find_cycles(upstream: Sequence[Sequence[int]], order: Sequence[int]) -> list[list[int]]:
    """Return short cycles without a common member, each member needing the one before it.

    `order` is the result of `sort_topologically`. At most 20 cycles are returned.
    """
    core = set(range(len(upstream))) - set(order)
    found: list[list[int]] = []
    while len(found) < MOST_CYCLES:
        core = _trim_core(upstream, core)
        if not core:
            break
        shortest = _find_any_cycle(upstream, core)
        starts = dict.fromkeys([*shortest, *sorted(core)[:MOST_STARTS]])
        for start in list(starts)[: max(1, min(MOST_STARTS, MOST_VISITS // len(core)))]:
            path = _find_cycle_through(upstream, core, start, len(shortest))
            if path and len(path) < len(shortest):
                shortest = path
        first = shortest.index(min(shortest))
        found.append(shortest[first:] + shortest[:first])
        core.difference_update(shortest)
    return found


def _trim_core(upstream: Sequence[Sequence[int]], core: set[int]) -> set[int]:
    """Return `core` without the members that are on no cycle: those that need, or are needed by, no other member."""
    children: dict[int, list[int]] = {index: [] for index in core}
    for index in core:
        for above in upstream[index]:
            if above in core:
                children[above].append(index)
    above_left = {index: sum(above in core for above in upstream[index]) for index in core}
    below_left = {index: len(below) for index, below in children.items()}
    left = set(core)
    loose = [index for index in core if not above_left[index] or not below_left[index]]
    while loose:
        index = loose.pop()
        if index not in left:
            continue
        left.discard(index)
        for child in children[index]:
            above_left[child] -= 1
            if not above_left[child]:
                loose.append(child)
        for above in upstream[index]:
            if above in left:
                below_left[above] -= 1
                if not below_left[above]:
                    loose.append(above)
    return left


def _find_any_cycle(upstream: Sequence[Sequence[int]], core: set[int]) -> list[int]:
    """Return any cycle of `core`."""
    # Every member needs another member, so that the walk upstream must come back to a node.
    index = min(core)
    walked: dict[int, int] = {}
    while index not in walked:
        walked[index] = len(walked)
        index = next(above for above in upstream[index] if above in core)
    return list(walked)[walked[index] :][::-1]


def _find_cycle_through(upstream: Sequence[Sequence[int]], core: set[int], start: int, limit: int) -> list[int]:
    """Return the shortest cycle through `start` that is shorter than `limit`, or an empty list."""
    came: dict[int, int] = {}
    level = [start]
    depth = 1
    while level and depth < limit:
        following: list[int] = []
        for index in level:
            for above in upstream[index]:
                if above == start:
                    path = [index]
                    while path[-1] != start:
                        path.append(came[path[-1]])
                    return path
                if above in core and above not in came:
                    came[above] = index
                    following.append(above)
        level, depth = following, depth + 1
    return []
