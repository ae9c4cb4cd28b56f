"""Decide about a pool: `decide(state, fact, now)` returns the next state and the effects to carry out.

    request ──▶ waiting ──▶ an idle worker of its shape, or the start of one where the limit leaves a place
    worker  ──▶ starting ──▶ leased ⇄ idle ──▶ stopping ──▶ gone

It does no I/O and reads no clock.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, replace

from rivers_worker.pool.facts import (
    Asked,
    Closed,
    Died,
    Effect,
    Fact,
    Fail,
    Give,
    Gone,
    Limited,
    Ready,
    Returned,
    Returning,
    Start,
    StartFailed,
    Stop,
    Ticked,
    Unused,
    Withdrawn,
)
from rivers_worker.pool.state import PooledWorker, PoolState, ShapeState, WaitingRequest, WorkerRequest

__all__ = ["decide"]

NOTHING = ShapeState()


def decide(state: PoolState, fact: Fact, now: float) -> tuple[PoolState, list[Effect]]:
    """Return the state after a fact at the time `now`, and the effects to carry out in this order."""
    draft = _Draft(state, now)
    match fact:
        case Asked():
            draft.ask(fact.request)
        case Withdrawn():
            draft.withdraw(fact.request)
        case Ready():
            draft.take_ready(fact)
        case StartFailed():
            draft.fail_start(fact)
        case Returning():
            draft.expect_back(fact.worker)
        case Returned():
            draft.take_back(fact)
        case Unused():
            draft.take_unused(fact.worker)
        case Died():
            draft.remove_dead(fact.worker)
        case Gone():
            draft.stopping.pop(fact.worker, None)
        case Limited():
            draft.limit(fact.limit)
        case Ticked():
            draft.expire()
        case Closed():
            draft.close()
    draft.start_missing()
    return draft.freeze(), draft.effects


@dataclass(slots=True)
class _ShapeDraft:
    """A copy of a ShapeState that may change."""

    waiting: dict[int, WaitingRequest]
    starting: dict[int, PooledWorker]
    returning: dict[int, PooledWorker]
    idle: dict[int, PooledWorker]

    def freeze(self) -> ShapeState:
        return ShapeState(self.waiting, self.starting, self.returning, self.idle)


class _Draft:
    """A copy of a state that one fact changes."""

    def __init__(self, state: PoolState, now: float) -> None:
        self._state = state
        self._now = now
        self._changed: dict[Hashable, _ShapeDraft] = {}
        self._last = state.last_number
        self._closed = state.is_closed
        self._limits = state.limits
        self.leased = dict(state.leased)
        self.stopping = dict(state.stopping)
        self.effects: list[Effect] = []

    def freeze(self) -> PoolState:
        shapes = dict(self._state.shapes)
        for name, draft in self._changed.items():
            shapes[name] = draft.freeze()
            if not (draft.waiting or shapes[name].size):
                del shapes[name]
        return replace(
            self._state,
            limits=self._limits,
            shapes=shapes,
            leased=self.leased,
            stopping=self.stopping,
            last_number=self._last,
            is_closed=self._closed,
        )

    # ── facts ──

    def ask(self, request: WorkerRequest) -> None:
        number = self._new_number()
        if self._closed:
            self.effects.append(Fail(number, None))
            return
        shape = self._shape(request.shape)
        shape.waiting[number] = WaitingRequest(request=request, since=self._now)
        if shape.idle:
            self._give(number, _best_of(shape.idle, request.modules))

    def withdraw(self, number: int) -> None:
        shape = self._shape_with("waiting", number)
        if shape is None:
            return
        start = shape.waiting.pop(number).start
        # A start goes with it, unless others wait for that: pods that no node has room for must not stay.
        surplus = _surplus_starts(shape)
        if surplus:
            self._stop(shape.starting, start if start in surplus else surplus[0], "its request was withdrawn")

    def take_ready(self, fact: Ready) -> None:
        shape = self._shape_with("starting", fact.worker)
        if shape is None:
            return  # it is being stopped
        worker = shape.starting.pop(fact.worker)
        attempts = min(fact.attempts, self._limits.max_attempts)
        # One that is bound may have no second lease.
        worker = shape.idle[fact.worker] = replace(worker, left=attempts, usable=not fact.bound, since=self._now)
        if fact.bound:
            if worker.asker in shape.waiting:
                self._give(worker.asker, fact.worker)
            else:
                self._stop(shape.idle, fact.worker, "its request has another worker")
        elif attempts < 1:
            self._stop(shape.idle, fact.worker, "it takes no attempt")
        else:
            self._give_next(shape, fact.worker)

    def fail_start(self, fact: StartFailed) -> None:
        shape = self._shape_with("starting", fact.worker)
        if shape is None:
            return  # it is being stopped
        asker = shape.starting.pop(fact.worker).asker
        if shape.waiting.pop(asker, None) is not None:
            self.effects.append(Fail(asker, fact.error))

    def expect_back(self, number: int) -> None:
        worker = self.leased.get(number)
        if worker is not None and worker.usable and worker.left:
            self._shape(worker.shape).returning[number] = self.leased.pop(number)

    def take_back(self, fact: Returned) -> None:
        worker = self._end_lease(fact.worker)
        if worker is None:
            return  # the pool was closed
        left = min(worker.left, fact.attempts)
        self._settle(fact.worker, replace(worker, left=left, modules=fact.modules), fact.clean)

    def take_unused(self, number: int) -> None:
        worker = self._end_lease(number)
        if worker is not None:
            self._settle(number, replace(worker, left=worker.left + 1), clean=True)

    def remove_dead(self, number: int) -> None:
        if number in self.leased:
            # Its lease ends soon, with the attempt that it had.
            self.leased[number] = replace(self.leased[number], usable=False)
        elif (shape := self._shape_with("idle", number)) is not None:
            self._stop(shape.idle, number, "it has ended")
        elif (shape := self._shape_with("returning", number)) is not None:
            self.leased[number] = replace(shape.returning.pop(number), usable=False)

    def limit(self, limit: int | None) -> None:
        self._limits = replace(self._limits, limit=limit)
        for _ in range(-self._free_places() - len(self.stopping)):
            self._make_place()

    def expire(self) -> None:
        ttl = self._limits.idle_ttl
        for name, shape in self._state.shapes.items():
            for number, worker in shape.idle.items():
                if worker.since + ttl > self._now:
                    break
                self._stop(self._shape(name).idle, number, f"it was idle for {ttl:g} s")

    def close(self) -> None:
        self._closed = True
        reason = "the pool is closed"
        for name in self._state.shapes:
            shape = self._shape(name)
            self.effects += [Fail(number, None) for number in shape.waiting]
            shape.waiting.clear()
            for workers in (shape.starting, shape.returning, shape.idle):
                for number in list(workers):
                    self._stop(workers, number, reason)
        for number in list(self.leased):
            self._stop(self.leased, number, reason)

    def start_missing(self) -> None:
        """Start workers for requests that have none coming, the longest-waiting first, as far as there are places."""
        places = self._free_places()
        starts = self._limits.max_starting - sum(len(self._peek(name).starting) for name in self._names())
        # Workers that stop leave their places to those that come first.
        leaving = len(self.stopping)
        if starts <= 0 or (places <= 0 and leaving <= 0 and not self._can_make_place()):
            return  # without a look at each of thousands of requests
        for name, number in self._without_start()[:starts]:
            if places > 0:
                places -= 1
                self._start(name, number)
            elif leaving > 0:
                leaving -= 1
            elif not self._make_place():
                return

    # ── steps ──

    def _end_lease(self, number: int) -> PooledWorker | None:
        shape = self._shape_with("returning", number)
        return self.leased.pop(number, None) if shape is None else shape.returning.pop(number)

    def _settle(self, number: int, worker: PooledWorker, clean: bool) -> None:
        """Decide about a worker whose lease is over."""
        shape = self._shape(worker.shape)
        shape.idle[number] = replace(worker, since=self._now)
        if not (clean and worker.usable):
            self._stop(
                shape.idle, number, "it can have no other attempt" if clean else "its last attempt was not clean"
            )
        elif worker.left < 1:
            self._stop(shape.idle, number, "it has served its number of attempts")
        elif self._free_places() + len(self.stopping) < 0 or self._is_overdue_elsewhere(shape):
            self._stop(shape.idle, number, "its place is needed")
        else:
            self._give_next(shape, number)

    def _give_next(self, shape: _ShapeDraft, worker: int) -> None:
        """Lease an idle worker to the longest-waiting request of its shape, if there is one."""
        number = next(iter(shape.waiting), None)
        if number is not None:
            self._give(number, worker)

    def _give(self, number: int, worker: int) -> None:
        shape = self._shape_with("idle", worker)
        assert shape is not None
        given = shape.idle.pop(worker)
        del shape.waiting[number]
        self.leased[worker] = replace(given, left=given.left - 1)
        self.effects.append(Give(worker, number))

    def _start(self, name: Hashable, number: int) -> None:
        shape = self._shape(name)
        worker = self._new_number()
        waiting = shape.waiting[number]
        shape.waiting[number] = replace(waiting, start=worker)
        shape.starting[worker] = PooledWorker(shape=name, modules=waiting.request.modules, left=0, asker=number)
        self.effects.append(Start(worker, number))

    def _stop(self, workers: dict[int, PooledWorker], number: int, reason: str) -> None:
        self.stopping[number] = workers.pop(number)
        self.effects.append(Stop(number, reason))

    def _can_make_place(self) -> bool:
        return any(shape.idle or _surplus_starts(shape) for shape in map(self._peek, self._names()))

    def _make_place(self) -> bool:
        """Stop a worker that nobody waits for: the one that is idle for the longest, else one that starts."""
        shapes = {name: self._peek(name) for name in self._names()}
        idle = [(next(iter(shape.idle.values())).since, name) for name, shape in shapes.items() if shape.idle]
        if idle:
            _, name = min(idle, key=lambda entry: entry[0])
            draft = self._shape(name)
            self._stop(draft.idle, next(iter(draft.idle)), "its place is needed")
            return True
        for name, shape in shapes.items():
            if surplus := _surplus_starts(shape):
                self._stop(self._shape(name).starting, surplus[0], "its place is needed")
                return True
        return False

    def _without_start(self) -> list[tuple[Hashable, int]]:
        """Return the requests for which no worker starts, the longest-waiting first."""
        found: list[tuple[int, Hashable]] = []
        for name in self._names():
            shape = self._peek(name)
            if shape.missing > 0:
                asking = [key for key, waiting in shape.waiting.items() if waiting.start not in shape.starting]
                # Those before them get the workers that come already.
                found += ((key, name) for key in asking[-shape.missing :])
        return [(name, key) for key, name in sorted(found, key=lambda entry: entry[0])]

    def _is_overdue_elsewhere(self, own: _ShapeDraft) -> bool:
        """Return True if a request of another shape has waited too long for a place, and before all of this shape."""
        others = (self._peek(name) for name in self._names() if self._changed.get(name) is not own)
        if all(shape.missing <= 0 for shape in others):
            return False
        missing = self._without_start()
        if len(missing) <= len(self.stopping) + max(0, self._free_places()):
            return False
        name, number = missing[len(self.stopping)]
        longest = next(iter(own.waiting), number + 1)
        waiting = self._peek(name).waiting[number]
        return number < longest and waiting.since + self._limits.patience <= self._now

    # ── access ──

    def _free_places(self) -> int:
        limit = self._limits.limit
        if limit is None:
            return sys.maxsize
        ready = sum(shape.size for shape in map(self._peek, self._names()))
        return limit - ready - len(self.leased) - len(self.stopping)

    def _names(self) -> Iterable[Hashable]:
        return dict.fromkeys((*self._state.shapes, *self._changed))

    def _new_number(self) -> int:
        self._last += 1
        return self._last

    def _peek(self, name: Hashable) -> ShapeState:
        draft = self._changed.get(name)
        return self._state.shapes.get(name, NOTHING) if draft is None else draft.freeze()

    def _shape(self, name: Hashable) -> _ShapeDraft:
        """Return the copy of a shape's state that may change."""
        if name not in self._changed:
            kept = self._state.shapes.get(name, NOTHING)
            self._changed[name] = _ShapeDraft(
                dict(kept.waiting), dict(kept.starting), dict(kept.returning), dict(kept.idle)
            )
        return self._changed[name]

    def _shape_with(self, part: str, number: int) -> _ShapeDraft | None:
        """Return the shape whose `waiting`, `starting` or `idle` has this number."""
        for name in self._names():
            if number in getattr(self._peek(name), part):
                return self._shape(name)
        return None


def _surplus_starts(shape: ShapeState | _ShapeDraft) -> list[int]:
    """Return workers that start for a request which does not wait any more, if more start than are waited for."""
    # One that cleans up may turn out not to be clean, so it makes no start superfluous.
    count = max(0, len(shape.starting) - len(shape.waiting))
    unasked = (number for number, worker in shape.starting.items() if worker.asker not in shape.waiting)
    return list(itertools.islice(unasked, count))


def _best_of(idle: dict[int, PooledWorker], modules: frozenset[str]) -> int:
    """Return the worker that has imported most of the modules; of equals, the one that became idle last."""
    return max(reversed(idle), key=lambda number: len(modules & idle[number].modules))
