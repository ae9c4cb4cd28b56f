"""Concurrent async steps: their number, their threads, their isolation."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import logging
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from typing import Any

import msgspec
import pytest
from runner.bench import DEADLINE, Bench

import rivers as rs
from rivers._runner.async_task import AsyncStep
from rivers._runner.refs import Resolver
from rivers._runner.resources import Resources
from rivers.protocol import Ending, FailureReason, StepResult, StepStarted
from rivers.protocol.spec import StreamInput
from rivers.spi import AsyncRunner, Reach


@pytest.fixture
def runner(bench: Bench) -> Iterator[AsyncRunner]:
    made = bench.async_runner()
    yield made
    assert [] == made.close(DEADLINE)


def test_ten_thousand_at_once(bench: Bench, runner: AsyncRunner) -> None:
    """10,000 steps are all in flight at the same moment: none returns before the last one has begun."""
    count, arrived = 10_000, 0
    all_there = asyncio.Event()

    @rs.Asset
    async def waits_for_all() -> int:
        nonlocal arrived
        arrived += 1
        if arrived == count:
            all_there.set()
        await all_there.wait()
        return arrived

    specs = [bench.spec(waits_for_all, str(n)) for n in range(count)]
    for spec in specs:
        runner.submit(spec)
    bench.until(lambda: len(bench.events) == 2 * count)

    results = [event for event in bench.events if isinstance(event, StepResult)]
    assert {Ending.SUCCEEDED} == {result.ending for result in results}
    assert {spec.attempt_id for spec in specs} == {result.attempt_id for result in results}
    assert count == bench.stored("0")


def test_from_a_running_loop(bench: Bench, runner: AsyncRunner) -> None:
    """If the submitting thread has a running loop, as in a notebook, bodies run on another one."""

    async def identity() -> int:
        return id(asyncio.get_running_loop())

    async def notebook() -> int:
        runner.submit(bench.spec(identity))
        await asyncio.to_thread(bench.result)
        return id(asyncio.get_running_loop())

    assert asyncio.run(notebook()) != bench.stored()


def test_steps_do_not_see_each_other(bench: Bench, runner: AsyncRunner) -> None:
    """Context variables, prints and log records of interleaved steps stay with their step (A9)."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="")
    steps = asyncio.Barrier(3)

    async def body(name: str) -> str:
        variable.set(name)
        await steps.wait()
        sys.stdout.write(f"printed by {name}, ")
        await steps.wait()
        sys.stdout.write(f"again by {name}\n")
        await asyncio.gather(asyncio.to_thread(logging.getLogger("user").warning, "logged by %s", name))
        return variable.get()

    def body_of(name: str) -> Any:
        async def named() -> str:
            return await body(name)

        return named

    for name in "abc":
        runner.submit(bench.spec(body_of(name), name, capture=True))

    for name in "abc":
        assert Ending.SUCCEEDED is bench.result(name).ending
        assert name == bench.stored(name)
        assert [f"printed by {name}, again by {name}", f"logged by {name}"] == bench.logs(name)
    assert "" == variable.get()


def test_a_step_leaves_its_own_tasks(bench: Bench, runner: AsyncRunner) -> None:
    """Tasks that a body left are cancelled, awaited and named when it ends; those of a concurrent step go on (A6)."""
    release = asyncio.Event()
    ended: list[str] = []

    async def forever() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(0)
            ended.append("ended")

    async def leaves() -> int:
        kept.extend(asyncio.create_task(forever(), name=f"left {n}") for n in (2, 1))
        await asyncio.sleep(0)
        return 1

    async def beside() -> bool:
        return await asyncio.create_task(release.wait())

    async def releases() -> None:
        release.set()

    kept: list[asyncio.Task[None]] = []
    runner.submit(bench.spec(beside, "beside"))
    runner.submit(bench.spec(leaves, "leaves"))

    assert Ending.SUCCEEDED is bench.result("leaves").ending
    assert ["ended", "ended"] == ended
    message = "after the step: the async body left background tasks, which were cancelled: left 1, left 2"
    assert [message] == bench.logs("leaves")
    runner.submit(bench.spec(releases, "releases"))
    assert Ending.SUCCEEDED is bench.result("beside").ending
    assert [] == bench.logs("beside")


def test_a_generator_that_nobody_holds(bench: Bench, runner: AsyncRunner) -> None:
    """An async generator that a body dropped half way is closed by the loop later, and is not reported as a task."""
    release, closed = asyncio.Event(), threading.Event()

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await release.wait()
            closed.set()

    async def drops() -> None:
        await anext(numbers())
        await asyncio.sleep(0)

    async def releases() -> None:
        release.set()

    runner.submit(bench.spec(drops))
    assert Ending.SUCCEEDED is bench.result().ending
    runner.submit(bench.spec(releases, "2"))

    assert closed.wait(DEADLINE)
    assert [] == bench.logs()


def async_steps() -> list[AsyncStep]:
    return [found for found in gc.get_objects() if type(found) is AsyncStep]


def test_a_step_that_is_over_is_gone(bench: Bench) -> None:
    """A step leaves no reference cycles for the garbage collector."""
    runner = bench.async_runner()
    gc.collect()
    gc.disable()
    try:
        # Steps of earlier tests are not this test's: a thread that still runs a body may refer to one.
        earlier = async_steps()
        runner.submit(bench.spec(alone))
        assert Ending.SUCCEEDED is bench.result().ending
        runner.close(DEADLINE)

        assert [] == [(left.attempt.spec.step, gc.get_referrers(left)) for left in async_steps() if left not in earlier]
    finally:
        gc.enable()


class Far(rs.BaseIOHandler):
    """Waits in each act until it is released; `threads` are those that it was called in."""

    def model_post_init(self, context: Any, /) -> None:
        self._begun = {"load": threading.Event(), "store": threading.Event()}
        self._release = {"load": threading.Event(), "store": threading.Event()}

    def load_input(self, context: rs.InputContext) -> str:
        self._wait("load")
        return "loaded"

    def handle_output(self, context: rs.OutputContext, obj: Any) -> None:
        self._wait("store")

    def _wait(self, act: str) -> None:
        self._begun[act].set()
        assert self._release[act].wait(DEADLINE)


def test_far_values_do_not_hold_up_the_loop(bench: Bench, runner: AsyncRunner) -> None:
    """While a handler with reach ANYWHERE loads or stores, the loop runs other steps."""
    far = Far()

    async def body(value: str) -> str:
        return value

    async def releases(act: str) -> None:
        far._release[act].set()

    runner.submit(bench.spec(body, "far", reads={"value": 1}, store=far))
    for act in ("load", "store"):
        assert far._begun[act].wait(DEADLINE)
        runner.submit(bench.spec(releases, act, reads={"act": act}))

    assert Ending.SUCCEEDED is bench.result("far").ending


class Near(Far):
    @property
    def reach(self) -> Reach:
        return Reach.MACHINE

    def _wait(self, act: str) -> None:
        assert "rivers-async" == threading.current_thread().name


def test_near_values_are_not_handed_over(bench: Bench, runner: AsyncRunner) -> None:
    """A handler with a smaller reach is called on the loop, which is faster than another thread."""

    async def body(value: str) -> str:
        return value

    runner.submit(bench.spec(body, reads={"value": 1}, store=Near()))

    assert Ending.SUCCEEDED is bench.result().ending


class Slow(rs.Resource):
    """A resource whose setup waits until it is released, and fails a given number of times."""

    fails: int = 0

    def model_post_init(self, context: Any, /) -> None:
        self._setups: list[str] = []
        self._teardowns: list[str] = []
        self._begun = threading.Event()
        self._release = threading.Event()

    def setup(self) -> None:
        self._setups.append(threading.current_thread().name)
        self._begun.set()
        assert self._release.wait(DEADLINE)
        if len(self._setups) <= self.fails:
            raise ConnectionError("no server")

    def teardown(self) -> None:
        self._teardowns.append("down")


async def uses(slow: Slow) -> str:
    return slow._setups[0]


async def alone() -> str:
    return "alone"


def test_a_resource_is_set_up_once(bench: Bench) -> None:
    """100 steps that want a resource at the same moment set it up once, in a thread, while steps without it run."""
    slow, runner = Slow(), bench.async_runner()
    for number in range(100):
        runner.submit(bench.spec(uses, str(number), resources={"slow": slow}))
    assert slow._begun.wait(DEADLINE)
    runner.submit(bench.spec(alone, "alone"))
    assert Ending.SUCCEEDED is bench.result("alone").ending
    assert [] == bench.results("0")
    slow._release.set()

    assert {Ending.SUCCEEDED} == {bench.result(str(number)).ending for number in range(100)}
    assert 1 == len(slow._setups)
    assert bench.stored("99").startswith("rivers-async-io")
    assert [] == runner.close(DEADLINE)
    assert ["down"] == slow._teardowns


def test_a_setup_that_fails(bench: Bench, runner: AsyncRunner) -> None:
    """A failed setup fails all that waited for it, each with the cause noted once; the next step tries again."""
    slow = Slow(fails=1)
    for number in range(3):
        runner.submit(bench.spec(uses, str(number), resources={"slow": slow}))
    assert slow._begun.wait(DEADLINE)
    slow._release.set()

    for number in range(3):
        failure = bench.result(str(number)).failure
        assert failure is not None
        assert (FailureReason.INFRASTRUCTURE, "ConnectionError") == (failure.reason, failure.type)
        assert ("setup() of Slow 'slow' raised ConnectionError: no server",) == failure.notes
    runner.submit(bench.spec(uses, "again", resources={"slow": slow}))
    assert Ending.SUCCEEDED is bench.result("again").ending
    assert 2 == len(slow._setups)


def test_a_setup_outlives_the_step_that_began_it(bench: Bench, runner: AsyncRunner) -> None:
    """A step that is stopped while it waits for a resource ends at once, and the others still get the resource."""
    slow = Slow()
    for attempt_id in ("first", "second"):
        runner.submit(bench.spec(uses, attempt_id, resources={"slow": slow}))
    assert slow._begun.wait(DEADLINE)

    runner.stop("first")
    assert Ending.CANCELLED is bench.result("first").ending
    slow._release.set()

    assert Ending.SUCCEEDED is bench.result("second").ending
    assert 1 == len(slow._setups)


def test_resources_are_safe_in_any_thread(bench: Bench) -> None:
    """Threads that get a resource at the same moment set it up once; the last run that uses it tears it down once."""
    slow = Slow()
    runs = [Resources(Resolver(bench.local)) for _ in range(2)]
    threads = [threading.Thread(target=run.get, args=("slow", bench.ref(slow))) for run in runs for _ in range(4)]
    for thread in threads:
        thread.start()
    slow._release.set()
    for thread in threads:
        thread.join()

    assert 1 == len(slow._setups)
    assert [] == runs[0].close()
    assert [] == slow._teardowns
    assert [] == runs[1].close()
    assert ["down"] == slow._teardowns
    assert {} == Resources._uses


def test_a_stream_is_iterated(bench: Bench, runner: AsyncRunner) -> None:
    """A stream whose keys are all known is read item by item, as in a sync step."""
    for key in "ab":
        bench.memory.handle_output(rs.OutputContext(f"mapped[{key}]"), key)

    async def body(items: Iterator[str]) -> str:
        return "".join(items)

    stream = StreamInput(parameter="items", key="mapped", io_handler=bench.ref(bench.memory), map_keys=("b", "a"))
    runner.submit(msgspec.structs.replace(bench.spec(body), inputs=(stream,)))

    assert Ending.SUCCEEDED is bench.result().ending
    assert "ba" == bench.stored()


def test_what_is_told_comes_in_order(bench: Bench, runner: AsyncRunner) -> None:
    """Start, output and result are emitted once each, with the worker and the time of each phase."""

    async def body() -> AsyncIterator[int]:
        sys.stdout.write("one\n")
        yield 1
        await asyncio.sleep(0)
        sys.stdout.write("two")
        yield 2

    runner.submit(bench.spec(body, capture=True))
    result = bench.result()

    assert ["StepStarted", "LogRecord", "LogRecord", "StepResult"] == [type(event).__name__ for event in bench.events]
    assert ["one", "two"] == bench.logs()
    assert [1, 2] == bench.stored()
    assert isinstance(bench.events[0], StepStarted)
    assert bench.events[0].worker == result.worker != ""
    assert min(result.timings.load, result.timings.run, result.timings.store) > 0
