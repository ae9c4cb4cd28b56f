"""Circles among things that need each other: found in linear time, told by the shortest path."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["find_cycles", "in_order"]

MOST_CYCLES = 20
MOST_STARTS = 200
MOST_VISITS = 400_000
"""From up to so many nodes a breadth-first search looks for the shortest way back, in a huge tangle from fewer."""


def in_order(upstream: Sequence[Sequence[int]]) -> list[int]:
    """Every index after those it needs, in the given order where there is a choice; what a cycle holds up is not."""
    waiting = [len(needed) for needed in upstream]
    children: list[list[int]] = [[] for _ in upstream]
    for index, needed in enumerate(upstream):
        for above in needed:
            children[above].append(index)
    order = [index for index, count in enumerate(waiting) if count == 0]
    for index in order:  # grows while it is walked
        for child in children[index]:
            waiting[child] -= 1
            if waiting[child] == 0:
                order.append(child)
    return order


def find_cycles(upstream: Sequence[Sequence[int]], order: Sequence[int]) -> list[list[int]]:
    """Cycles without a common member, each as short as can be, each member needing the one before it.

    `order` is what `in_order` made of `upstream`; at most 20 cycles are told.
    """
    core = set(range(len(upstream))) - set(order)
    found: list[list[int]] = []
    while len(found) < MOST_CYCLES:
        core = _peeled(upstream, core)
        if not core:
            break
        shortest = _some_cycle(upstream, core)
        starts = dict.fromkeys([*shortest, *sorted(core)[:MOST_STARTS]])
        for start in list(starts)[: max(1, min(MOST_STARTS, MOST_VISITS // len(core)))]:
            path = _way_back(upstream, core, start, len(shortest))
            if path and len(path) < len(shortest):
                shortest = path
        first = shortest.index(min(shortest))
        found.append(shortest[first:] + shortest[:first])
        core.difference_update(shortest)
    return found


def _peeled(upstream: Sequence[Sequence[int]], core: set[int]) -> set[int]:
    """What is left of `core` without the members that need none of it or that none of it needs, again and again."""
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


def _some_cycle(upstream: Sequence[Sequence[int]], core: set[int]) -> list[int]:
    """Any cycle: everything here needs something here, so walking up must come back to where it was."""
    index = min(core)
    walked: dict[int, int] = {}
    while index not in walked:
        walked[index] = len(walked)
        index = next(above for above in upstream[index] if above in core)
    return list(walked)[walked[index] :][::-1]


def _way_back(upstream: Sequence[Sequence[int]], core: set[int], start: int, limit: int) -> list[int]:
    """The shortest cycle through `start` that is shorter than `limit`, or nothing."""
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
