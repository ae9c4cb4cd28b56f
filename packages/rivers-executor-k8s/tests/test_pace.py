"""How many requests are under way, how often it is tried again, and after which pauses."""

from __future__ import annotations

import asyncio
import random

import pytest

from rivers_executor_k8s.api.rate_limit import BURST, FIRST, LEAST, LONGEST, MOST, RATE, Limit, Pace, Tokens, pause


def after(limit: Limit, answers: int, seconds: float = 0.01, now: float = 0.0) -> int:
    """The limit after so many good answers that took so long."""
    for _ in range(answers):
        limit.note(seconds, bad=False, now=now)
    return limit.value


class TestLimit:
    def test_grows_by_one_a_window(self) -> None:
        """As many good answers as may be under way make it one more, up to its end."""
        limit = Limit()

        assert FIRST == after(limit, FIRST - 1)
        assert FIRST + 1 == after(limit, 1)
        assert FIRST + 2 == after(limit, FIRST + 1)
        assert MOST == after(limit, 10_000)

    def test_halves_once_for_a_burst(self) -> None:
        """Bad answers to requests that were under way together count once; later ones count again, down to its end."""
        limit = Limit()
        for _ in range(5):
            limit.note(0.01, bad=True, now=100.0)

        assert FIRST // 2 == limit.value
        limit.note(0.01, bad=True, now=101.5)
        assert FIRST // 4 == limit.value
        for second in range(10):
            limit.note(0.01, bad=True, now=110.0 + 2 * second)
        assert LEAST == limit.value

    def test_slow_answers_halve_it(self) -> None:
        """A window that took twice as long as the best one is a sign of overload."""
        limit = Limit()
        after(limit, FIRST, 0.3)

        assert (FIRST + 1) // 2 == after(limit, FIRST + 1, 0.7, now=10.0)

    def test_quick_answers_never_do(self) -> None:
        """Answers within a quarter of a second are good, however quick others were."""
        limit = Limit()
        after(limit, FIRST, 0.001)

        assert FIRST + 2 == after(limit, FIRST + 1, 0.2)

    def test_a_cluster_may_become_slower_for_good(self) -> None:
        """What was best is forgotten by and by: an answer that is always slow is no overload."""
        limit = Limit()
        after(limit, FIRST, 0.3)
        for second in range(200):
            after(limit, limit.value, 1.0, now=10.0 * second)

        assert MOST // 2 < limit.value


class TestTokens:
    def test_ten_a_second(self) -> None:
        """After a burst there are ten a second, whoever waits for how long."""
        now = [0.0]
        tokens = Tokens(lambda: now[0])

        async def taken(until: float) -> int:
            count = 0
            while now[0] <= until:
                missing = tokens.missing()
                if missing > 1e-6:
                    now[0] += missing
                else:
                    assert await tokens.take(1.0)
                    count += 1
            return count

        count = asyncio.run(taken(60.0))
        assert abs(BURST + RATE * 60 - count) <= 1

    def test_good_answers_earn_some(self) -> None:
        """Each request that went well allows one more try at once, and they do not pile up."""
        tokens = Tokens(lambda: 0.0)
        for _ in range(1000):
            tokens.earn()

        async def take(count: int) -> None:
            for _ in range(count):
                assert await tokens.take(1.0)

        asyncio.run(take(int(BURST)))
        assert 0.1 == pytest.approx(tokens.missing())
        assert not asyncio.run(tokens.take(0.05))
        tokens.earn()
        assert 0.0 == tokens.missing()


class TestTurns:
    def test_no_more_than_the_limit(self) -> None:
        """As many as the limit allows are under way at once, never more; those who wait come in order."""
        pace = Pace()
        under_way: list[int] = []
        most: list[int] = []
        order: list[int] = []

        async def one(number: int) -> None:
            async with pace.turn():
                order.append(number)
                under_way.append(number)
                most.append(len(under_way))
                await asyncio.sleep(0.001)
                under_way.remove(number)

        async def all_of_them() -> None:
            await asyncio.gather(*(one(number) for number in range(100)))

        asyncio.run(all_of_them())
        assert max(most) == FIRST
        assert list(range(100)) == order

    def test_who_gives_up_takes_no_place(self) -> None:
        """A request that is cancelled while it waits, or just as its turn has come, leaves its place to the next."""
        pace = Pace()
        pace.limit.value = 2
        done: list[int] = []

        async def one(number: int) -> None:
            async with pace.turn():
                await asyncio.sleep(0.001)
                done.append(number)

        async def scenario() -> None:
            chance = random.Random(7)
            tasks = [asyncio.ensure_future(one(number)) for number in range(200)]
            for _ in range(80):
                await asyncio.sleep(0)
                chance.choice(tasks).cancel()
            ended = await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 10)
            assert len(done) == ended.count(None) > 100
            await asyncio.wait_for(asyncio.gather(one(1000), one(1001)), 1)

        asyncio.run(scenario())

    def test_a_smaller_limit_lets_nobody_in(self) -> None:
        """When the limit was halved, the next one comes when enough of those before are done."""
        pace = Pace()

        async def scenario() -> list[bool]:
            entered = [asyncio.Event() for _ in range(5)]
            leave = [asyncio.Event() for _ in range(5)]

            async def one(number: int) -> None:
                async with pace.turn():
                    entered[number].set()
                    await leave[number].wait()

            tasks = [asyncio.ensure_future(one(number)) for number in range(4)]
            await asyncio.sleep(0.01)
            pace.limit.value = 2
            tasks.append(asyncio.ensure_future(one(4)))
            seen = []
            for number in range(3):
                await asyncio.sleep(0.01)
                seen.append(entered[4].is_set())
                leave[number].set()
            await asyncio.sleep(0.01)
            seen.append(entered[4].is_set())
            for event in leave:
                event.set()
            await asyncio.gather(*tasks)
            return seen

        assert [False, False, False, True] == asyncio.run(scenario())


class TestPause:
    @pytest.mark.parametrize(("tries", "longest"), [(1, 0.2), (2, 0.4), (3, 0.8), (6, LONGEST), (500, LONGEST)])
    def test_range_doubles(self, tries: int, longest: float) -> None:
        """A pause is anything up to a bound that doubles with each try."""
        assert 0.0 == pause(tries, chance=lambda: 0.0)
        assert longest == pytest.approx(pause(tries, chance=lambda: 1.0))

    def test_never_before_what_the_server_says(self) -> None:
        """Where the server has named a moment, the pause is added to it, so that not all come at that moment."""
        assert 7.0 == pause(1, 7.0, chance=lambda: 0.0)
        assert 7.2 == pytest.approx(pause(1, 7.0, chance=lambda: 1.0))
