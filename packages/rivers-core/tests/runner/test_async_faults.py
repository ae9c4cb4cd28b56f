"""Async steps that fail, are stopped, do not stop, or block the loop, without effect on other steps."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
from runner.bench import DEADLINE, Bench

import rivers as rs
from rivers.exceptions import InputLoadError
from rivers.protocol import Ending, FailureReason, LogRecord
from rivers.spi import AsyncRunner


@pytest.fixture
def runner(bench: Bench) -> Iterator[AsyncRunner]:
    made = bench.async_runner()
    yield made
    assert [] == made.close(DEADLINE)


async def plain() -> str:
    return "value"


async def forever() -> None:
    await asyncio.sleep(600)


async def stubborn() -> None:
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(600)


# ── the ends that bodies make ──


async def interrupts() -> None:
    raise KeyboardInterrupt


async def interrupts_in_a_task() -> None:
    await asyncio.create_task(interrupts())


@pytest.mark.parametrize("body", [interrupts, interrupts_in_a_task])
def test_an_interrupt_of_the_body(bench: Bench, runner: AsyncRunner, body: Callable[..., Any]) -> None:
    """A KeyboardInterrupt that a body raises cancels its step; the loop and the step beside it go on."""
    release = asyncio.Event()

    async def beside() -> str:
        await release.wait()
        return "went on"

    async def releases() -> None:
        release.set()

    runner.submit(bench.spec(beside, "beside"))
    runner.submit(bench.spec(body))
    result = bench.result()
    runner.submit(bench.spec(releases, "releases"))

    assert Ending.CANCELLED is result.ending
    assert result.failure is not None
    assert (FailureReason.CANCELLED, "KeyboardInterrupt") == (result.failure.reason, result.failure.type)
    assert "in interrupts" in (result.failure.traceback or "")
    assert Ending.SUCCEEDED is bench.result("beside").ending


# ── stopping ──


def test_stop_reaches_a_waiting_body(bench: Bench, runner: AsyncRunner) -> None:
    """A stopped body gets CancelledError at its await, its finally runs to the end, and nothing is stored (A1)."""
    waiting, done = threading.Event(), []

    async def waits() -> None:
        try:
            waiting.set()
            await asyncio.sleep(600)
        finally:
            await asyncio.sleep(0)
            done.append("finally")

    runner.submit(bench.spec(waits))
    assert waiting.wait(DEADLINE)
    runner.stop("1")
    result = bench.result()

    assert (Ending.CANCELLED, FailureReason.CANCELLED) == (result.ending, result.failure and result.failure.reason)
    assert "in waits" in ((result.failure and result.failure.traceback) or "")
    assert ["finally"] == done
    assert {} == bench.errors
    with pytest.raises(InputLoadError):
        bench.stored()


def test_stop_before_it_has_begun(bench: Bench, runner: AsyncRunner) -> None:
    """Attempts that are stopped right after their submit end once, as cancelled, whether they had begun or not."""
    called: list[int] = []

    async def body() -> None:
        called.append(1)
        await asyncio.sleep(600)

    for number in range(100):
        runner.submit(bench.spec(body, str(number)))
        runner.stop(str(number))

    assert {Ending.CANCELLED} == {bench.result(str(number)).ending for number in range(100)}
    assert {1} == {len(bench.results(str(number))) for number in range(100)}


def test_stop_of_what_does_not_run(bench: Bench, runner: AsyncRunner) -> None:
    """A stop of an unknown or ended attempt does nothing, also before the first submit."""
    runner.stop("1")
    runner.submit(bench.spec(plain))
    assert Ending.SUCCEEDED is bench.result().ending
    runner.stop("1")
    runner.stop("never")
    runner.submit(bench.spec(plain, "2"))

    assert Ending.SUCCEEDED is bench.result("2").ending
    assert 1 == len(bench.results("1"))


class SlowStore(rs.BaseIOHandler):
    def model_post_init(self, context: Any, /) -> None:
        self._begun, self._release = threading.Event(), threading.Event()

    def handle_output(self, context: rs.OutputContext, obj: Any) -> None:
        self._begun.set()
        assert self._release.wait(DEADLINE)

    def load_input(self, context: rs.InputContext) -> Any:
        raise NotImplementedError


def test_stop_while_it_stores(bench: Bench, runner: AsyncRunner) -> None:
    """A step that has begun to store is not stopped: its commit runs to the end and is reported."""
    slow = SlowStore()
    runner.submit(bench.spec(plain, store=slow))
    assert slow._begun.wait(DEADLINE)
    runner.stop("1")
    runner.submit(bench.spec(plain, "2"))  # when this one is told, the stop was heeded
    assert Ending.SUCCEEDED is bench.result("2").ending
    slow._release.set()

    assert Ending.SUCCEEDED is bench.result().ending


def test_swallowed_twice_is_abandoned(bench: Bench) -> None:
    """A body that swallows both cancellations is abandoned with its tasks after the grace, with a warning (A2)."""
    told: list[str] = []
    waiting = threading.Event()

    async def child() -> None:
        try:
            await asyncio.sleep(600)
        finally:
            told.append("child")

    async def stubborn() -> None:
        kept.append(asyncio.create_task(child()))
        await asyncio.sleep(0)
        waiting.set()
        while True:
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                told.append("swallowed")

    kept: list[asyncio.Task[None]] = []
    runner = bench.async_runner()
    runner.submit(bench.spec(stubborn))
    assert waiting.wait(DEADLINE)
    runner.stop("1")

    assert Ending.CANCELLED is bench.result().ending
    (log,) = bench.logs()
    assert log.startswith("after the step: the async body swallowed its cancellation twice and was abandoned at ")
    assert log.endswith(" in stubborn")
    runner.submit(bench.spec(plain, "2"))
    assert Ending.SUCCEEDED is bench.result("2").ending
    assert [] == runner.close(DEADLINE)
    assert ["swallowed", "swallowed", "child"] == told


def test_an_abandoned_task_is_collected_unnoticed(bench: Bench, runner: AsyncRunner) -> None:
    """The remains of an abandoned body are collected while another one runs, without effect on that one."""
    gone = bench.async_runner()
    gone.submit(bench.spec(stubborn, timeout=0.01))
    assert bench.result().failure is not None
    assert [] == gone.close(DEADLINE)
    errors = dict(bench.errors)

    async def collects() -> None:
        gc.collect()
        kept.append(asyncio.create_task(asyncio.sleep(600), name="left"))

    kept: list[asyncio.Task[None]] = []
    gc.disable()
    try:
        del gone
        runner.submit(bench.spec(collects, "2"))
        bench.result("2")
    finally:
        gc.enable()

    assert ["after the step: the async body left background tasks, which were cancelled: left"] == bench.logs("2")
    assert errors == bench.errors


# ── the loop is blocked ──


def test_who_blocks_the_loop_is_named(bench: Bench, runner: AsyncRunner) -> None:
    """A body that blocks the loop is named once, with file and line, for its own step and no other (A3)."""
    named = threading.Event()

    async def blocks() -> None:
        await asyncio.create_task(in_a_task())

    async def in_a_task() -> None:
        bench.until(lambda: bool(bench.logs("blocks")))
        named.set()

    async def waits() -> None:
        while not named.is_set():  # noqa: ASYNC110 - it shall be busy
            await asyncio.sleep(0)

    runner.submit(bench.spec(waits, "waits"))
    runner.submit(bench.spec(blocks, "blocks"))

    assert Ending.SUCCEEDED is bench.result("blocks").ending
    assert Ending.SUCCEEDED is bench.result("waits").ending
    (message,) = bench.logs("blocks")
    assert message.startswith(
        "the step has blocked the event loop, and all other async steps with it, for more than 1."
    )
    assert f"at {__file__}:{in_a_task.__code__.co_firstlineno + 1} in in_a_task, in " in message
    assert [] == bench.logs("waits")


def test_a_busy_loop_is_not_a_blocked_one(bench: Bench, runner: AsyncRunner) -> None:
    """If many steps together keep the loop busy for that long, none of them is reported."""

    async def works() -> None:
        time.sleep(0.1)  # noqa: ASYNC251 - what is under test

    for number in range(22):
        runner.submit(bench.spec(works, str(number)))

    assert {Ending.SUCCEEDED} == {bench.result(str(number)).ending for number in range(22)}
    assert [] == [event for event in bench.events if isinstance(event, LogRecord)]


def test_a_timeout_of_a_blocking_body(bench: Bench, runner: AsyncRunner) -> None:
    """A body that blocks the loop beyond its timeout is overdue once it yields; nothing is stored."""

    async def blocks() -> None:
        threading.Event().wait(0.02)

    runner.submit(bench.spec(blocks, timeout=0.01))
    failure = bench.result().failure

    assert failure is not None
    assert FailureReason.TIMEOUT is failure.reason


# ── the end of the run ──


def test_close_ends_what_runs(bench: Bench) -> None:
    """close() cancels running and waiting steps, closes generators, ends threads and tears resources down last."""
    order: list[str] = []
    waiting = threading.Event()

    class Noted(rs.Resource):
        def teardown(self) -> None:
            order.append("resource")

    async def numbers() -> AsyncIterator[int]:
        try:
            yield 1
            yield 2
        finally:
            await asyncio.sleep(0)
            order.append("generator")

    async def waits(noted: Noted) -> None:
        kept.append(numbers())
        await anext(kept[0])
        await asyncio.to_thread(order.append, "thread")
        waiting.set()
        try:
            await asyncio.sleep(600)
        finally:
            order.append("body")

    kept: list[AsyncIterator[int]] = []
    runner = bench.async_runner()
    runner.submit(bench.spec(waits, resources={"noted": Noted()}))
    assert waiting.wait(DEADLINE)
    runner.submit(bench.spec(forever, "2"))
    problems = runner.close(DEADLINE)

    assert [] == problems
    assert ["thread", "body", "generator", "resource"] == order
    assert [Ending.CANCELLED] == [result.ending for result in bench.results("1")]
    assert [Ending.CANCELLED] == [result.ending for result in bench.results("2")]


def test_close_without_a_step(bench: Bench) -> None:
    """A runner that was never used starts nothing and closes at once."""
    before = threading.active_count()
    runner = bench.async_runner()

    assert before == threading.active_count()
    assert [] == runner.close(DEADLINE)


def test_a_closed_runner_takes_nothing(bench: Bench) -> None:
    """A submit after close() raises; a stop or another close() does nothing."""
    runner = bench.async_runner()
    runner.submit(bench.spec(plain))
    bench.result()
    assert [] == runner.close(DEADLINE)

    with pytest.raises(RuntimeError, match="'2' was submitted to a runner that is closed"):
        runner.submit(bench.spec(plain, "2"))
    runner.stop("1")
    assert [] == runner.close(DEADLINE)


def test_close_does_not_wait_for_a_blocked_loop(bench: Bench) -> None:
    """If a body holds the loop, close() returns by its deadline, names the position, and reports each step once."""
    holding, release = threading.Event(), threading.Event()

    async def holds() -> None:
        holding.set()
        release.wait(DEADLINE)

    runner = bench.async_runner()
    runner.submit(bench.spec(holds))
    assert holding.wait(DEADLINE)
    runner.submit(bench.spec(plain, "2"))
    (problem, *_) = runner.close(0.1)

    assert "the event loop of async steps does not end: a body holds it" in problem
    assert f"{__file__}:{holds.__code__.co_firstlineno + 2} in holds" in problem
    for attempt_id in "12":
        assert [Ending.CANCELLED] == [result.ending for result in bench.results(attempt_id)]
    told = len(bench.events)
    release.set()
    for thread in threading.enumerate():
        if thread.name.startswith("rivers-async"):
            thread.join(DEADLINE)
    assert told == len(bench.events)
    with pytest.raises(InputLoadError):
        bench.stored()
