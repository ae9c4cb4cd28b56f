"""One attempt and the workers that it is offered, without a run."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any

from sessions import in_session, spec

from rivers.protocol import Ending
from rivers_executor_k8s.run.session import Session
from rivers_executor_k8s.run.warm_attempt import MAX_WORKERS, WarmAttempt
from rivers_k8s_testing import FakeCluster


class DeadWorkers:
    """Offers workers that do not answer, as idle ones behind ports whose forwarding has broken."""

    def __init__(self) -> None:
        self.discarded = 0
        self.worker = self

    @contextlib.asynccontextmanager
    async def lease(self, holder: Any) -> AsyncIterator[DeadWorkers]:
        yield self

    async def is_alive(self) -> bool:
        return False

    def discard(self, worker: object) -> None:
        self.discarded += 1

    def report(self, holder: object, text: str) -> None: ...


def test_dead_workers(fake: FakeCluster) -> None:
    """An attempt that no idle worker has got is not charged: it is dispatched again."""
    workers = DeadWorkers()

    async def act(session: Session) -> None:
        result = await WarmAttempt(spec(), session, workers).run()  # type: ignore[arg-type]  # all that it uses

        assert Ending.NOT_STARTED is result.ending
        assert MAX_WORKERS == workers.discarded

    in_session(fake, act)


def test_two_launches(fake: FakeCluster) -> None:
    """Two workers that are started for one attempt have pods of their own."""

    async def act(session: Session) -> None:
        attempt = WarmAttempt(spec(), session, DeadWorkers())  # type: ignore[arg-type]  # all that it uses
        launches = [attempt.take_launch() for _ in range(2)]
        await asyncio.gather(*(launch.start() for launch in launches))

        assert 2 == len({launch.name for launch in launches}) == len(fake.pods())

    in_session(fake, act)
