"""A pool in an event loop, with workers that are objects: leases, cancellations, errors, the end."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from rivers_worker.pool import PoolClosedError, StartedWorker, WarmPool, WorkerLease, WorkerRequest


class Machine:
    """A stand-in for a worker."""

    def __init__(self, shape: object) -> None:
        self.shape = shape
        self.lessee: object = None
        self.served = 0


class Platform:
    """Starts and stops machines, each after a random number of turns of the loop, and counts them."""

    def __init__(self, seed: int = 0, *, failing: float = 0.0, **limits: Any) -> None:
        self.random = random.Random(seed)
        self.failing = failing
        self.begun = self.starting = self.most = 0
        self.machines: list[Machine] = []
        self.stopped: list[tuple[Machine, str]] = []
        self.has_stopped = asyncio.Event()
        self.pool: WarmPool[Machine] = WarmPool(self.start, self.stop, **limits)

    @property
    def alive(self) -> int:
        return self.starting + len(self.machines)

    async def turns(self) -> None:
        for _ in range(self.random.randint(0, 4)):
            await asyncio.sleep(0)

    async def start(self, request: WorkerRequest) -> StartedWorker[Machine]:
        self.begun += 1
        self.starting += 1
        self.most = max(self.most, self.alive)
        try:
            await self.turns()
            if self.random.random() < self.failing:
                raise OSError("no room")
            machine = Machine(request.shape)
            self.machines.append(machine)
            return StartedWorker(machine, 5)
        finally:
            self.starting -= 1

    async def stop(self, machine: Machine, reason: str) -> None:
        await self.turns()
        self.machines.remove(machine)
        self.stopped.append((machine, reason))
        self.has_stopped.set()


@pytest.mark.parametrize("seed", range(12))
def test_random_schedules(seed: int) -> None:
    """Whatever is cancelled, fails or dies in whatever order: no place, no worker and no request is lost."""

    async def scenario() -> None:
        platform = Platform(seed, failing=0.1, limit=3, max_attempts=4, patience=0.0)
        chance = platform.random
        unclean: set[Machine] = set()

        async def use(lease: WorkerLease[Machine]) -> None:
            machine = lease.worker
            assert machine.lessee is None
            assert machine not in unclean
            machine.lessee = asyncio.current_task()
            machine.served += 1
            assert machine.served <= 4
            fate = chance.random()
            try:
                if fate < 0.1:
                    platform.pool.discard(machine)
                await platform.turns()
                if fate < 0.2:
                    raise ValueError("a step that crashed")
                lease.keep()
            finally:
                machine.lessee = None
                if fate < 0.2 or not lease._clean:
                    unclean.add(machine)

        async def step(shape: str) -> str:
            try:
                async with platform.pool.lease(WorkerRequest(shape=shape, modules=frozenset(shape))) as lease:
                    assert lease.worker.shape == shape
                    await use(lease)
            except (OSError, ValueError) as error:
                return str(error)
            return "done"

        async def disturb(tasks: list[asyncio.Task[str]]) -> None:
            for task in chance.sample(tasks, 12):
                await platform.turns()
                task.cancel()
                idle = [machine for machine in platform.machines if machine.lessee is None]
                if idle and chance.random() < 0.5:
                    platform.pool.discard(chance.choice(idle))

        tasks = [asyncio.create_task(step(chance.choice("ABC"))) for _ in range(60)]
        await asyncio.gather(disturb(tasks), *tasks, return_exceptions=True)
        assert all(task.cancelled() or task.result() in ("done", "no room", "a step that crashed") for task in tasks)
        assert platform.most <= 3
        async with asyncio.timeout(10):
            platform.failing = 0.0
            for shape in "ABCABC":  # there are as many places as before
                async with platform.pool.lease(WorkerRequest(shape=shape)):
                    pass
        assert [] == await platform.pool.close(5.0)
        assert (0, 0) == (platform.alive, platform.pool.state.size)

    asyncio.run(scenario())


def test_warm() -> None:
    """Steps one after the other use one worker; one that failed spoils it."""

    async def scenario() -> None:
        platform = Platform()
        for _ in range(3):
            async with platform.pool.lease(WorkerRequest(shape="A")) as lease:
                lease.keep()
        assert 1 == platform.begun
        async with platform.pool.lease(WorkerRequest(shape="A")):
            pass
        async with platform.pool.lease(WorkerRequest(shape="A")) as lease:
            lease.keep(attempts=0)
        assert 2 == platform.begun
        await platform.pool.close(5.0)
        reasons = [reason for _, reason in platform.stopped]
        assert ["its last attempt was not clean", "it has served its number of attempts"] == reasons

    asyncio.run(scenario())


def test_idle_for_too_long() -> None:
    """A worker that nobody needs is stopped by itself, without another call."""

    async def scenario() -> None:
        platform = Platform(idle_ttl=0.01)
        async with platform.pool.lease(WorkerRequest(shape="A")) as lease:
            lease.keep()
        async with asyncio.timeout(10):
            await platform.has_stopped.wait()
        assert ["it was idle for 0.01 s"] == [reason for _, reason in platform.stopped]
        await platform.pool.close(5.0)

    asyncio.run(scenario())


def test_close() -> None:
    """The end of a pool fails who waits, cancels starts, stops leased workers, and refuses who comes later."""

    async def scenario() -> None:
        platform = Platform(limit=2)
        held = asyncio.Event()

        async def hold() -> None:
            async with platform.pool.lease(WorkerRequest(shape="A")):
                held.set()
                await asyncio.sleep(60)

        async def wait() -> None:
            async with platform.pool.lease(WorkerRequest(shape="B")):
                raise AssertionError("the pool was closed")

        holding = asyncio.create_task(hold())
        await held.wait()
        waiting = [asyncio.create_task(wait()) for _ in range(3)]
        await asyncio.sleep(0)
        assert [] == await platform.pool.close(5.0)
        assert 0 == platform.alive
        waiting.append(asyncio.create_task(wait()))
        for task in waiting:
            with pytest.raises(PoolClosedError):
                await task
        holding.cancel()
        await asyncio.wait((holding,))
        assert 0 == platform.pool.state.size

    asyncio.run(scenario())


@pytest.mark.parametrize("hanging", ["start", "stop"])
def test_close_has_a_deadline(hanging: str) -> None:
    """A platform that hangs does not hold the end up, and what it has not stopped is named."""

    async def scenario() -> None:
        platform = Platform()

        async def hang(*given: object) -> Any:
            await asyncio.sleep(60)

        pool = WarmPool(hang if hanging == "start" else platform.start, hang)
        request = asyncio.create_task(_use(pool))
        await asyncio.sleep(0.01)
        left = await pool.close(0.05)
        assert (0 if hanging == "start" else 1) == len(left)
        request.cancel()
        await asyncio.wait((request,))
        await platform.pool.close(5.0)

    asyncio.run(scenario())


async def _use(pool: WarmPool[Machine]) -> None:
    async with pool.lease(WorkerRequest(shape="A")):
        await asyncio.sleep(60)


def test_start_that_is_cancelled_by_others() -> None:
    """A start that ends as cancelled, though the pool has not cancelled it, fails its request."""

    async def scenario() -> None:
        async def start(request: WorkerRequest) -> StartedWorker[Machine]:
            raise asyncio.CancelledError

        platform = Platform()
        pool = WarmPool(start, platform.stop)
        with pytest.raises(Exception, match="the start of a worker was cancelled"):
            await _use(pool)
        assert 0 == pool.state.size
        await pool.close(1.0)
        await platform.pool.close(1.0)

    asyncio.run(scenario())
