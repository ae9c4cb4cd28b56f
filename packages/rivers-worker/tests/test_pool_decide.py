"""The decisions about a pool, under random facts: what holds after each of them, and what each rule means."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from rivers_worker.pool.decide import decide
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
from rivers_worker.pool.state import PoolLimits, PoolState, WorkerRequest

LIMIT, TTL, ATTEMPTS = 3, 30.0, 4
NONE: frozenset[str] = frozenset()


class PoolMachine(RuleBasedStateMachine):
    """A pool, and a record of its own of what it was asked and has answered."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.state = PoolState(limits=PoolLimits(limit=LIMIT, idle_ttl=TTL, max_attempts=ATTEMPTS))
        self.waiting: dict[int, WorkerRequest] = {}
        self.askers: dict[int, int] = {}
        self.shapes: dict[int, str] = {}
        self.leases: dict[int, int] = {}
        self.served: dict[int, int] = {}
        self.phase: dict[int, str] = {}
        self.spoiled: set[int] = set()
        self.idle_since: dict[int, float] = {}
        self.returning: set[int] = set()
        self.limit = LIMIT
        self.closed = False

    def apply(self, fact: Fact) -> None:
        before, alive_before = self.state, self.alive()
        self.state, effects = decide(before, fact, self.now)
        assert decide(before, fact, self.now) == (self.state, effects), "a decision depends on its arguments alone"
        for effect in effects:
            self.record(effect, fact)
        if isinstance(fact, Limited):
            self.limit = fact.limit or 0
        assert self.alive() <= max(self.limit, alive_before)

    def record(self, effect: Effect, fact: Fact) -> None:
        match effect:
            case Start(worker, request):
                assert worker not in self.phase
                self.phase[worker], self.askers[worker] = "starting", request
                self.shapes[worker] = self.waiting[request].shape
            case Give(worker, request):
                given = self.waiting.pop(request)
                assert self.phase[worker] == "ready"
                assert worker not in self.leases, "no worker has two leases"
                assert worker not in self.spoiled, "no worker is given after an attempt that was not clean"
                assert self.shapes[worker] == given.shape
                older = [key for key, one in self.waiting.items() if one.shape == given.shape and key < request]
                assert not older or self.askers[worker] == request, "the longest-waiting is first"
                self.leases[worker] = request
                self.served[worker] = self.served.get(worker, 0) + 1
                assert self.served[worker] <= ATTEMPTS
                self.idle_since.pop(worker, None)
            case Fail(request, error):
                del self.waiting[request]
                if error is None:
                    assert self.closed
                else:
                    assert isinstance(fact, StartFailed)
                    assert self.askers[fact.worker] == request, "an error goes to the request that asked"
            case Stop(worker, _):
                assert self.phase[worker] in ("starting", "ready")
                assert worker not in self.leases or self.closed, "only the end of the pool ends a lease"
                self.phase[worker] = "stopping"
                self.leases.pop(worker, None)
                self.returning.discard(worker)
                self.idle_since.pop(worker, None)

    def alive(self) -> int:
        return sum(phase != "gone" for phase in self.phase.values())

    def of(self, phase: str) -> list[int]:
        return [worker for worker, known in self.phase.items() if known == phase]

    # ── facts ──

    @rule(shape=st.sampled_from("AB"), modules=st.frozensets(st.sampled_from("xyz")), later=st.floats(0, 20))
    def ask(self, shape: str, modules: frozenset[str], later: float) -> None:
        self.now += later
        request = WorkerRequest(shape=shape, modules=modules)
        self.waiting[self.state.last_number + 1] = request
        self.apply(Asked(request))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def withdraw(self, data: Any) -> None:
        request = data.draw(st.sampled_from(sorted(self.waiting)))
        del self.waiting[request]
        self.apply(Withdrawn(request))

    @precondition(lambda self: self.of("starting"))
    @rule(data=st.data(), attempts=st.integers(0, 6), bound=st.booleans())
    def become_ready(self, data: Any, attempts: int, bound: bool) -> None:
        worker = data.draw(st.sampled_from(self.of("starting")))
        self.phase[worker] = "ready"
        self.idle_since[worker] = self.now
        self.apply(Ready(worker, attempts, bound))
        if bound:
            self.spoiled.add(worker)

    @precondition(lambda self: self.of("starting"))
    @rule(data=st.data())
    def fail_to_start(self, data: Any) -> None:
        worker = data.draw(st.sampled_from(self.of("starting")))
        self.phase[worker] = "gone"
        self.apply(StartFailed(worker, OSError("no")))

    @precondition(lambda self: self.leases)
    @rule(
        data=st.data(), clean=st.booleans(), attempts=st.integers(0, 6), modules=st.frozensets(st.sampled_from("xyz"))
    )
    def give_back(self, data: Any, clean: bool, attempts: int, modules: frozenset[str]) -> None:
        worker = data.draw(st.sampled_from(sorted(self.leases)))
        self.returning.discard(worker)
        del self.leases[worker]
        self.idle_since[worker] = self.now
        if not clean:
            self.spoiled.add(worker)
        self.apply(Returned(worker, clean, attempts, modules))

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def begin_to_return(self, data: Any) -> None:
        worker = data.draw(st.sampled_from(sorted(self.leases)))
        self.returning.add(worker)
        self.apply(Returning(worker))

    @rule(limit=st.integers(1, 4))
    def change_limit(self, limit: int) -> None:
        self.apply(Limited(limit))

    @precondition(lambda self: self.leases)
    @rule(data=st.data())
    def leave_unused(self, data: Any) -> None:
        worker = data.draw(st.sampled_from(sorted(self.leases)))
        self.returning.discard(worker)
        del self.leases[worker]
        self.served[worker] -= 1
        self.idle_since[worker] = self.now
        self.apply(Unused(worker))

    @precondition(lambda self: self.of("ready"))
    @rule(data=st.data())
    def die(self, data: Any) -> None:
        worker = data.draw(st.sampled_from(self.of("ready")))
        self.spoiled.add(worker)
        self.apply(Died(worker))

    @precondition(lambda self: self.of("stopping"))
    @rule(data=st.data())
    def end_stop(self, data: Any) -> None:
        worker = data.draw(st.sampled_from(self.of("stopping")))
        self.phase[worker] = "gone"
        self.apply(Gone(worker))

    @rule(later=st.floats(0, 40))
    def tick(self, later: float) -> None:
        self.now += later
        self.apply(Ticked())
        assert all(self.now < since + TTL for since in self.idle_since.values()), "nothing is idle for longer"

    @rule(numbers=st.integers(0, 5))
    def repeat_news_of_what_is_gone(self, numbers: int) -> None:
        gone = [*self.of("gone"), 10**9][: numbers + 1]
        before = self.state
        for worker in gone:
            for fact in (
                Ready(worker, 3),
                Returning(worker),
                Returned(worker, True, 3, NONE),
                Unused(worker),
                Died(worker),
                Gone(worker),
            ):
                self.apply(fact)
        assert before == self.state

    @precondition(lambda self: len(self.phase) > 6)
    @rule()
    def close(self) -> None:
        self.closed = True
        self.apply(Closed())
        assert not self.waiting
        assert not (self.of("starting") or self.of("ready"))

    # ── what always holds ──

    @invariant()
    def no_request_waits_in_vain(self) -> None:
        idle = {self.shapes[worker] for worker in self.of("ready") if worker not in self.leases}
        assert not idle & {request.shape for request in self.waiting.values()}, "an idle worker serves its shape"
        starting = [self.shapes[worker] for worker in self.of("starting")]
        for shape in "AB":
            wanted = sum(request.shape == shape for request in self.waiting.values())
            expected = [w for w in self.returning if self.shapes[w] == shape and self.served[w] < ATTEMPTS]
            if wanted > starting.count(shape) + len(expected):
                assert self.alive() >= self.limit, "whoever waits has a worker that starts, as long as there is a place"
                useless = [other for other in self.of("ready") if other not in self.leases]
                assert not useless or self.of("stopping"), "an idle worker of another shape makes room"

    @invariant()
    def the_state_agrees(self) -> None:
        assert self.alive() == self.state.size
        returning = {worker for shape in self.state.shapes.values() for worker in shape.returning}
        assert returning <= self.returning
        assert set(self.leases) == set(self.state.leased) | returning
        assert set(self.waiting) == {key for shape in self.state.shapes.values() for key in shape.waiting}


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)


class Script:
    """A pool to which a test gives facts one by one."""

    def __init__(self, **limits: Any) -> None:
        self.state = PoolState(limits=PoolLimits(**limits))
        self.now = 0.0

    def apply(self, fact: Fact) -> list[Effect]:
        self.state, effects = decide(self.state, fact, self.now)
        return effects

    def ask(self, shape: str = "A", *modules: str) -> list[Effect]:
        return self.apply(Asked(WorkerRequest(shape=shape, modules=frozenset(modules))))


def test_prefers_the_worker_with_the_modules() -> None:
    """Of idle workers the one that has imported the modules is leased, else the one that became idle last."""
    pool = Script()
    for module in ("x", "y", "z"):
        pool.ask("A", module)
    for worker in (2, 4, 6):
        pool.apply(Ready(worker, 9))
    for worker, module in ((2, "x"), (4, "y"), (6, "z")):
        pool.apply(Returned(worker, True, 9, frozenset(module)))
    assert [Give(4, 7)] == pool.ask("A", "y", "other")
    assert [Give(6, 8)] == pool.ask("A", "other")


def test_takes_what_is_idle_first() -> None:
    """A request whose worker still starts gets one that has become idle; what starts serves the next one."""
    pool = Script()
    assert [Start(2, 1)] == pool.ask()
    pool.apply(Ready(2, 9))
    assert [Start(4, 3)] == pool.ask()
    assert [Give(2, 3)] == pool.apply(Returned(2, True, 9, NONE))
    assert [] == pool.ask(), "the worker that starts is for this one"
    assert [Give(4, 5)] == pool.apply(Ready(4, 9))


def test_waits_for_a_worker_that_cleans_up() -> None:
    """A request starts nothing while a worker of its shape cleans up, unless that is not clean in the end."""
    pool = Script()
    pool.ask()
    pool.apply(Ready(2, 9))
    assert [] == pool.apply(Returning(2))
    assert [] == pool.ask()
    assert [Start(5, 4)] == pool.ask(), "one worker is not enough for two"
    assert [Give(2, 3)] == pool.apply(Returned(2, True, 9, NONE))
    pool.apply(Returning(2))
    assert [] == pool.ask()
    assert [Stop(2, "its last attempt was not clean"), Start(7, 6)] == pool.apply(Returned(2, False, 9, NONE))


def test_number_of_starts() -> None:
    """Only so many start at once; a worker that is ready serves one after the other, and what waits needs no start."""
    pool = Script(max_starting=2)
    assert [[Start(2, 1)], [Start(4, 3)], [], []] == [pool.ask() for _ in range(4)]
    assert [Give(2, 1), Start(7, 5)] == pool.apply(Ready(2, 9))
    pool.apply(Returned(2, True, 9, NONE))
    assert [Give(4, 5)] == pool.apply(Ready(4, 9))


def test_lower_limit() -> None:
    """Idle workers beyond a lower limit are stopped, those that are idle for the longest first."""
    pool = Script(limit=3)
    for _ in range(3):
        pool.ask()
    for worker in (2, 4, 6):
        pool.apply(Ready(worker, 9))
    for worker in (4, 2, 6):
        pool.now += 1
        pool.apply(Returned(worker, True, 9, NONE))
    reason = "its place is needed"
    assert [Stop(4, reason), Stop(2, reason)] == pool.apply(Limited(1))
    assert [] == pool.apply(Limited(2))


def test_lower_limit_while_all_are_leased() -> None:
    """A worker beyond a lower limit is stopped at the end of its lease, though others wait for it."""
    pool = Script(limit=2)
    for _ in range(3):
        pool.ask()
    pool.apply(Ready(2, 9))
    pool.apply(Ready(4, 9))
    assert [] == pool.apply(Limited(1))
    assert [Stop(2, "its place is needed")] == pool.apply(Returned(2, True, 9, NONE))
    assert [Give(4, 5)] == pool.apply(Returned(4, True, 9, NONE))


def test_error_of_a_start_whose_request_is_served() -> None:
    """The error of a start goes to nobody if its request has a worker; who waits for it gets another start."""
    pool = Script()
    pool.ask()
    pool.ask()
    assert [Give(4, 1)] == pool.apply(Ready(4, 9))
    assert [Start(5, 3)] == pool.apply(StartFailed(2, OSError("no room")))
    error = OSError("still no room")
    assert [Fail(3, error)] == pool.apply(StartFailed(5, error))


def test_withdrawn_request_takes_its_start_along() -> None:
    """A start that nobody waits for any more is stopped with its request."""
    pool = Script()
    pool.ask()
    pool.ask()
    pool.apply(Ready(2, 9))
    assert [Stop(4, "its request was withdrawn")] == pool.apply(Withdrawn(3))


def test_another_shape_makes_room() -> None:
    """At the limit the longest idle worker of another shape is stopped, and its place is used once that is over."""
    pool = Script(limit=2)
    pool.ask("A")
    pool.ask("A")
    for worker in (2, 4):
        pool.apply(Ready(worker, 9))
    for worker in (2, 4):
        pool.now += 1
        pool.apply(Returned(worker, True, 9, NONE))
    assert [Stop(2, "its place is needed")] == pool.ask("B")
    assert [] == pool.apply(Ticked()), "one place is enough"
    assert [Start(6, 5)] == pool.apply(Gone(2))


def test_patience_ends() -> None:
    """A request of another shape gets a place though younger requests keep the workers busy."""
    pool = Script(limit=1, patience=10.0)
    pool.ask("A")
    pool.apply(Ready(2, 99))
    pool.ask("B")
    for _ in range(3):
        pool.ask("A")
    pool.now = 9.0
    assert [Give(2, 4)] == pool.apply(Returned(2, True, 9, NONE))
    pool.now = 11.0
    assert [Stop(2, "its place is needed")] == pool.apply(Returned(2, True, 9, NONE))
    assert [Start(7, 3)] == pool.apply(Gone(2))


def test_patience_of_the_longest_waiting() -> None:
    """A request of another shape does not get the place before one that has waited for longer."""
    pool = Script(limit=1, patience=10.0)
    pool.ask("A")
    pool.apply(Ready(2, 99))
    pool.ask("A")
    pool.ask("B")
    pool.now = 11.0
    assert [Give(2, 3)] == pool.apply(Returned(2, True, 9, NONE))


@pytest.mark.parametrize("attempts", [1, 3])
def test_number_of_attempts(attempts: int) -> None:
    """A worker serves as many attempts as the pool's limit, though it would take more."""
    pool = Script(max_attempts=attempts)
    pool.ask()
    pool.apply(Ready(2, 99))
    for request in range(3, 2 + attempts):
        pool.apply(Returned(2, True, 98, NONE))
        assert [Give(2, request)] == pool.ask()
    assert [Stop(2, "it has served its number of attempts")] == pool.apply(Returned(2, True, 98, NONE))


def test_bound_worker() -> None:
    """A worker from before sessions serves the request that it was started for, or none."""
    pool = Script()
    pool.ask()
    pool.ask()
    assert [Give(4, 3)] == pool.apply(Ready(4, 1, bound=True)), "though the other one waits for longer"
    pool.apply(Returned(4, True, 1, NONE))
    pool.ask()
    assert [Give(2, 1)] == pool.apply(Ready(2, 1, bound=True))
    assert [Stop(2, "it can have no other attempt")] == pool.apply(Unused(2))
