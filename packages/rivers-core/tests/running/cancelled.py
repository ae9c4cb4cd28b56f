"""Bodies that are cancelled while they run, on any executor; importable by any worker."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import rivers as rs
from rivers.events import StepCancelled, StepStarted

__all__ = ["Cancelled", "sleeps", "stubborn", "waits"]

BEGUN = "RIVERS_TEST_BEGUN"
"""The environment variable that names the file which a body makes when it has begun."""


def note_begun() -> None:
    Path(os.environ[BEGUN]).touch()


@rs.Asset
async def waits() -> None:
    note_begun()
    await asyncio.sleep(600)


@rs.Asset
def sleeps() -> None:
    note_begun()
    time.sleep(600)


@rs.Asset(timeout=0.05)
async def stubborn() -> None:
    while True:
        try:
            await asyncio.sleep(600)
        except asyncio.CancelledError:
            pass


class Cancelled:
    """A run of one asset that is cancelled once its body has begun."""

    def __init__(self, asset: rs.Asset, executor: rs.Executor, begun: Path, *, observed: bool) -> None:
        events: list[Any] = []
        with rs.CodeRepository([asset], default_executor=executor) as repository:
            handle = repository.submit(on_event=events.append if observed else None)
            ends = time.monotonic() + 30
            while not begun.exists():
                assert time.monotonic() < ends, "the body does not begin"
                time.sleep(0.005)
            handle.cancel()
            self.result = handle.wait(30)
        begun.unlink()
        self.report = self.result.steps[asset.name]
        self.attempts = [event.attempt for event in events if isinstance(event, StepStarted | StepCancelled)]
        self.failures = [event.failure for event in events if isinstance(event, StepCancelled)]
