"""The frontier alone, by a clock that the test turns: deadlines of minutes take no time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pytest
from msgspec.structs import replace

import rivers as rs
from rivers._io.files.key import flat_name
from rivers._plan.frontier import Frontier
from rivers._plan.restored import RestoredUnit
from rivers._plan.unit import Effects, ExecutorLimits, OpenAttempt
from rivers.events import StepReused, StepSkipped, StepStarted
from rivers.protocol import Compute, Ending, Failure, FailureReason, OutputRecord, StepResult

ERROR = Failure(reason=FailureReason.ERROR, type="ValueError", message="x")


class Clock:
    """A frontier with one executor and the time it is there; results are given by the step's key."""

    def __init__(
        self,
        repository: rs.CodeRepository,
        limits: ExecutorLimits,
        random: Callable[[], float],
        epoch: int = 0,
        units: Mapping[str, RestoredUnit] = MappingProxyType({}),
    ) -> None:
        plan = repository.plan()
        self.frontier = Frontier(plan, "run", [limits] * len(plan.executors), random=random, grace=3.0, epoch=epoch)
        self.frontier.restore(units)
        self.now = 1000.0
        self.started: list[str] = []
        self.events: list[Any] = []
        self.take(self.frontier.begin(self.now, 0.0))

    def take(self, effects: Effects) -> Effects:
        self.started += [unit.key for unit in effects.starts]
        self.events += effects.events
        return effects

    def attempt_of(self, key: str) -> str:
        return next(attempt_id for attempt_id, unit in self.frontier.running.items() if unit.key == key)

    def begin(self, key: str) -> None:
        self.take(self.frontier.on_started(self.attempt_of(key), "worker", self.now, 0.0))

    def end(
        self,
        key: str,
        ending: Ending = Ending.SUCCEEDED,
        map_keys: tuple[str, ...] | None = None,
        reason: FailureReason = FailureReason.ERROR,
    ) -> Effects:
        outputs = (OutputRecord(name=key, key=key, map_keys=map_keys),) if ending is Ending.SUCCEEDED else ()
        failure = replace(ERROR, reason=reason) if ending is Ending.FAILED else None
        result = StepResult(attempt_id=self.attempt_of(key), ending=ending, outputs=outputs, failure=failure)
        return self.take(self.frontier.on_ended(result, self.now, 0.0))

    def pass_time(self, seconds: float) -> Effects:
        self.now += seconds
        return self.take(self.frontier.on_timer(self.now, 0.0))

    def state(self, key: str) -> str:
        return self.frontier.reports[key].state.value


HERE = ExecutorLimits("here")


def clock(
    *assets: rs.Asset,
    limits: ExecutorLimits = HERE,
    random: Callable[[], float] = lambda: 0.5,
    units: Mapping[str, RestoredUnit] = MappingProxyType({}),
) -> Clock:
    return Clock(rs.CodeRepository(list(assets)), limits, random, units=units)


def asset(name: str = "a", *after: str, **options: Any) -> rs.Asset:
    return rs.Asset(lambda: name, name=name, deps=[rs.AssetDef.dep(dep) for dep in after], **options)


def graph(*chain: int | None, stream: bool = False) -> rs.Asset:
    """A graph asset with a chain of mapped steps, one for each max_concurrency, that are collected."""

    @rs.Task
    def keys() -> list[int]:
        return []

    @rs.Task
    def each(x: int) -> int:
        return x

    @rs.Task
    def last(xs: Any) -> int:
        return 0

    def body() -> Any:
        mapped: Any = keys()
        for limit in chain:
            mapped = mapped.map(each, max_concurrency=limit)
        return last(mapped.collect_stream() if stream else mapped.collect())

    return rs.Asset.from_graph(body, name="g")


def test_queued_is_the_wait_for_a_slot() -> None:
    """A step's timings say how long it waited, ready, for a slot of its executor."""
    run = clock(asset("a"), asset("b"), limits=ExecutorLimits("here", max_sync=1))
    run.now += 5.0
    run.end("a")
    run.now += 1.0
    run.end("b")

    assert (0.0, 5.0) == tuple(run.frontier.reports[key].timings.queued for key in ("a", "b"))


def test_free_dispatch_has_a_deadline() -> None:
    """An attempt that never begins is dispatched again for 300 s, with a backoff up to 10 s, and then has failed."""
    run = clock(asset(), random=lambda: 1.0)
    waits: list[float] = []
    while not run.frontier.over:
        run.end("a", Ending.NOT_STARTED)
        if run.frontier.next_due is not None:
            waits.append(run.frontier.next_due - run.now)
            run.pass_time(waits[-1])

    assert pytest.approx([0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 10, 10]) == waits[:8]
    assert 300 <= run.now - 1000 < 311
    assert ("failed", 1) == (run.state("a"), run.frontier.reports["a"].attempts)
    assert "the executor did not start it within 300 s" == run.frontier.reports["a"].failures[0].message


def test_each_attempt_has_its_own_deadline_for_dispatch() -> None:
    """Time that an earlier attempt spent on its dispatch is not taken from the next one."""
    run = clock(asset(retry=rs.RetryPolicy(1)))
    run.end("a", Ending.NOT_STARTED)
    run.pass_time(290)
    run.end("a", Ending.FAILED)
    run.end("a", Ending.NOT_STARTED)
    run.pass_time(290)
    run.end("a", Ending.NOT_STARTED)
    run.pass_time(9)
    run.end("a")

    assert ("succeeded", 2) == (run.state("a"), run.frontier.reports["a"].attempts)


def test_timeout_then_silence() -> None:
    """At its timeout an attempt is stopped; unreported 10 s after its grace it is given up, as a timeout."""
    run = clock(asset(timeout=60))
    run.pass_time(1000)
    run.begin("a")
    assert [] == run.pass_time(59.9).stops
    assert [(run.attempt_of("a"), 3.0)] == run.pass_time(0.1).stops
    assert [] == run.pass_time(12.9).silent
    (given_up,) = run.pass_time(0.2).silent
    run.take(run.frontier.on_ended(given_up, run.now, 0.0))

    assert "failed" == run.state("a")
    assert FailureReason.TIMEOUT == run.frontier.reports["a"].failures[0].reason
    assert run.frontier.over


def test_grace_of_an_executor() -> None:
    """An executor's own grace counts in place of the run's, when it stops and when it is given up."""
    run = clock(asset(timeout=60), limits=ExecutorLimits("here", grace=30.0))
    run.begin("a")

    assert [(run.attempt_of("a"), 30.0)] == run.pass_time(60).stops
    assert [] == run.pass_time(39.9).silent
    assert 1 == len(run.pass_time(0.2).silent)


def test_escalation_begins_at_what_the_executor_gives() -> None:
    """A step that asks for nothing and runs out of memory asks for a multiple of what its executor gave it."""
    policy = rs.RetryPolicy(2, escalate=rs.ComputeEscalation(max_memory="4Gi"))
    run = clock(asset(retry=policy), limits=ExecutorLimits("here", compute=Compute(cpu="500m", memory="512Mi")))
    run.end("a", Ending.FAILED, reason=FailureReason.OUT_OF_MEMORY)
    (unit,) = run.frontier.running.values()

    assert rs.Compute(cpu="500m", memory="1Gi") == unit.compute


def test_a_worker_that_says_cancelled_of_a_timeout() -> None:
    """An overdue attempt that reports a cancel or a failure has timed out, and is retried as such."""
    policy = rs.RetryPolicy(2, retry_on=[rs.FailureReason.TIMEOUT])
    run = clock(asset(timeout=60, retry=policy))
    for ending in (Ending.CANCELLED, Ending.FAILED):
        run.begin("a")
        run.pass_time(60)
        run.end("a", ending)
    run.end("a")

    assert ["a", "a", "a"] == run.started
    assert [FailureReason.TIMEOUT] * 2 == [failure.reason for failure in run.frontier.reports["a"].failures]


def test_blocking_attempts_are_not_given_up() -> None:
    """An attempt in the calling thread has no timer: it ends when its body returns, and until then the run goes on."""
    run = clock(asset(timeout=60), limits=ExecutorLimits("here", 1, 1, blocking=True))
    run.begin("a")
    assert [] == run.pass_time(3600).stops
    effects = run.take(run.frontier.cancel(run.now, 0.0))

    assert [run.attempt_of("a")] == [attempt_id for attempt_id, _ in effects.stops]
    assert [] == run.pass_time(3600).silent
    assert not run.frontier.over


def test_nothing_begins_after_a_cancel() -> None:
    """A run that was cancelled before it began starts nothing."""
    run = Clock(rs.CodeRepository([asset("a"), asset("b", "a")]), ExecutorLimits("here"), lambda: 0.5)
    fresh = Frontier(run.frontier.plan, "run", [ExecutorLimits("here")], random=lambda: 0.5)
    fresh.cancel(0.0, 0.0)

    assert [] == fresh.begin(0.0, 0.0).starts
    assert fresh.over
    assert {"cancelled"} == {report.state.value for report in fresh.reports.values()}


def test_a_cancel_after_the_end() -> None:
    """A run that is over cannot be cancelled any more."""
    run = clock(asset())
    run.end("a")

    assert Effects(run.now, 0.0) == run.frontier.cancel(run.now, 0.0)
    assert not run.frontier.cancelling


def test_an_empty_fan_out() -> None:
    """No keys: no instances, and whoever collects them runs."""
    run = clock(graph(None, None, None))
    run.end("g/keys", map_keys=())

    assert ["g/keys", "g/last"] == run.started


def test_a_lost_element_frees_no_slot_of_a_chained_map() -> None:
    """An element that fails does not let the next step of the chain exceed its max_concurrency."""
    run = clock(graph(None, 1))
    run.end("g/keys", map_keys=("a", "b", "c"))
    run.end("g/each[a]"), run.end("g/each[b]")
    assert "g/each_2[a]" == run.started[-1]
    run.end("g/each[c]", Ending.FAILED)

    assert "g/each_2[b]" not in run.started
    run.end("g/each_2[a]")
    assert "g/each_2[b]" == run.started[-1]
    run.end("g/each_2[b]")
    assert run.frontier.over
    assert ["succeeded", "succeeded", "skipped", "skipped"] == [
        run.state(key) for key in ("g/each_2[a]", "g/each_2[b]", "g/each_2[c]", "g/last")
    ]


def test_elements_that_are_there_go_through_the_chain() -> None:
    """A chained map that waits for something else as well still runs for the elements that succeeded."""

    @rs.Task
    def keys() -> list[int]:
        return []

    @rs.Task
    def each(x: int) -> int:
        return x

    @rs.Task
    def other(x: int, late: int) -> int:
        return x

    @rs.Task
    def last(xs: list[int]) -> int:
        return 0

    def body(late: int) -> Any:
        return last(keys().map(each).map(other, late=late).collect())

    run = clock(asset("late"), rs.Asset.from_graph(body, name="g"))
    run.end("g/keys", map_keys=("a", "b"))
    run.end("g/each[a]"), run.end("g/each[b]", Ending.FAILED)
    run.end("late")
    run.end("g/other[a]")

    assert ("succeeded", "skipped") == (run.state("g/other[a]"), run.state("g/other[b]"))
    assert ("g/each[b]", "g/each[b]") == (
        run.frontier.reports["g/other[b]"].cause,
        run.frontier.reports["g/last"].cause,
    )


@pytest.mark.parametrize("stream", [False, True])
def test_the_first_failure_is_the_cause(stream: bool) -> None:
    """A step that needs all instances names the first that failed; one that streams them is skipped at once."""
    run = clock(graph(None, stream=stream))
    run.end("g/keys", map_keys=("a", "b", "c"))
    run.end("g/each[b]", Ending.FAILED)
    assert stream == ("g/last" in run.frontier.reports)
    run.end("g/each[a]", Ending.FAILED)
    run.end("g/each[c]")

    assert ["g/each[b]"] == [event.cause for event in run.events if isinstance(event, StepSkipped)]


def test_a_doomed_consumer_is_not_retried() -> None:
    """A consumer whose stream broke is skipped when it ends, also when it is overdue and never reports."""

    def late(task: rs.Task) -> rs.Asset:
        each = rs.Task(lambda x: x, name="each")
        keys = rs.Task(list, name="keys")
        return rs.Asset.from_graph(lambda: task(keys().map(each).collect_stream()), name="g")

    task = rs.Task(lambda xs: 0, name="last", timeout=60, retry=rs.RetryPolicy(5))
    run = clock(late(task), limits=ExecutorLimits("here", streams=True))
    run.end("g/keys", map_keys=("a", "b"))
    run.begin("g/last")
    run.pass_time(60)
    run.end("g/each[a]", Ending.FAILED)
    run.end("g/each[b]")
    (given_up,) = run.pass_time(13).silent
    run.take(run.frontier.on_ended(given_up, run.now, 0.0))

    assert ("skipped", "g/each[a]") == (run.state("g/last"), run.frontier.reports["g/last"].cause)
    assert run.frontier.over


def test_without_sinks_no_events_are_made() -> None:
    """A run that nobody listens to makes none."""
    plan = rs.CodeRepository([asset("a")]).plan()
    frontier = Frontier(plan, "run", [ExecutorLimits("here")], random=lambda: 0.5, observed=False)
    (unit,) = frontier.begin(0.0, 0.0).starts

    effects = frontier.on_ended(StepResult(attempt_id=unit.attempt_id, ending=Ending.SUCCEEDED), 1.0, 0.0)
    assert [] == effects.events
    assert {"a"} == set(frontier.reports)


# ---- restored units -------------------------------------------------------------------------------------------------


def restored(*keys: str, map_keys: tuple[str, ...] | None = None) -> dict[str, RestoredUnit]:
    """Return units that have committed."""
    return {
        key: RestoredUnit(
            attempt_id=f"run-{key}", outputs=(OutputRecord(name=key, key=key, map_keys=map_keys),), charged=1
        )
        for key in keys
    }


def test_restored_steps_do_not_start() -> None:
    """Steps that have committed end as reused, in the order of their upstreams, and the others start after them."""
    run = clock(asset("a"), asset("b", "a"), asset("c", "b"), asset("d", "a"), units=restored("a", "b"))

    assert {"c", "d"} == set(run.started)
    assert ["a", "b"] == [event.step for event in run.events if isinstance(event, StepReused)]
    assert ("succeeded", 1) == (run.state("b"), run.frontier.reports["b"].attempts)


def test_restored_instances() -> None:
    """Of a mapped step, and of one mapped over it, the instances that have not committed run, each after its own."""
    keys, one, two, last = (step.key for step in rs.CodeRepository([graph(None, None)]).plan().steps)
    known = restored(keys, map_keys=("x", "y", "z")) | restored(f"{one}[x]", f"{one}[y]", f"{two}[x]")
    run = clock(graph(None, None), units=known)
    assert {f"{one}[z]", f"{two}[y]"} == set(run.started)
    run.end(f"{one}[z]")
    run.end(f"{two}[y]")
    run.end(f"{two}[z]")
    run.end(last)

    assert {"succeeded"} == {report.state.value for report in run.frontier.reports.values()}
    assert run.frontier.over


def test_restored_attempts() -> None:
    """A unit that has not committed goes on with the attempts that it has had."""
    known = {"a": RestoredUnit(charged=2, failures=(ERROR, ERROR))}
    run = clock(asset(retry=rs.RetryPolicy(2)), units=known)
    run.end("a", Ending.FAILED)

    assert ("failed", 3) == (run.state("a"), len(run.frontier.reports["a"].failures))


def test_all_restored() -> None:
    """A run whose steps have all committed is over at once."""
    assert clock(asset("a"), asset("b", "a"), units=restored("a", "b")).frontier.over


# ---- adopted attempts -----------------------------------------------------------------------------------------------


def opened(key: str = "a", started: float | None = None, **more: Any) -> dict[str, RestoredUnit]:
    """Return a unit whose attempt an earlier controller has submitted."""
    return {key: RestoredUnit(open=OpenAttempt(attempt_id=f"run-{key}-0.7", started=started), **more)}


def test_adopted_attempt_keeps_its_id() -> None:
    """An open attempt goes on under its id, also if it fails; the next one has an id of this controller."""
    run = clock(asset(retry=rs.RetryPolicy(2)), units=opened(charged=1, failures=(ERROR,)))
    adopted = run.attempt_of("a")
    run.end("a", Ending.FAILED)

    assert "run-a-0.7" == adopted
    assert adopted != run.attempt_of("a")
    assert ["a", "a"] == run.started
    run.end("a", Ending.FAILED)
    assert ("failed", 3) == (run.state("a"), run.frontier.reports["a"].attempts)


def test_nothing_is_left_of_an_adopted_attempt() -> None:
    """An attempt of which nothing is left is followed by one that does not count as a retry."""
    run = clock(asset(), random=lambda: 0.0, units=opened())
    run.end("a", Ending.NOT_STARTED)
    run.end("a")

    assert ("succeeded", 1) == (run.state("a"), run.frontier.reports["a"].attempts)


def test_adopted_attempts_take_the_first_slots() -> None:
    """What runs already takes its slot before what is new."""
    run = clock(asset("a"), asset("b"), limits=ExecutorLimits("here", max_steps=1), units=opened("b"))

    assert ["b"] == run.started
    run.end("b")
    assert ["b", "a"] == run.started


@pytest.mark.parametrize("set_back", [False, True])
def test_timeout_of_an_adopted_attempt(set_back: bool) -> None:
    """A timeout counts from the recorded start, which is not told again; a clock that was set back adds no time."""
    # The controller's clock is at 0.
    run = clock(asset(timeout=100.0), units=opened(started=50.0 if set_back else -40.0))
    run.begin("a")
    left = 100.0 if set_back else 60.0

    assert [] == run.pass_time(left - 1.0).stops
    assert ["run-a-0.7"] == [attempt_id for attempt_id, _ in run.pass_time(1.0).stops]
    assert not any(isinstance(event, StepStarted) for event in run.events)


# ---- attempt ids ----------------------------------------------------------------------------------------------------


def test_epochs_share_no_attempt_id() -> None:
    """Two controllers of the same run, which number their attempts alike, never give the same id."""
    seen: list[set[str]] = []
    for epoch in (0, 1):
        run = Clock(rs.CodeRepository([asset(retry=rs.RetryPolicy(3))]), HERE, lambda: 0.5, epoch)
        ids = {run.attempt_of("a")}
        run.end("a", Ending.FAILED)
        run.pass_time(1000.0)
        seen.append(ids | {run.attempt_of("a")})

    first, second = seen
    assert {"run-0-0.0", "run-0-1.0"} == {next(i for i in ids if i.endswith(".0")) for ids in seen}
    assert (2, 2, set()) == (len(first), len(second), first & second)


def test_attempt_ids_name_files_readably() -> None:
    """The dot in an attempt id is no character to escape in a file name."""
    assert "run-0-1.0" == flat_name("run-0-1.0")
