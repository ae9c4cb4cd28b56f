"""Await something that depends on the cluster, and report the wait."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

__all__ = ["ANSWER", "CALM", "wait_for"]

T = TypeVar("T")

CALM = 2.0
"""Seconds for which a wait is not reported: on a full cluster a pod waits for one that is just going."""
ANSWER = 5.0
"""Seconds for which an API server that does not answer is not reported."""
LOOK_EVERY = 1.0
"""Seconds between two looks at what is waited for."""


async def wait_for(
    stage: Coroutine[Any, Any, T],
    describe: Callable[[], str],
    report: Callable[[str], None],
    deadline: float = math.inf,
    calm: float = CALM,
) -> T:
    """Return what `stage` returns; report its description when it takes long, and again when that has changed.

    An empty description is not reported.

    `deadline` is a moment of the monotonic clock, `calm` how many seconds are not long yet.

    Raises:
        TimeoutError: it took longer, and was cancelled.
    """
    task = asyncio.ensure_future(stage)
    reported = ""
    patience = calm
    try:
        while not task.done():
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            await asyncio.wait((task,), timeout=min(patience, left))
            patience = LOOK_EVERY
            text = describe()
            if text and text != reported and not task.done() and time.monotonic() < deadline:
                reported = text
                report(text)
        return task.result()
    finally:
        task.cancel()
        await asyncio.wait((task,))
        _ = task.cancelled() or task.exception()  # retrieved, so that asyncio does not log it
