"""A session on a fake cluster, as a backend opens one for a run, without a run."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

from plain_cluster import opened

import rivers as rs
from rivers.protocol import ImportRef, StepSpec
from rivers_executor_k8s.pod.state import PodView
from rivers_executor_k8s.run.dial import Route
from rivers_executor_k8s.run.session import ClusterRunSettings, Session
from rivers_k8s_testing import FakeCluster

SLEEPS = [sys.executable, "-c", "import time; time.sleep(60)"]
"""A container that does nothing, and ends when it is asked to."""


def spec(step: str = "s") -> StepSpec:
    """Of an attempt that is never carried out."""
    ref = ImportRef(module="shop", qualname="orders")
    return StepSpec(run_id="r", step=step, attempt_id=f"r-{step}-1", function=ref)


@contextlib.asynccontextmanager
async def session_of(fake: FakeCluster, route: Route | None = None, **settings: Any) -> AsyncIterator[Session]:
    """A session of run `r` that watches; closing it at the end reports no problem."""
    executor = rs.Executor.kubernetes("test:1", **settings)
    async with opened(fake) as cluster:
        session = Session(
            cluster, ClusterRunSettings(executor=executor, run_id="r", image="test:1", route=route), print
        )
        await session.start()
        yield session
        assert [] == await session.close(time.monotonic() + 20)


def in_session(
    fake: FakeCluster, act: Callable[[Session], Coroutine[Any, Any, None]], route: Route | None = None, **settings: Any
) -> None:
    """Do something in a session."""

    async def run() -> None:
        async with session_of(fake, route, **settings) as session:
            await act(session)

    asyncio.run(run())


async def made(session: Session, step: str = "s") -> tuple[str, PodView]:
    """A pod of the session, just created, and what is known of it."""
    name = session.build_manifest(spec(step))["metadata"]["name"]
    view = session.views[name] = PodView()
    await session.create(spec(step), 0, print, time.monotonic() + 60)
    return name, view
