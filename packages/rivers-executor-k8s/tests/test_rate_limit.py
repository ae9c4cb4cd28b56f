"""Limits of concurrent requests, the budget for retries, pauses between retries."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from plain_cluster import opened, plain_cluster, until

from rivers_executor_k8s.api.rate_limit import BURST, CONCURRENT, LONGEST, RATE, RetryBudget, pause
from rivers_k8s_testing import FakeCluster, Fault


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    """A cluster of pods that are not started."""
    with plain_cluster() as cluster:
        yield cluster


class TestRetryBudget:
    def test_ten_a_second(self) -> None:
        """After a burst the budget allows ten retries a second."""
        now = [0.0]
        retries = RetryBudget(lambda: now[0])

        async def taken(until: float) -> int:
            count = 0
            while now[0] <= until:
                missing = retries.missing()
                if missing > 1e-6:
                    now[0] += missing
                else:
                    assert await retries.take(1.0)
                    count += 1
            return count

        count = asyncio.run(taken(60.0))
        assert abs(BURST + RATE * 60 - count) <= 1

    def test_good_answers_earn_some(self) -> None:
        """Each success allows one more retry, up to the burst."""
        retries = RetryBudget(lambda: 0.0)
        for _ in range(1000):
            retries.earn()

        async def take(count: int) -> None:
            for _ in range(count):
                assert await retries.take(1.0)

        asyncio.run(take(int(BURST)))
        assert 0.1 == pytest.approx(retries.missing())
        assert not asyncio.run(retries.take(0.05))
        retries.earn()
        assert 0.0 == retries.missing()


class TestSlots:
    def test_no_more_than_the_limit(self, fake: FakeCluster) -> None:
        """As many requests as the limit allows are under way at once, never more; those that wait come in order."""
        rule = fake.faults.add(Fault.hang(), resource="pods", verb="get", times=CONCURRENT)

        async def scenario() -> tuple[int, int]:
            async with opened(fake) as cluster:
                asking = [asyncio.ensure_future(cluster.get_pod(f"p{number}")) for number in range(CONCURRENT + 4)]
                await until(lambda: rule.hits == CONCURRENT)
                await asyncio.sleep(0.1)
                before = len(fake.requests)
                for task in asking[:4]:
                    task.cancel()  # who gives up leaves its place to the next
                await asyncio.wait(asking[-4:], timeout=5)
                assert all(task.done() for task in asking[-4:])
                for task in asking:
                    task.cancel()
                await asyncio.gather(*asking, return_exceptions=True)
                return before, len(fake.requests)

        assert (CONCURRENT, CONCURRENT + 4) == asyncio.run(scenario())
        assert [f"p{number}" for number in range(CONCURRENT, CONCURRENT + 4)] == [
            request.path.rpartition("/")[2] for request in fake.requests[CONCURRENT:]
        ]

    def test_the_lease_does_not_queue(self, fake: FakeCluster) -> None:
        """Requests that a run sends once do not queue behind those of its steps."""
        rule = fake.faults.add(Fault.hang(), resource="pods", verb="get", times=CONCURRENT)

        async def scenario() -> None:
            async with opened(fake) as cluster:
                asking = [asyncio.ensure_future(cluster.get_pod(f"p{number}")) for number in range(CONCURRENT)]
                await until(lambda: rule.hits == CONCURRENT)
                assert await asyncio.wait_for(cluster.get_lease("run"), 5) is None
                for task in asking:
                    task.cancel()
                await asyncio.gather(*asking, return_exceptions=True)

        asyncio.run(scenario())


class TestPause:
    @pytest.mark.parametrize(("tries", "longest"), [(1, 0.2), (2, 0.4), (3, 0.8), (6, LONGEST), (500, LONGEST)])
    def test_range_doubles(self, tries: int, longest: float) -> None:
        """A pause is anything up to a bound that doubles with each try."""
        assert 0.0 == pause(tries, chance=lambda: 0.0)
        assert longest == pytest.approx(pause(tries, chance=lambda: 1.0))

    def test_never_before_what_the_server_says(self) -> None:
        """The pause is added to Retry-After, so that clients do not return together."""
        assert 7.0 == pause(1, 7.0, chance=lambda: 0.0)
        assert 7.2 == pytest.approx(pause(1, 7.0, chance=lambda: 1.0))
