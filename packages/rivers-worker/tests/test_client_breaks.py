"""Tests of the client through a network that breaks: every event is emitted once and in order."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections.abc import AsyncIterator
from typing import Any, Literal

import pytest
from breaking_proxy import DOWN, UP, BreakingProxy, Plan, breaking
from scripted_worker import (
    HEARTBEAT,
    RESULT,
    SOON,
    SPEC,
    STARTED,
    STORY,
    ScriptedWorker,
    Telling,
    closing,
    log,
    numbered,
    run,
    serving,
)

from rivers.protocol import StepEvent
from rivers_worker.client import Deadlines, WorkerUnreachableError
from rivers_worker.v1 import worker_pb2 as pb

TOLD: list[StepEvent] = [STARTED, *(log(f"line {n}") for n in range(20))]
PATIENT = Deadlines(connect=20.0, handshake=5.0, silence=2.0, lost=20.0)


async def told_through(worker: ScriptedWorker, proxy: BreakingProxy, deadlines: Deadlines = PATIENT) -> list[StepEvent]:
    """Return what a client emits of an attempt through a proxy, its result included."""
    async with closing(worker.client(deadlines, target=proxy.address)) as client:
        told: list[StepEvent] = []
        await client.connect()
        result = await client.execute(SPEC, told.append)
        await client.ack()
        return [*told, result]


@pytest.fixture(scope="module")
def whole() -> dict[str, int]:
    """How many bytes an attempt takes each way, on a connection that holds."""
    sizes: dict[str, int] = {}

    async def test() -> None:
        async with serving(ScriptedWorker()) as worker, breaking(worker.port) as proxy:
            assert [*TOLD, RESULT] == await told_through(worker, proxy)
            sizes.update(proxy.passed[0])

    run(test)
    return sizes


@pytest.mark.parametrize("end", ["reset", "close"])
@pytest.mark.parametrize("way", [DOWN, UP])
def test_a_cut_anywhere(way: str, end: Literal["reset", "close"], whole: dict[str, int]) -> None:
    """The first connection is cut after every 25th byte, by RST or FIN: each event is emitted once, in order (G5)."""
    positions = range(0, whole[way] + 25, 25)

    async def cut(position: int) -> list[StepEvent]:
        plan = Plan(**{way: position}, end=end)
        async with serving(ScriptedWorker()) as worker, breaking(worker.port, [plan]) as proxy:
            return await told_through(worker, proxy)

    async def test() -> None:
        for at in range(0, len(positions), 12):
            for told in await asyncio.gather(*map(cut, positions[at : at + 12])):
                assert [*TOLD, RESULT] == told

    assert len(positions) > 50
    run(test)


@pytest.mark.parametrize("seed", range(3))
def test_cut_again_and_again(seed: int) -> None:
    """Of 400 events through connections that are each cut after a few kilobytes, each arrives once and in order."""
    chance = random.Random(seed)
    told = [STARTED, *(log(f"line {n}") for n in range(400)), RESULT]

    async def test() -> None:
        plans = (
            Plan(down=chance.randint(2000, 6000), end=chance.choice(["reset", "close"])) for _ in itertools.count()
        )
        async with serving(ScriptedWorker(numbered(*told))) as worker, breaking(worker.port, plans) as proxy:
            assert told == await told_through(worker, proxy)
            assert len(proxy.passed) > 5

    run(test)


def test_the_answer_of_execute_is_lost() -> None:
    """Where Execute arrives and nothing of its answer comes back, the client calls it again and misses nothing (G6)."""

    async def test() -> None:
        called = asyncio.Event()

        async def execute(request: Any, context: Any) -> AsyncIterator[pb.Event]:
            if not called.is_set():
                called.set()
                await asyncio.sleep(30)
            for event in STORY:
                yield event

        async with serving(ScriptedWorker(execute=execute)) as worker, breaking(worker.port) as proxy:
            telling = asyncio.create_task(told_through(worker, proxy))
            await called.wait()
            proxy.reset()
            assert [*TOLD, RESULT] == await telling
            first, second = worker.called("execute")
            assert first == second

    run(test)


def test_a_half_open_connection() -> None:
    """A connection on which nothing passes is left, and when something does the attempt goes on where it was (G7)."""

    async def slow(request: Any, context: Any) -> AsyncIterator[pb.Event]:
        for event in STORY[:3]:
            yield event
        while True:
            await asyncio.sleep(0.1)
            yield HEARTBEAT

    async def test() -> None:
        async with serving(ScriptedWorker(execute=slow)) as worker, breaking(worker.port) as proxy:
            told = Telling()
            async with closing(worker.client(PATIENT, target=proxy.address)) as client:
                executing = asyncio.create_task(client.execute(SPEC, told.append))
                await told.reach(3)
                proxy.freeze()
                await asyncio.sleep(4.0)
                assert not executing.done()
                proxy.thaw()
                assert RESULT == await executing
                assert TOLD == told
                assert {3} == {request.from_seq for request in worker.called("attach")}

    run(test)


def test_keepalive_finds_what_silence_would_not(whole: dict[str, int]) -> None:
    """With patience for silence without end, a half-open connection is found by gRPC's own pings within 15 s (G7)."""

    async def test() -> None:
        plan = Plan(down=whole[DOWN] - 200, end="silence")
        async with serving(ScriptedWorker()) as worker, breaking(worker.port, [plan]) as proxy:
            patient = Deadlines(silence=600.0, lost=600.0)
            async with closing(worker.client(patient, target=proxy.address)) as client:
                told: list[StepEvent] = []
                await client.connect()
                async with asyncio.timeout(15.0):
                    assert RESULT == await client.execute(SPEC, told.append)
                assert TOLD == told
                assert 2 == len(proxy.passed)

    run(test)


def test_a_slow_network() -> None:
    """Where each piece takes 50 ms either way, everything arrives as ever."""

    async def test() -> None:
        async with serving(ScriptedWorker()) as worker, breaking(worker.port, [Plan(delay=0.05)]) as proxy:
            assert [*TOLD, RESULT] == await told_through(worker, proxy)
            assert 1 == len(proxy.passed)

    run(test)


def test_a_network_that_stays_broken() -> None:
    """A network that never works again ends in a typed error at `lost`, after the events that came before."""

    async def test() -> None:
        async with serving(ScriptedWorker(execute=_starts)) as worker, breaking(worker.port) as proxy:
            told = Telling()
            async with closing(worker.client(SOON, target=proxy.address)) as client:
                executing = asyncio.create_task(client.execute(SPEC, told.append))
                await told.reach(2)
                proxy.freeze()
                with pytest.raises(WorkerUnreachableError, match="no contact for 3 s"):
                    async with asyncio.timeout(3 + SOON.silence + 1):
                        await executing
                assert TOLD[:2] == told

    run(test)


async def _starts(request: Any, context: Any) -> AsyncIterator[pb.Event]:
    for event in STORY[:2]:
        yield event
    await asyncio.sleep(30)


def test_broken_is_called(whole: dict[str, int]) -> None:
    """A stream that breaks is reported, before it is resumed; one that ends with the attempt is not."""
    calls: list[str] = []

    async def test() -> None:
        plan = Plan(**{DOWN: whole[DOWN] - 200}, end="reset")
        async with serving(ScriptedWorker()) as worker, breaking(worker.port, [plan]) as proxy:
            for target in ("", proxy.address):
                broken = worker.client(PATIENT, target=target, broken=lambda: calls.append("broken"))
                async with closing(broken) as client:
                    await client.connect()
                    await client.execute(SPEC, lambda event: None)
                    await client.ack()
                calls.append("over")

    run(test)
    assert ["over", "broken", "over"] == calls
