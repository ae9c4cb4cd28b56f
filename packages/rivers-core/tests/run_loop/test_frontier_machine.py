"""A random walk through the frontier: whatever plan, whatever endings, whatever order, the promises hold.

The machine plays the world: it starts, ends and cancels attempts, lets time pass and asks for stream items. After each
move it checks what must always be true; at the end it lets the run finish and checks the result as a whole.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

import rivers as rs
from rivers._events.event import StepCancelled, StepFailed, StepRetrying, StepSkipped, StepSucceeded
from rivers._plan.frontier import Frontier
from rivers._plan.graph import Node, Source
from rivers._plan.plan import Plan, Step
from rivers._plan.report import StepState
from rivers._plan.unit import Effects, ExecutorLimits, Unit
from rivers.protocol import Ending, Failure, FailureReason, NodeKind, OutputRecord, StepResult

GRACE = 3.0
FINAL: dict[Any, StepState] = {
    StepSucceeded: StepState.SUCCEEDED,
    StepFailed: StepState.FAILED,
    StepSkipped: StepState.SKIPPED,
    StepCancelled: StepState.CANCELLED,
}


def body(x: int = 0) -> int:
    return x


async def async_body(x: int = 0) -> int:
    return x


TASKS = {
    (is_async, timeout): rs.Task(async_body if is_async else body, name="body", timeout=timeout)
    for is_async in (False, True)
    for timeout in (None, 20.0)
}
POLICIES = (
    None,
    rs.RetryPolicy(1),
    rs.RetryPolicy(2, backoff=rs.Backoff.constant(7.0, jitter=0.5)),
    rs.RetryPolicy(1, retry_on=rs.RetryOn.TRANSIENT),
)
LIMITS = (None, 1, 2)


def make_executors(fate: random.Random) -> list[ExecutorLimits]:
    made = []
    for kind in ("one", "two", "three")[: fate.randint(1, 3)]:
        streams = fate.random() < 0.7
        if fate.random() < 0.4:
            made.append(ExecutorLimits(kind, 1, 1, blocking=True, streams=streams))
        else:
            shared = fate.choice((None, None, None, 1, 2))
            made.append(ExecutorLimits(kind, fate.choice(LIMITS), fate.choice(LIMITS), False, streams, shared))
    return made


def make_plan(fate: random.Random, number_of_executors: int) -> Plan:
    """Steps in order, each after some of those before it; some mapped, some mapped over mapped ones, some streaming."""
    steps: list[Step] = []
    for index in range(fate.randint(1, 7)):
        task = TASKS[fate.random() < 0.3, fate.choice((None, 20.0))]
        node = Node(index, f"s{index}", NodeKind.TASK, task, task)
        step = Step(index, node, rs.Executor.in_process(), fate.randrange(number_of_executors), fate.choice(POLICIES))
        deps = set(fate.sample(range(index), min(index, fate.choice((0, 0, 1, 2)))))
        mapped = [other.index for other in steps if other.mapped_over is not None]
        role = fate.choice(("plain", "map", "chain", "chain", "stream", "stream", "both")) if index else "plain"
        if role in ("stream", "both") and mapped:
            source = Source("items", "stream", ordered=fate.random() < 0.5)
            source.node = fate.choice(mapped)
            node.inputs = (source,)
            step.streams = (source.node,)
        if role in ("map", "chain", "both"):
            others = mapped if role == "chain" and mapped else list(range(index))
            over = fate.choice(others)
            if over not in step.streams:
                step.mapped_over = over
                node.max_concurrency = fate.choice(LIMITS)
                deps.add(over)
        step.deps = tuple(deps.union(step.streams))
        steps.append(step)
    return Plan(steps, [rs.Executor.in_process()] * number_of_executors)


class Walk(RuleBasedStateMachine):
    """One run."""

    @initialize(seed=st.integers(0, 2**32))
    def begin(self, seed: int) -> None:
        self.fate = fate = random.Random(seed)
        self.executors = make_executors(fate)
        self.plan = make_plan(fate, len(self.executors))
        self.frontier = Frontier(self.plan, "run", self.executors, random=lambda: 0.5, grace=GRACE)
        self.now = 100.0
        self.ids: set[str] = set()
        self.lent: set[str] = set()
        self.asked: dict[str, int] = {}
        self.events: list[Any] = []
        self.free = Counter[str]()
        self.carry_out(self.frontier.begin(self.now, 0.0))

    # ── the world's moves ──

    @precondition(lambda self: self.frontier.running)
    @rule(data=st.data())
    def an_attempt_starts(self, data: Any) -> None:
        attempt_id = data.draw(st.sampled_from(sorted(self.frontier.running)))
        self.carry_out(self.frontier.on_started(attempt_id, "worker", self.now, 0.0))

    @precondition(lambda self: self.frontier.running)
    @rule(data=st.data(), ending=st.sampled_from([*Ending, *[Ending.SUCCEEDED] * 8]))
    def an_attempt_ends(self, data: Any, ending: Ending) -> None:
        attempt_id = data.draw(st.sampled_from(sorted(self.frontier.running)))
        reason = data.draw(st.sampled_from([FailureReason.ERROR, FailureReason.INFRASTRUCTURE]))
        self.end(attempt_id, ending, data.draw(st.integers(0, 3)), reason)

    @rule(data=st.data())
    def a_late_or_unknown_end_comes(self, data: Any) -> None:
        over = sorted(self.ids - set(self.frontier.running)) or ["nobody's"]
        attempt_id = data.draw(st.sampled_from(over))
        effects = self.frontier.on_ended(StepResult(attempt_id=attempt_id, ending=Ending.SUCCEEDED), self.now, 0.0)
        assert Effects(self.now, 0.0) == effects

    @rule(seconds=st.sampled_from([0.1, 5.0, 25.0, 400.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.carry_out(self.frontier.on_timer(self.now, 0.0))

    @precondition(lambda self: any(self.is_live(unit) for unit in self.frontier.running.values()))
    @rule(data=st.data())
    def a_consumer_asks_for_its_next_item(self, data: Any) -> None:
        live = sorted(key for key, unit in self.frontier.running.items() if self.is_live(unit))
        self.ask(data.draw(st.sampled_from(live)))

    @rule()
    def the_run_is_cancelled(self) -> None:
        if self.fate.random() < 0.03:
            before = self.frontier.cancelling or self.frontier.over
            effects = self.frontier.cancel(self.now, 0.0)
            assert not before or Effects(self.now, 0.0) == effects
            self.carry_out(effects)

    # ── how the moves are carried out ──

    def end(self, attempt_id: str, ending: Ending, keys: int, reason: FailureReason) -> None:
        unit = self.frontier.running[attempt_id]
        self.free[unit.key] += ending is Ending.NOT_STARTED
        failure = Failure(reason=reason, type="X", message="x") if ending is Ending.FAILED else None
        map_keys = tuple("abc"[:keys])
        outputs = (OutputRecord(name="o", key=unit.key, map_keys=map_keys),) if ending is Ending.SUCCEEDED else ()
        result = StepResult(attempt_id=attempt_id, ending=ending, failure=failure, outputs=outputs)
        self.carry_out(self.frontier.on_ended(result, self.now, 0.0))

    def carry_out(self, effects: Effects) -> None:
        self.events.extend(effects.events)
        for attempt_id, grace in effects.stops:
            assert attempt_id in self.frontier.running
            assert GRACE == grace
        for unit in effects.starts:
            self.check_start(unit)
        for result in effects.silent:
            self.carry_out(self.frontier.on_ended(result, self.now, 0.0))

    def ask(self, attempt_id: str) -> bool:
        """Return whether the consumer got what it asked for, the stream's end included."""
        n = self.asked.get(attempt_id, 0)
        state = self.frontier.item(attempt_id, "items", n)
        if state.key is not None:
            self.asked[attempt_id] = n + 1
        elif not state.is_known and self.executors[self.frontier.running[attempt_id].step.executor_index].blocking:
            unit = self.frontier.lend(attempt_id, self.frontier.feeders(attempt_id, "items"))
            if unit is not None:
                self.lent.add(unit.attempt_id)
                self.check_start(unit)
        return state.ended or state.broken is not None

    def is_live(self, unit: Unit) -> bool:
        return bool(unit.step.streams) and self.frontier._streams.is_live(unit.step)

    # ── what must always hold ──

    def check_start(self, unit: Unit) -> None:
        """A fresh id, no other attempt of the unit, and every upstream has succeeded."""
        assert not self.frontier.cancelling
        assert unit.attempt_id not in self.ids
        self.ids.add(unit.attempt_id)
        assert unit.key not in self.frontier.reports
        assert 1 == sum(other.key == unit.key for other in self.frontier.running.values())
        for dep in unit.step.deps:
            if unit.step.mapped_over == dep and unit.map_key is not None and dep in self.frontier.groups:
                assert StepState.SUCCEEDED == self.frontier.reports[f"s{dep}[{unit.map_key}]"].state
            elif dep in unit.step.streams and self.is_live(unit):
                assert dep in self.frontier.groups
            else:
                assert self.has_succeeded(dep)

    def units_of(self, index: int) -> list[str]:
        group = self.frontier.groups.get(index)
        return [f"s{index}"] if group is None else [f"s{index}[{key}]" for key in group.keys]

    def states_of(self, index: int) -> set[StepState | None]:
        reports = self.frontier.reports
        return {reports[key].state if key in reports else None for key in self.units_of(index)}

    def has_succeeded(self, index: int) -> bool:
        return self.states_of(index) <= {StepState.SUCCEEDED}

    @invariant()
    def slots_are_never_exceeded(self) -> None:
        self.lent &= set(self.frontier.running)
        used = Counter[tuple[int, bool]]()
        for attempt_id, unit in self.frontier.running.items():
            if attempt_id not in self.lent:
                used[unit.step.executor_index, unit.step.node.is_async] += 1
        for index, executor in enumerate(self.executors):
            counts = (used[index, False], used[index, True])
            limits = (executor.max_sync, executor.max_async)
            if executor.max_steps is not None:
                assert sum(counts) <= executor.max_steps
            else:
                assert all(limit is None or n <= limit for n, limit in zip(counts, limits, strict=True))

    @invariant()
    def max_concurrency_is_never_exceeded(self) -> None:
        running = Counter(unit.step.index for unit in self.frontier.running.values())
        for index, count in running.items():
            limit = self.plan.steps[index].node.max_concurrency
            assert limit is None or count <= limit

    @invariant()
    def nothing_waits_while_a_slot_is_free(self) -> None:
        for pair in self.frontier._queues._queues:
            for queue in pair:
                assert queue.free <= 0 or not queue.waiting

    # ── the end ──

    def teardown(self) -> None:
        if not hasattr(self, "frontier"):
            return
        for move in range(1500):
            if self.frontier.over:
                break
            self.go_on(self.fate.choices(list(Ending), (80, 14, 3, 3))[0] if move < 500 else Ending.SUCCEEDED)
            self.slots_are_never_exceeded()
            self.max_concurrency_is_never_exceeded()
        assert self.frontier.over
        self.check_reports()
        self.check_events()
        if not self.frontier.cancelling:
            self.check_skips()

    def go_on(self, ending: Ending) -> None:
        """One more move towards the end. A consumer succeeds when it has taken all that its stream gives."""
        running = sorted(self.frontier.running.items())
        if running and self.fate.random() < 0.2:
            self.carry_out(self.frontier.on_started(self.fate.choice(running)[0], "worker", self.now, 0.0))
        if self.fate.random() < 0.05:
            self.time_passes(self.fate.choice((0.1, 5.0, 25.0)))
            return
        self.fate.shuffle(running)
        for attempt_id, unit in running:
            if ending is not Ending.SUCCEEDED or not self.is_live(unit) or self.ask(attempt_id):
                self.end(attempt_id, ending, self.fate.choice([0, 2, 3, 3]), FailureReason.ERROR)
                return
        if not running:
            assert self.frontier.next_due is not None
            self.now = self.frontier.next_due
            self.carry_out(self.frontier.on_timer(self.now, 0.0))

    def check_reports(self) -> None:
        """Every unit has ended, no other thing has, and no policy was exceeded."""
        reports = self.frontier.reports
        assert {key for step in self.plan.steps for key in self.units_of(step.index)} == set(reports)
        for step in self.plan.steps:
            for key in self.units_of(step.index):
                most = 1 + (step.retry.max_retries if step.retry is not None else 0)
                assert reports[key].attempts <= most
                assert len(reports[key].failures) <= reports[key].attempts
                if reports[key].state is StepState.FAILED:
                    assert len(reports[key].failures) == reports[key].attempts > 0

    def check_events(self) -> None:
        """The events match the reports: one end for each unit, a retry for each attempt before it."""
        ends = [(event.step, FINAL[type(event)]) for event in self.events if type(event) in FINAL]
        assert sorted(ends) == sorted((key, report.state) for key, report in self.frontier.reports.items())
        retries = Counter(event.step for event in self.events if type(event) is StepRetrying and not event.free)
        for key, report in self.frontier.reports.items():
            if report.state in (StepState.SUCCEEDED, StepState.FAILED):
                assert report.attempts - 1 == retries[key]
        repeats = Counter(event.step for event in self.events if type(event) is StepRetrying and event.free)
        assert all(repeats[key] <= self.free[key] for key in repeats)

    def check_skips(self) -> None:
        """A unit is skipped exactly if something upstream of it did not succeed, and names what failed first."""
        reports = self.frontier.reports
        for step in self.plan.steps:
            for key in self.units_of(step.index):
                report = reports[key]
                fine = all(self.upstream_succeeded(step, dep, key) for dep in step.deps)
                if report.state is StepState.SKIPPED:
                    assert not fine
                    assert report.cause is not None
                    assert reports[report.cause].state in (StepState.FAILED, StepState.CANCELLED)
                elif not self.frontier._streams.is_live(step):
                    assert fine

    def upstream_succeeded(self, step: Step, dep: int, key: str) -> bool:
        if step.mapped_over == dep and dep in self.frontier.groups:  # each instance needs its own element alone
            element = f"s{dep}[{key.partition('[')[2]}"
            return element not in self.frontier.reports or self.frontier.reports[element].state is StepState.SUCCEEDED
        return self.has_succeeded(dep)


def test_runs_at_random() -> None:
    """In 2,000 random runs, each with its plan, slots and endings, everything that must hold does."""
    for seed in range(2000):
        try:
            walk = Walk()
            walk.begin(seed=seed)
            walk.teardown()
        except AssertionError as error:
            error.add_note(f"seed {seed}")
            raise


TestWalk = Walk.TestCase
TestWalk.settings = settings(
    max_examples=300, stateful_step_count=20, deadline=None, suppress_health_check=list(HealthCheck)
)
