"""Stopping an attempt in the thread that runs it, as a worker's signal handler does."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import msgspec
import pytest
from runner.bench import Bench

import rivers as rs
from rivers.exceptions import InputLoadError
from rivers.protocol import Ending, FailureReason, StepEvent, StepStarted
from rivers.protocol.ref import ImportRef
from rivers.protocol.spec import InnerStep, LiteralInput, NodeKind
from rivers.spi import Runner


class Stoppable:
    """A runner whose attempt a signal to this thread stops."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.runner = bench.runner()
        self.went_on: list[str] = []

    def signal(self) -> None:
        """Send the signal that a controller sends to a worker; the handler runs before this returns."""
        signal.raise_signal(signal.SIGUSR1)

    def handle(self, number: int, frame: FrameType | None) -> None:
        self.runner.stop("1")

    def run(self, body: Callable[..., Any], **fields: Any) -> Any:
        return self.runner.run_step(self.bench.spec(body, **fields))


@pytest.fixture
def stoppable(bench: Bench) -> Iterator[Stoppable]:
    made = Stoppable(bench)
    before = signal.signal(signal.SIGUSR1, made.handle)
    yield made
    signal.signal(signal.SIGUSR1, before)
    assert [] == made.runner.close()


def assert_nothing_stored(bench: Bench) -> None:
    with pytest.raises(InputLoadError):
        bench.stored()


def test_a_sync_body_is_interrupted(stoppable: Stoppable) -> None:
    """stop() in the body's own thread ends it, past `except Exception`; its finally runs, the result says where."""

    def sleeps() -> None:
        try:
            stoppable.signal()
            stoppable.went_on.append("after the signal")
        except Exception:
            stoppable.went_on.append("swallowed")
        finally:
            stoppable.went_on.append("finally")

    result = stoppable.run(sleeps)

    assert ["finally"] == stoppable.went_on
    assert (Ending.CANCELLED, FailureReason.CANCELLED) == (result.ending, result.failure.reason)
    assert "in sleeps" in result.failure.traceback
    assert result.timings.run > 0
    assert {} == stoppable.bench.errors
    assert_nothing_stored(stoppable.bench)


def swallows(stoppable: Stoppable) -> str:
    try:
        stoppable.signal()
    except BaseException:
        stoppable.went_on.append("swallowed")
    return "value"


def raises_another(stoppable: Stoppable) -> str:
    try:
        stoppable.signal()
    finally:
        raise ValueError("while cleaning up")


def turns_it(stoppable: Stoppable) -> str:
    try:
        stoppable.signal()
    except KeyboardInterrupt:
        raise KeyboardInterrupt from None
    return "value"


def is_told_again(stoppable: Stoppable) -> str:
    try:
        stoppable.signal()
    finally:
        stoppable.signal()
        stoppable.went_on.append("cleaned up")
    return "value"


@pytest.mark.parametrize("body", [swallows, raises_another, turns_it, is_told_again])
def test_whatever_the_body_makes_of_it(stoppable: Stoppable, body: Callable[[Stoppable], str]) -> None:
    """A body that swallows, replaces or cleans up after it is cancelled all the same, and interrupted once."""
    result = stoppable.run(lambda: body(stoppable))

    assert Ending.CANCELLED is result.ending
    assert {is_told_again: ["cleaned up"], swallows: ["swallowed"]}.get(body, []) == stoppable.went_on
    assert_nothing_stored(stoppable.bench)


class Signals(rs.BaseIOHandler):
    """Sends the signal while it loads or stores."""

    def load_input(self, context: rs.InputContext) -> Any:
        signal.raise_signal(signal.SIGUSR1)
        return "loaded"

    def handle_output(self, context: rs.OutputContext, obj: Any) -> None:
        signal.raise_signal(signal.SIGUSR1)
        context.add_output_metadata({"stored": obj})


def test_inputs_are_interrupted(stoppable: Stoppable) -> None:
    """stop() while inputs are loaded ends the loading, and the body is never called."""
    result = stoppable.run(stoppable.went_on.append, reads={"object": 1}, store=Signals())

    assert (Ending.CANCELLED, []) == (result.ending, stoppable.went_on)
    assert "in load_input" in result.failure.traceback


def test_storing_is_not_interrupted(stoppable: Stoppable) -> None:
    """stop() while outputs are stored changes nothing: what is committed is reported."""
    result = stoppable.run(lambda: "value", store=Signals())

    assert Ending.SUCCEEDED is result.ending
    assert '{"stored":"value"}' == result.outputs[0].metadata


def test_an_event_is_told_whole(stoppable: Stoppable, bench: Bench) -> None:
    """stop() while an event is emitted waits for its end, and then interrupts the body."""
    told: list[StepEvent] = []

    def emit(event: StepEvent) -> None:
        if not isinstance(event, StepStarted):
            stoppable.signal()
        told.append(event)

    def prints() -> None:
        sys.stdout.write("a line\n")
        stoppable.went_on.append("after the line")

    stoppable.runner = runner = Runner(emit, local=bench.local)
    result = runner.run_step(bench.spec(prints, capture=True))
    runner.close()

    assert Ending.CANCELLED is result.ending
    assert "a line" == getattr(told[-1], "message", None)
    assert [] == stoppable.went_on


def test_a_start_is_told_whole(stoppable: Stoppable, bench: Bench) -> None:
    """stop() while StepStarted is emitted: the body is never called."""
    stoppable.runner = runner = Runner(lambda event: stoppable.signal(), local=bench.local)
    result = runner.run_step(bench.spec(lambda: stoppable.went_on.append("called")))
    runner.close()

    assert (Ending.CANCELLED, []) == (result.ending, stoppable.went_on)


def test_other_interrupts_are_raised_on(stoppable: Stoppable) -> None:
    """A KeyboardInterrupt that is not the runner's own leaves run_step."""

    def interrupts() -> None:
        raise KeyboardInterrupt("the body's own")

    with pytest.raises(KeyboardInterrupt, match="the body's own"):
        stoppable.run(interrupts)


def test_a_blocking_async_body_is_interrupted(stoppable: Stoppable) -> None:
    """stop() while an async body holds the loop ends it where it is, and the loop runs the next one."""

    async def blocks() -> None:
        await asyncio.sleep(0)
        stoppable.signal()
        stoppable.went_on.append("after the signal")

    async def next_body() -> str:
        await asyncio.sleep(0)
        return "ran"

    result = stoppable.run(blocks)
    after = stoppable.runner.run_step(stoppable.bench.spec(next_body, "2"))

    assert (Ending.CANCELLED, []) == (result.ending, stoppable.went_on)
    assert "in blocks" in result.failure.traceback
    assert Ending.SUCCEEDED is after.ending
    assert "ran" == stoppable.bench.stored("2")


def test_a_waiting_async_body_is_cancelled(stoppable: Stoppable) -> None:
    """stop() while the loop itself runs raises nothing in it: the body is cancelled at its await, and may clean up."""

    async def waits() -> None:
        asyncio.get_running_loop().call_soon(stoppable.signal)
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            stoppable.went_on.append("cleaned up")
            raise

    result = stoppable.run(waits)

    assert (Ending.CANCELLED, FailureReason.CANCELLED) == (result.ending, result.failure.reason)
    assert "in waits" in result.failure.traceback
    assert ["cleaned up"] == stoppable.went_on


def test_a_stop_before_the_loop_runs(stoppable: Stoppable, bench: Bench) -> None:
    """stop() between the call of an async function and its first await is not lost."""

    def plain_wrapper() -> Any:
        stoppable.runner.stop("1", interrupt=False)
        return asyncio.sleep(600)

    result = stoppable.run(plain_wrapper)

    assert Ending.CANCELLED is result.ending


def test_a_command_is_killed(stoppable: Stoppable, bench: Bench) -> None:
    """stop() in the thread that waits for a command kills it, and breaks nothing."""
    spec = bench.spec(print)
    literals = {"command": "kill -USR1 $PPID; sleep 600", "env": None, "cwd": None}
    given = [LiteralInput(parameter=k, json=msgspec.json.encode(v).decode()) for k, v in literals.items()]

    result = stoppable.runner.run_step(msgspec.structs.replace(spec, node=NodeKind.BASH, inputs=tuple(given)))

    assert (Ending.CANCELLED, FailureReason.CANCELLED) == (result.ending, result.failure.reason)
    assert "sleep 600" in result.failure.evidence.detail


def test_a_graph_ends_with_the_task_that_was_stopped(bench: Bench) -> None:
    """A stop from another thread ends a graph asset when its running task returns: the next one is not called."""
    runner = bench.runner()
    called: list[str] = []

    def first() -> None:
        called.append("first")
        other = threading.Thread(target=runner.stop, args=("1",))
        other.start()
        other.join()

    inner = tuple(
        InnerStep(key=str(body), node=NodeKind.TASK, function=bench.ref(body))
        for body in (first, lambda: called.append("second"))
    )
    spec = msgspec.structs.replace(
        bench.spec(first), node=NodeKind.GRAPH, inner=inner, function=ImportRef(module="nowhere", qualname="graph")
    )
    result = runner.run_step(spec)
    runner.close()

    assert (Ending.CANCELLED, ["first"]) == (result.ending, called)


def test_core_may_stop_in_the_same_thread(bench: Bench) -> None:
    """With interrupt=False nothing is raised where stop() is called; the step is cancelled when its body returns."""
    runner = bench.runner()
    result = runner.run_step(bench.spec(lambda: runner.stop("1", interrupt=False)))
    runner.close()

    assert Ending.CANCELLED is result.ending
    assert_nothing_stored(bench)


def test_a_step_that_is_not_the_running_one(bench: Bench) -> None:
    """stop() for another attempt interrupts nothing; that attempt ends before it begins."""
    runner = bench.runner()
    bystander = runner.run_step(bench.spec(lambda: runner.stop("2")))
    stopped = runner.run_step(bench.spec(lambda: "value", "2"))
    runner.close()

    assert (Ending.SUCCEEDED, Ending.CANCELLED) == (bystander.ending, stopped.ending)


def test_a_runner_leaves_nothing(bench: Bench) -> None:
    """A closed runner has released everything, so that a warm worker can make a new one for each run."""
    torn_down: list[str] = []

    class Noted(rs.Resource):
        def teardown(self) -> None:
            torn_down.append("down")

    async def body(noted: Noted) -> int:
        sys.stdout.write("captured\n")
        return 1

    streams, handlers = (sys.stdout, sys.stderr), logging.root.handlers[:]
    for run in ("1", "2"):
        runner = bench.runner(guard=True)
        result = runner.run_step(bench.spec(body, run, resources={"noted": Noted()}, capture=True))
        assert [] == runner.close()
        assert Ending.SUCCEEDED is result.ending
        assert ["captured"] == bench.logs(run)
        assert (streams, handlers) == ((sys.stdout, sys.stderr), logging.root.handlers)

    assert ["down", "down"] == torn_down
