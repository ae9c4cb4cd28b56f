"""The pods of a run: each goes when its attempt is over, and none is left when the session is closed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import pytest
from plain_cluster import asked, opened, until
from sessions import SLEEPS, in_session, made, session_of, spec

import rivers as rs
from rivers.protocol import Ending, Failure, FailureReason, StepResult
from rivers_executor_k8s.run.session import ClusterRunSettings, Session
from rivers_k8s_testing import FakeCluster, Fault

FAILED = StepResult(
    attempt_id="r-s-1",
    ending=Ending.FAILED,
    failure=Failure(reason=FailureReason.ERROR, type="ValueError", message="no good"),
)
SUCCEEDED = StepResult(attempt_id="r-s-1", ending=Ending.SUCCEEDED)


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    """A cluster whose containers sleep."""
    with FakeCluster(command=SLEEPS) as cluster:
        yield cluster


def pods(fake: FakeCluster) -> list[str]:
    return [pod["metadata"]["name"] for pod in fake.pods()]


class TestLeave:
    @pytest.mark.parametrize("result", [SUCCEEDED, FAILED, None], ids=["succeeded", "failed", "unknown"])
    def test_deleted(self, fake: FakeCluster, result: StepResult | None) -> None:
        """The pod of an attempt that is over is deleted, whatever became of it."""

        async def act(session: Session) -> None:
            name, view = await made(session)
            await session.release_pod(name, view, result, hurry=True)
            await until(lambda: view.gone)

            assert [] == pods(fake)
            assert {} == session.views

        in_session(fake, act)

    def test_gone_already(self, fake: FakeCluster) -> None:
        """No deletion is asked for of a pod that is gone."""

        async def act(session: Session) -> None:
            name, view = await made(session)
            fake.delete(name, force=True)
            await until(lambda: view.gone)
            await session.release_pod(name, view, FAILED)

        in_session(fake, act)
        assert 0 == asked(fake, "delete")

    def test_failed_pods_are_kept(self, fake: FakeCluster) -> None:
        """With keep_failed_pods the pod of a failed attempt stays, also after the session; the others go."""

        async def act(session: Session) -> None:
            failed, view = await made(session, "failed")
            succeeded, other = await made(session, "succeeded")
            await session.release_pod(succeeded, other, SUCCEEDED, hurry=True)
            await session.release_pod(failed, view, FAILED)

        in_session(fake, act, keep_failed_pods=True)
        (name,) = pods(fake)
        assert name.startswith("rivers-failed-")

    def test_namesake(self, fake: FakeCluster) -> None:
        """A pod that somebody has made anew under the name is not touched."""

        async def act(session: Session) -> None:
            name, view = await made(session)
            await session.release_pod(name, view, SUCCEEDED)
            await until(lambda: [] == pods(fake))
            await session.cluster.delete_pod(name, "another-uid")
            second, again = await made(session)
            await session.cluster.delete_pod(second, view.pod.metadata.uid if view.pod else "")

            assert [second] == pods(fake)
            await session.release_pod(second, again, FAILED)

        in_session(fake, act)


class TestClose:
    def test_what_it_did_not_know(self, fake: FakeCluster) -> None:
        """A pod with the run's label that turns up while the session closes is deleted: two looks must find none."""

        async def act(session: Session) -> None:
            await made(session)
            late = session.build_manifest(spec("late"))
            fake.faults.add(Fault.slow(0.3), verb="list", times=1)

            async def turn_up() -> None:
                await asyncio.sleep(0.1)
                await session.cluster.create_pod(late, deadline=1e9, on_wait=print)

            session.hold_lease(session.settings, print)
            session.views.clear()
            session.spawn(turn_up())

        in_session(fake, act)
        assert [] == pods(fake)
        assert 3 <= asked(fake, "list")  # the first one is the watch's

    def test_another_controller(self, fake: FakeCluster) -> None:
        """In preflight, when no lease is held, only own pods are deleted: another controller may carry out the run."""

        async def act(session: Session) -> None:
            await made(session)
            other = session.build_manifest(spec("other"))
            await session.cluster.create_pod(other, deadline=1e9, on_wait=print)

        in_session(fake, act)
        assert ["other"] == [pod["metadata"]["labels"]["rivers.io/step"] for pod in fake.pods()]

    @pytest.mark.parametrize("fault", [Fault.status(500), Fault.reset(after=True)], ids=["500", "lost"])
    def test_faults(self, fake: FakeCluster, fault: Fault) -> None:
        """Deletions and lists that fail are asked for again."""

        async def act(session: Session) -> None:
            name, view = await made(session)
            for verb in ("delete", "list"):
                fake.faults.add(fault, verb=verb, times=2)
            await session.release_pod(name, view, FAILED)

        in_session(fake, act)
        assert [] == pods(fake)

    def test_pod_that_does_not_go(self, fake: FakeCluster) -> None:
        """A pod on a lost node is reported, by its name and with how to look for it, when the time is over."""

        async def act() -> list[str]:
            executor = rs.Executor.kubernetes("test:1")
            async with opened(fake) as cluster:
                session = Session(cluster, ClusterRunSettings(executor=executor, run_id="r", image="test:1"), print)
                await session.start()
                name, view = await made(session)
                await until(lambda: view.is_running)
                fake.lose_node(name, toleration=60)
                return await session.close(time.monotonic() + 1.0)

        (problem,) = asyncio.run(act())
        fake.restore_nodes()

        assert "rivers-s-" in problem
        assert "kubectl get pods -n default -l app.kubernetes.io/managed-by=rivers,rivers.io/run=r" in problem


class TestCreateIsCancelled:
    @pytest.mark.parametrize(
        "fault",
        [Fault.slow(0.5), Fault.reset(after=True), Fault.status(503), Fault.slow(0.01), Fault.html()],
        ids=["slow", "answer lost", "503", "quick", "html"],
    )
    @pytest.mark.parametrize("after", [0.0, 0.005, 0.1])
    def test_no_pod(self, fake: FakeCluster, fault: Fault, after: float) -> None:
        """A create that is under way when its attempt is cancelled leaves no pod."""
        fake.faults.add(fault, verb="create", resource="pods", times=2)

        async def act(session: Session) -> None:
            creating = asyncio.ensure_future(session.create(spec(), 0, print, time.monotonic() + 600))
            await asyncio.sleep(after)
            creating.cancel()
            await asyncio.wait((creating,))

        in_session(fake, act)
        assert [] == pods(fake)

    def test_one_that_waits(self, fake: FakeCluster) -> None:
        """A create that waits for a quota, and is cancelled, does not hold up the end of the run."""
        fake.quota(pods=0)

        async def act() -> float:
            async with session_of(fake) as session:
                creating = asyncio.ensure_future(session.create(spec(), 0, print, time.monotonic() + 600))
                await asyncio.sleep(1.0)
                creating.cancel()
                await asyncio.wait((creating,))
                began = time.monotonic()
            return time.monotonic() - began

        took = asyncio.run(act())

        assert took < 8
        assert [] == pods(fake)
