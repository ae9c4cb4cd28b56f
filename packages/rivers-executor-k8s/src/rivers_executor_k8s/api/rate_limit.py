"""How fast the API server is asked: as fast as it answers well, and hardly at all while it does not.

* Requests under way: 8 at first, one more for each window of good answers, half as many after a bad one (AIMD).
* Tries after the first: ten a second in all, and one more for each request that went well. Without answers a thousand
  steps ask no more often than ten times a second; among many good answers a few bad ones cost nothing.
* Pauses: full jitter over a range that doubles, never before the moment that the API server has named.

Requests that are made once a run (its lease, its list) do not queue behind those that are made for each step.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import AsyncIterator, Callable

__all__ = ["Limit", "Pace", "Tokens", "pause"]

FIRST, LEAST, MOST = 8, 2, 32
"""Requests under way at first, at least and at most."""
SLOW = 2.0
"""Answers that take so many times the best window's are a sign of overload …"""
QUICK = 0.25
"""… unless they come within this many seconds."""
SETTLE = 1.0
"""Seconds after a halving in which no second one follows: they are the answers to one burst."""
DRIFT = 1.05
"""The best window is forgotten at this rate, as a cluster may become slower for good."""
RATE, BURST = 10.0, 10.0
"""Tries after the first: so many a second, and so many at once."""
SHORTEST, LONGEST = 0.2, 5.0
"""Seconds of a first pause at most, and of any."""

Clock = Callable[[], float]


class Limit:
    """How many requests may be under way (`value`), learned from how they went."""

    def __init__(self) -> None:
        self.value = FIRST
        self._count = 0
        self._sum = 0.0
        self._best: float | None = None
        self._halved = float("-inf")

    def note(self, seconds: float, *, bad: bool, now: float) -> None:
        """A request took so long; `bad` says that the API server was overloaded, or gone."""
        if bad:
            self._halve(now)
            return
        self._count += 1
        self._sum += seconds
        if self._count < self.value:
            return
        mean = self._sum / self._count
        self._count, self._sum = 0, 0.0
        best = mean if self._best is None else self._best * DRIFT
        if mean > QUICK and mean > SLOW * best:
            self._halve(now)
        else:
            self.value = min(MOST, self.value + 1)
        self._best = min(best, mean)

    def _halve(self, now: float) -> None:
        if now - self._halved < SETTLE:
            return
        self._halved = now
        self._count, self._sum = 0, 0.0
        self.value = max(LEAST, self.value // 2)


class Tokens:
    """What tries after the first have to have one of."""

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._have = BURST
        self._counted = clock()
        self._turn = asyncio.Lock()

    def earn(self) -> None:
        """A request went well."""
        self._have = min(BURST, self._have + 1)

    def missing(self) -> float:
        """Seconds until there is one, if none is earned."""
        now = self._clock()
        self._have = min(BURST, self._have + (now - self._counted) * RATE)
        self._counted = now
        return max(0.0, (1 - self._have) / RATE)

    async def take(self, seconds: float) -> bool:
        """Wait for one, at most so many seconds, and take it; who came first has it first."""
        try:
            async with asyncio.timeout(seconds), self._turn:
                while (missing := self.missing()) > 1e-6:  # noqa: ASYNC110 - it comes with time
                    await asyncio.sleep(missing)
                self._have -= 1
        except TimeoutError:
            return False
        return True


class Pace:
    """The pace of one cluster's requests; used from one loop."""

    def __init__(self) -> None:
        self.limit = Limit()
        self.tokens = Tokens()
        self._under_way = 0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @contextlib.asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait until one more request may be under way."""
        if self._under_way < self.limit.value and not self._waiting:
            self._under_way += 1
        else:
            await self._called_up()
        try:
            yield
        finally:
            self._leave()

    def note(self, seconds: float, *, bad: bool = False) -> None:
        """How a request went."""
        self.limit.note(seconds, bad=bad, now=time.monotonic())
        if not bad:
            self.tokens.earn()

    async def _called_up(self) -> None:
        """Wait in the queue; who is called up has its place already."""
        call: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(call)
        try:
            await call
        except asyncio.CancelledError:
            if call.done() and not call.cancelled():
                self._leave()
            raise

    def _leave(self) -> None:
        self._under_way -= 1
        while self._waiting and self._under_way < self.limit.value:
            call = self._waiting.popleft()
            if not call.done():  # else whoever waited has given up
                call.set_result(None)
                self._under_way += 1


def pause(tries: int, retry_after: float | None = None, chance: Callable[[], float] = random.random) -> float:
    """Seconds to wait after so many tries (1 or more)."""
    seconds = chance() * min(LONGEST, SHORTEST * 2.0 ** min(tries - 1, 10))
    return seconds if retry_after is None else retry_after + seconds
