"""Tests of the client with a real worker through all kinds of breaks: bodies run once, all events arrive."""

from __future__ import annotations

import asyncio
import itertools
import random
import signal
from typing import Any, Literal

import pytest
from breaking_proxy import DOWN, UP, BreakingProxy, Plan, breaking
from client_code.client_steps import LINES
from real_worker import PATIENT, RealWorker, started
from scripted_worker import Telling, closing, run

from rivers._runner.exception_state import rebuild
from rivers.protocol import Ending, FailureReason, LogRecord, StepEvent, StepResult, StepStarted
from rivers.spi import StreamRecord
from rivers_worker.client import Deadlines, WorkerRefusedError, WorkerUnreachableError, outcome_in

SAID = [f"line {number}" for number in range(LINES)]
QUICK = Deadlines(connect=20.0, handshake=2.0, silence=2.0, lost=6.0)


def messages(told: list[StepEvent]) -> list[str]:
    return [event.message for event in told if isinstance(event, LogRecord)]


def assert_told_once(told: list[StepEvent], result: StepResult, worker: RealWorker, body: str = "speaks") -> None:
    """One start, each line once and in order, a success, and one run of the body."""
    assert isinstance(told[0], StepStarted)
    assert SAID == messages(told)
    assert 1 + LINES == len(told)
    assert Ending.SUCCEEDED is result.ending
    assert [body] == worker.notes


async def through(worker: RealWorker, proxy: BreakingProxy) -> tuple[list[StepEvent], StepResult]:
    """An attempt through a proxy, from the first dial to the worker's end."""
    async with closing(worker.client(port=proxy.port)) as client:
        told: list[StepEvent] = []
        await client.connect()
        result = await client.execute(worker.spec("speaks"), told.append)
        await client.ack()
    assert 0 == await worker.ended(), worker.errors
    return told, result


@pytest.fixture(scope="module")
def whole() -> dict[str, int]:
    """How many bytes an attempt takes each way, on a connection that holds."""
    sizes: dict[str, int] = {}

    async def test() -> None:
        async with started() as worker, breaking(worker.port) as proxy:
            assert_told_once(*await through(worker, proxy), worker)
            sizes.update(proxy.passed[0])

    run(test)
    return sizes


@pytest.mark.timeout(180)
@pytest.mark.parametrize(("way", "end", "count"), [(DOWN, "reset", 16), (DOWN, "close", 8), (UP, "reset", 8)])
def test_a_cut(way: str, end: Literal["reset", "close"], count: int, whole: dict[str, int]) -> None:
    """The connection is cut at places all over an attempt: events are emitted once, and the body runs once (G5)."""

    async def cut(position: int) -> None:
        plan = Plan(**{way: position}, end=end)  # type: ignore[arg-type]
        async with started() as worker, breaking(worker.port, [plan]) as proxy:
            assert_told_once(*await through(worker, proxy), worker)

    async def test() -> None:
        positions = [whole[way] * number // count for number in range(1, count)]
        for at in range(0, len(positions), 4):
            await asyncio.gather(*map(cut, positions[at : at + 4]))

    run(test, 170)


def test_cut_again_and_again() -> None:
    """Where every connection is cut after some kilobytes, an attempt still gets through, once and in order."""
    chance = random.Random(5)

    async def test() -> None:
        plans = (
            Plan(down=chance.randint(3000, 5000), end=chance.choice(["reset", "close"])) for _ in itertools.count()
        )
        async with started() as worker, breaking(worker.port, plans) as proxy:
            assert_told_once(*await through(worker, proxy), worker)
            assert len(proxy.passed) > 2

    run(test)


def test_the_answer_of_execute_is_lost() -> None:
    """Execute arrives and the first event is lost with the connection: the second Execute joins the same body (G6)."""

    async def test() -> None:
        async with (
            started() as worker,
            breaking(worker.port) as proxy,
            closing(worker.client(port=proxy.port)) as client,
        ):
            await client.connect()
            proxy.freeze(DOWN)
            told = Telling()
            executing = asyncio.create_task(client.execute(worker.spec("speaks"), told.append))
            await worker.noted(1)
            assert [] == told
            proxy.reset()
            proxy.thaw()
            assert_told_once(told, await executing, worker)

    run(test)


class TestAStoppedServer:
    def test_it_goes_on(self) -> None:
        """A server that is stopped falls silent and is called anew; once it goes on, so does the attempt (G2)."""

        async def test() -> None:
            async with started() as worker, closing(worker.client(PATIENT)) as client:
                told = Telling()
                executing = asyncio.create_task(client.execute(worker.spec("speaks_slowly"), told.append))
                await told.reach(5)
                worker.process.send_signal(signal.SIGSTOP)
                await asyncio.sleep(PATIENT.silence + 2)
                assert not executing.done()
                worker.process.send_signal(signal.SIGCONT)
                assert_told_once(told, await executing, worker, "speaks_slowly")

        run(test)

    def test_it_never_goes_on(self) -> None:
        """A server that stays stopped is given up at `lost`."""

        async def test() -> None:
            async with started() as worker, closing(worker.client(QUICK)) as client:
                told = Telling()
                executing = asyncio.create_task(client.execute(worker.spec("waits"), told.append))
                await told.reach(2)
                worker.process.send_signal(signal.SIGSTOP)
                async with asyncio.timeout(QUICK.lost + QUICK.silence + 1):
                    with pytest.raises(WorkerUnreachableError, match="no contact for 6 s"):
                        await executing

        run(test)

    def test_it_does_not_shake_hands(self) -> None:
        """A stopped server accepts connections, as its kernel does, and the handshake ends at its deadline; it is
        repeated, and works once the server goes on."""

        async def test() -> None:
            async with started() as worker:
                worker.process.send_signal(signal.SIGSTOP)
                short = Deadlines(connect=2.0, handshake=0.5)
                async with closing(worker.client(short)) as client:
                    async with asyncio.timeout(4):
                        with pytest.raises(WorkerUnreachableError, match="within 2 s"):
                            await client.connect()
                async with closing(worker.client(QUICK)) as client:
                    connecting = asyncio.create_task(client.connect())
                    await asyncio.sleep(1.0)
                    worker.process.send_signal(signal.SIGCONT)
                    assert "waiting" == (await connecting).state

        run(test)


class TestAnEnd:
    def test_the_body_raises(self) -> None:
        """An error of the body arrives with what it takes to make it again, its file's name included."""

        async def test() -> None:
            async with started() as worker, closing(worker.client()) as client:
                await client.connect()
                result = await client.execute(worker.spec("misses_a_file"), [].append)
                assert result.failure is not None
                error = rebuild(result.failure)
                assert isinstance(error, FileNotFoundError)
                assert ("/nowhere/2024.csv", result.failure.message) == (error.filename, str(error))

        run(test)

    def test_an_async_body_swallows_its_cancellation(self) -> None:
        """It is abandoned before its process would be killed: the result says in which line it waits."""

        async def test() -> None:
            async with started() as worker, closing(worker.client()) as client:
                await client.connect()
                spec = worker.spec("swallows_cancellation", is_async=True)
                executing = asyncio.create_task(client.execute(spec, [].append))
                await worker.noted(1)
                await client.cancel(2.0)
                result = await executing
                assert Ending.CANCELLED is result.ending
                assert result.failure is not None
                assert result.failure.evidence is not None
                assert "in swallows_cancellation" in (result.failure.evidence.detail or "")

        run(test)

    def test_the_worker_is_killed(self) -> None:
        """A killed worker sends nothing more: the client raises at `lost`, and keeps what it has emitted."""

        async def test() -> None:
            async with started() as worker, closing(worker.client(Deadlines(lost=2.0))) as client:
                told = Telling()
                executing = asyncio.create_task(client.execute(worker.spec("waits"), told.append))
                await told.reach(2)
                worker.process.kill()
                async with asyncio.timeout(5):
                    with pytest.raises(WorkerUnreachableError, match=r"contact for 2 s.*UNAVAILABLE"):
                        await executing
                assert ["waiting"] == messages(told)

        run(test)

    def test_the_body_is_killed(self) -> None:
        """A body that dies is a failure with its signal, in the stream and in the termination message alike."""

        async def test() -> None:
            async with started() as worker, closing(worker.client()) as client:
                told: list[StepEvent] = []
                await client.connect()
                result = await client.execute(worker.spec("dies"), told.append)
                assert Ending.FAILED is result.ending
                assert result.failure is not None
                assert FailureReason.INFRASTRUCTURE is result.failure.reason
                assert "SIGKILL" in result.failure.message
                assert ["dying"] == messages(told)
                left = outcome_in(worker.termination, worker.attempt_id)
                assert left is not None
                assert left.failure is not None
                assert FailureReason.INFRASTRUCTURE is left.failure.reason

        run(test)

    def test_a_cancel_over_a_broken_network(self) -> None:
        """A cancel that is sent while nothing passes arrives once something does, and the attempt ends as cancelled."""

        async def test() -> None:
            async with (
                started() as worker,
                breaking(worker.port) as proxy,
                closing(worker.client(port=proxy.port)) as client,
            ):
                told = Telling()
                executing = asyncio.create_task(client.execute(worker.spec("waits"), told.append))
                await told.reach(2)
                proxy.freeze()
                cancelling = asyncio.create_task(client.cancel(1.0))
                await asyncio.sleep(1.0)
                proxy.reset()
                await asyncio.sleep(0.5)
                proxy.thaw()
                await cancelling
                assert Ending.CANCELLED is (await executing).ending
                assert ["waits"] == worker.notes

        run(test)

    def test_the_worker_is_asked_to_leave(self) -> None:
        """At SIGTERM the worker cancels its body, sends the result, and exits with 143 (G19)."""

        async def test() -> None:
            async with started(RIVERS_GRACE="8") as worker, closing(worker.client()) as client:
                told = Telling()
                executing = asyncio.create_task(client.execute(worker.spec("waits"), told.append))
                await told.reach(2)
                worker.process.send_signal(signal.SIGTERM)
                assert Ending.CANCELLED is (await executing).ending
                assert 143 == await worker.ended(12)

        run(test)


def test_a_slow_controller() -> None:
    """While a controller fetches nothing the body goes on; dropped records are reported as a gap (G9)."""

    async def test() -> None:
        async with (
            started() as worker,
            breaking(worker.port) as proxy,
            closing(worker.client(port=proxy.port)) as client,
        ):
            told = Telling()
            executing = asyncio.create_task(client.execute(worker.spec("floods"), told.append))
            await told.reach(1)
            proxy.freeze()
            await worker.noted(2)
            proxy.thaw()
            assert Ending.SUCCEEDED is (await executing).ending
            numbers = [int(text.split()[1]) for text in messages(told) if text.startswith("line ")]
            assert numbers == sorted(set(numbers))
            assert len(numbers) > 100
            assert ["floods", "flooded"] == worker.notes

    run(test)


def test_many_half_open_connections() -> None:
    """Streams whose network is gone, as many as a client leaves behind until `lost`, do not keep others out (G7)."""

    async def test() -> None:
        plans = [Plan(down=4500, end="silence") for _ in range(10)]
        async with started() as worker, breaking(worker.port, plans) as proxy:
            hanging: list[asyncio.Task[Any]] = []
            clients = [worker.client(port=proxy.port) for _ in plans]
            for client in clients:
                await client.connect()
                hanging.append(asyncio.create_task(client.execute(worker.spec("waits"), [].append)))
            await worker.noted(1)
            await asyncio.sleep(1.0)
            for task in hanging:
                task.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)
            async with closing(worker.client(QUICK)) as last:
                assert "running" == (await last.connect()).state
                executing = asyncio.create_task(last.execute(worker.spec("waits"), [].append))
                await last.cancel(1.0)
                assert Ending.CANCELLED is (await executing).ending
                await last.ack()
            for client in clients:
                await client.close()
            assert ["waits"] == worker.notes

    run(test)


def test_two_controllers() -> None:
    """The controller with the higher epoch takes over, and all calls of the one before are refused (G15)."""

    async def test() -> None:
        async with (
            started() as worker,
            closing(worker.client(epoch=1)) as first,
            closing(worker.client(epoch=2)) as second,
        ):
            told = Telling()
            executing = asyncio.create_task(first.execute(worker.spec("waits"), told.append))
            await told.reach(2)
            assert "running" == (await second.connect()).state
            with pytest.raises(WorkerRefusedError, match="ABORTED"):
                await executing
            for call in (
                first.connect(),
                first.cancel(0.0),
                first.ack(),
                first.execute(worker.spec("waits"), [].append),
            ):
                with pytest.raises(WorkerRefusedError, match="ABORTED"):
                    await call
            again = Telling()
            executing = asyncio.create_task(second.execute(worker.spec("waits"), again.append))
            await again.reach(2)
            await second.cancel(1.0)
            assert Ending.CANCELLED is (await executing).ending
            assert ["waits"] == worker.notes

    run(test)


def test_a_finished_attempt_is_not_run_again() -> None:
    """Execute of an ended attempt sends its events again and runs nothing; after the ack there is no worker (G13)."""

    async def test() -> None:
        async with started() as worker, closing(worker.client(QUICK)) as client:
            first: list[StepEvent] = []
            again: list[StepEvent] = []
            result = await client.execute(worker.spec("speaks"), first.append)
            assert "ended" == (await client.connect()).state
            async with closing(worker.client(QUICK)) as replay:
                assert result == await replay.execute(worker.spec("speaks"), again.append)
            assert first == again
            with pytest.raises(WorkerRefusedError, match="FAILED_PRECONDITION"):
                await client.execute(worker.spec("quick"), [].append)
            await client.ack()
            assert 0 == await worker.ended(), worker.errors
            assert ["speaks"] == worker.notes

    run(test)


def test_a_later_controller_joins() -> None:
    """It gets the events after the number where its predecessor ended, and need not know the spec."""

    async def test() -> None:
        async with started() as worker, closing(worker.client(epoch=1)) as first:
            before: list[StepEvent] = []
            result = await first.execute(worker.spec("speaks"), before.append, is_numbered=True)
            numbers = [event.seq for event in before if isinstance(event, StreamRecord)]
            for known in (0, numbers[len(numbers) // 2], numbers[-1]):
                after: list[StepEvent] = []
                async with closing(worker.client(epoch=2)) as second:
                    await second.connect()
                    joined = await second.execute(
                        worker.spec("waits"), after.append, is_numbered=True, joins_after=known
                    )
                assert result == joined
                expected = [event for event in before if (event.seq if isinstance(event, StreamRecord) else 1) > known]
                assert expected == after
            assert SAID == messages(before)
            assert sorted(set(numbers)) == numbers
            assert ["speaks"] == worker.notes

    run(test)
