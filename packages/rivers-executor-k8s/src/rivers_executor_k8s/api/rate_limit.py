"""Limit the requests to the API server: how many at once, how many retries a second, and the pauses between retries."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable

__all__ = ["RateLimiter", "RetryBudget", "pause"]

# Requests at once
CONCURRENT = 16
# Retries: so many a second, and so many at once
RATE, BURST = 10.0, 10.0
# Upper bounds of the first pause and of any, in seconds
SHORTEST, LONGEST = 0.2, 5.0

Clock = Callable[[], float]


class RetryBudget:
    """The retries that may be sent: `RATE` a second, and one more for each request that succeeded.

    While the API server answers nothing, a thousand steps send no more than `RATE` requests a second; among many
    successes a few errors cost no time.
    """

    def __init__(self, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._tokens = BURST
        self._updated = clock()
        self._turn = asyncio.Lock()

    def earn(self) -> None:
        """Allow one more retry, because a request succeeded."""
        self._tokens = min(BURST, self._tokens + 1)

    def missing(self) -> float:
        """Return the seconds until the next retry."""
        now = self._clock()
        self._tokens = min(BURST, self._tokens + (now - self._updated) * RATE)
        self._updated = now
        return max(0.0, (1 - self._tokens) / RATE)

    async def take(self, seconds: float) -> bool:
        """Wait for a retry in the order of the calls and take it; return False after so many seconds."""
        try:
            async with asyncio.timeout(seconds), self._turn:
                while (missing := self.missing()) > 1e-6:  # noqa: ASYNC110 - time refills the budget
                    await asyncio.sleep(missing)
                self._tokens -= 1
        except TimeoutError:
            return False
        return True


class RateLimiter:
    """The limits of one cluster's requests: `slots` for those under way, `retries` for those that are repeated."""

    # A limit that grows and shrinks with the answers (AIMD, 8 to 32) was no better for 1,000 creates: 58 s against 58 s
    # where half met 429 with Retry-After 1; 20 s against 16 s, and 6.2 s against 5.1 s, where the server takes 4 or 12
    # requests at once for 20 ms each and refuses those beyond twice as many.
    def __init__(self) -> None:
        self.slots = asyncio.Semaphore(CONCURRENT)
        self.retries = RetryBudget()


def pause(tries: int, retry_after: float | None = None, chance: Callable[[], float] = random.random) -> float:
    """Return the seconds to wait after so many tries (1 or more): full jitter over a range that doubles.

    `retry_after` seconds, which the API server asked for, are added, so that not all clients return at that moment.
    """
    seconds = chance() * min(LONGEST, SHORTEST * 2.0 ** min(tries - 1, 10))
    return seconds if retry_after is None else retry_after + seconds
