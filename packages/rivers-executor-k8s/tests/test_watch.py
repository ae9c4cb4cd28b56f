"""The watch tells how pods are, through every fault that a stream and its server can have."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from plain_cluster import SELECTOR, asked, opened, plain_cluster, plain_pod, until

from rivers_executor_k8s.api.client import ApiError
from rivers_executor_k8s.api.namespace import Cluster
from rivers_executor_k8s.api.watch import PodWatch
from rivers_executor_k8s.pod.objects import Pod
from rivers_k8s_testing import FakeCluster, Fault


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    """A cluster of pods that are not started."""
    with plain_cluster() as cluster:
        yield cluster


class Told:
    """The reports of a watch."""

    def __init__(self) -> None:
        self.changes: list[tuple[str, str, str]] = []
        self.last: dict[str, Pod] = {}
        self.gone: list[str] = []

    def changed(self, pod: Pod) -> None:
        assert pod.metadata.name not in self.gone
        self.changes.append((pod.metadata.name, pod.metadata.uid, pod.metadata.resource_version))
        self.last[pod.metadata.name] = pod

    def deleted(self, pod: Pod) -> None:
        self.gone.append(pod.metadata.name)

    def phase(self, name: str) -> str:
        return self.last[name].status.phase if name in self.last else ""


@contextlib.asynccontextmanager
async def watching(
    cluster: Cluster, told: Told, *, every: float = 30.0, silence: float = 75.0
) -> AsyncIterator[PodWatch]:
    """A watch that is going on; it stops quickly."""
    watch = PodWatch(cluster, SELECTOR, told.changed, told.deleted, every=every, silence=silence)
    await watch.start()
    try:
        yield watch
    finally:
        begun = time.monotonic()
        await watch.stop()
        assert time.monotonic() - begun < 2.0


async def made(cluster: Cluster, name: str) -> Pod:
    """A new pod."""
    return await cluster.create_pod(plain_pod(name), deadline=time.monotonic() + 30, on_wait=print)


class TestPods:
    def test_the_life_of_one(self, fake: FakeCluster) -> None:
        """Each state of a pod is told once, in order, and its deletion; pods of others are not."""
        told = Told()

        async def scenario() -> None:
            async with opened(fake) as cluster, watching(cluster, told):
                other = plain_pod("other")
                other["metadata"]["labels"] = {}
                await cluster.create_pod(other, deadline=time.monotonic() + 9, on_wait=print)
                pod = await made(cluster, "p")
                await until(lambda: told.phase("p") == "Succeeded")
                await cluster.delete_pod("p", pod.metadata.uid)
                await until(lambda: bool(told.gone))

        asyncio.run(scenario())
        assert ["p"] == told.gone
        assert {"p"} == set(told.last)
        assert len(told.changes) == len(set(told.changes)) >= 2

    def test_those_that_were_there_before(self, fake: FakeCluster) -> None:
        """Pods that are there already are told at the start."""
        told = Told()

        async def scenario() -> list[str]:
            async with opened(fake) as cluster:
                await made(cluster, "p")
                async with watching(cluster, told):
                    return list(told.last)

        assert ["p"] == asyncio.run(scenario())

    def test_start_says_what_is_refused(self, fake: FakeCluster) -> None:
        """A watch that may not list does not begin."""
        fake.deny("list", "pods")

        async def scenario() -> None:
            async with opened(fake) as cluster, watching(cluster, Told()):
                pass

        with pytest.raises(ApiError, match="403 Forbidden"):
            asyncio.run(scenario())


STREAM_FAULTS = {
    "cut": Fault.cut(events=2),
    "cut in the middle of an event": Fault.cut(events=2, mid_json=True),
    "cut at once": Fault.cut(seconds=0.0),
    "garbage": Fault.line(events=1),
    "null": Fault.line(b"null", events=1),
    "no object": Fault.line(b'{"type":"ADDED"}', events=1),
    "a pod that is none": Fault.line(b'{"type":"ADDED","object":{"metadata":7}}', events=1),
    "unknown type": Fault.unknown_type(events=1),
    "error 410": Fault.error(events=1),
    "error 410 at once": Fault.error(),
    "error 500": Fault.error(500, "internal error", events=1),
    "duplicate": Fault.duplicate(),
    "replay": Fault.replay(events=3),
    "reorder": Fault.reorder(),
    "http 410": Fault.status(410, "too old resource version", reason="Expired"),
    "http 429": Fault.status(429, retry_after=1),
    "http 500": Fault.status(500),
    "html": Fault.html(503),
    "reset": Fault.reset(),
    "stall": Fault.stall(events=1),
}


@pytest.mark.parametrize("name", STREAM_FAULTS)
def test_through_a_fault_of_streams(fake: FakeCluster, name: str) -> None:
    """With a fault in two of three watches all pods are reported to their end (K9, K10, K16-K19)."""
    told = Told()
    fake.faults.add(STREAM_FAULTS[name], verb="watch", rate=0.67, seed=3)
    pods = [f"p{number}" for number in range(10)]

    async def scenario() -> None:
        async with opened(fake) as cluster, watching(cluster, told, silence=0.6):
            uids = {}
            for pod in pods:
                uids[pod] = (await made(cluster, pod)).metadata.uid
                await asyncio.sleep(0.01)
            await until(lambda: all(told.phase(pod) == "Succeeded" for pod in pods), 20.0)
            for pod in pods:
                await cluster.delete_pod(pod, uids[pod])
            await until(lambda: sorted(told.gone) == sorted(pods), 20.0)

    asyncio.run(scenario())
    assert len(told.changes) == len(set(told.changes))
    assert len(pods) == len(told.gone)


class TestLists:
    def test_take_over_where_no_watch_works(self, fake: FakeCluster) -> None:
        """When every watch is too old, lists tell; and there is no storm of requests (K10)."""
        told = Told()
        fake.faults.add(Fault.error(410), verb="watch")

        async def scenario() -> float:
            begun = time.monotonic()
            async with opened(fake) as cluster, watching(cluster, told):
                await asyncio.sleep(3.0)
                await made(cluster, "p")
                await until(lambda: told.phase("p") == "Succeeded", 15.0)
            return time.monotonic() - begun

        seconds = asyncio.run(scenario())
        assert asked(fake, "watch") + asked(fake, "list") < 30 + 2 * seconds

    def test_take_over_where_watching_is_forbidden(self, fake: FakeCluster, caplog: pytest.LogCaptureFixture) -> None:
        """Without the permission to watch, lists tell, and a warning names the verb that is missing."""
        told = Told()
        fake.deny("watch", "pods")

        async def scenario() -> None:
            async with opened(fake) as cluster, watching(cluster, told):
                await made(cluster, "p")
                await until(lambda: told.phase("p") == "Succeeded", 15.0)

        with caplog.at_level(logging.WARNING, "rivers.kubernetes"):
            asyncio.run(scenario())
        (record,) = caplog.records
        assert "pods in namespace 'default' cannot be watched: 403 Forbidden" in record.getMessage()
        assert "the verbs list and watch on pods are needed" in record.getMessage()

    def test_an_outage_is_told_once(self, fake: FakeCluster, caplog: pytest.LogCaptureFixture) -> None:
        """While neither watches nor lists work, each is told once, however long that takes."""

        async def scenario() -> None:
            async with opened(fake) as cluster, watching(cluster, Told(), every=0.1):
                for verb in ("watch", "list"):
                    fake.faults.add(Fault.status(403), verb=verb)
                await until(lambda: asked(fake, "list") >= 6, 30.0)

        with caplog.at_level(logging.WARNING, "rivers.kubernetes"):
            asyncio.run(scenario())
        said = [record.getMessage() for record in caplog.records]
        assert 2 >= len(said)
        assert len(set(said)) == len(said)

    def test_find_what_a_dead_watch_misses(self, fake: FakeCluster) -> None:
        """While a watch is silently dead, each list tells what has changed and what is gone (K16)."""
        told = Told()
        fake.faults.add(Fault.stall(), verb="watch")

        async def scenario() -> None:
            async with opened(fake) as cluster, watching(cluster, told, every=0.3):
                pod = await made(cluster, "p")
                await until(lambda: told.phase("p") == "Succeeded")
                await cluster.delete_pod("p", pod.metadata.uid)
                await until(lambda: bool(told.gone))

        asyncio.run(scenario())
        assert ["p"] == told.gone
        assert 1 == asked(fake, "watch")

    def test_find_a_pod_that_nobody_has_shown(self, fake: FakeCluster) -> None:
        """A pod that was made, and deleted before any list or watch has shown it, is told to be gone."""
        told = Told()
        fake.faults.add(Fault.stall(), verb="watch")

        async def scenario() -> None:
            async with opened(fake) as cluster, watching(cluster, told, every=0.3) as watch:
                fake.faults.add(Fault.html(503), verb="list")
                await asyncio.sleep(0.1)
                pod = await made(cluster, "p")
                watch.observe(pod)
                await cluster.delete_pod("p", pod.metadata.uid)
                fake.faults.clear()
                await until(lambda: bool(told.gone), 20.0)

        asyncio.run(scenario())
        assert ["p"] == told.gone
        assert "Pending" == told.phase("p")

    def test_deletions_while_the_server_is_away(self, fake: FakeCluster) -> None:
        """Pods that are gone when the server is back, without any event of it, are told to be gone (K13)."""
        told = Told()

        async def scenario() -> None:
            async with opened(fake) as cluster, watching(cluster, told):
                await made(cluster, "p")
                await made(cluster, "q")
                await until(lambda: told.phase("q") == "Succeeded")
                with fake.away():
                    fake.delete("p")
                    fake.compact()
                    await asyncio.sleep(1.0)
                await until(lambda: bool(told.gone), 15.0)

        asyncio.run(scenario())
        assert ["p"] == told.gone


def test_history_that_is_forgotten(fake: FakeCluster) -> None:
    """A watch that begins after its version was forgotten goes on from a new list, soon (K9)."""
    told = Told()
    fake.faults.add(Fault.cut(events=1), verb="watch", times=1)

    async def scenario() -> None:
        async with opened(fake) as cluster, watching(cluster, told):
            fake.compact()
            await made(cluster, "p")
            await until(lambda: told.phase("p") == "Succeeded", 3.0)
            fake.compact()
            await made(cluster, "q")
            await until(lambda: told.phase("q") == "Succeeded", 3.0)

    asyncio.run(scenario())


def test_tokens_that_are_renewed(fake: FakeCluster) -> None:
    """A watch that begins when the token is none any more finds the next one (K47)."""
    told = Told()
    fake.faults.add(Fault.cut(seconds=0.3), verb="watch")

    async def scenario() -> None:
        async with opened(fake) as cluster, watching(cluster, told):
            fake.expire_token()
            fake.renew_token()
            await asyncio.sleep(0.5)
            await made(cluster, "p")
            await until(lambda: told.phase("p") == "Succeeded")

    asyncio.run(scenario())


def test_a_listener_that_raises_stops_nothing(fake: FakeCluster, caplog: pytest.LogCaptureFixture) -> None:
    """An error in the handling of one pod is logged, and the other pods are still reported."""
    told = Told()

    def changed(pod: Pod) -> None:
        if pod.metadata.name == "p":
            raise ValueError("a bug")
        told.changed(pod)

    async def scenario() -> None:
        async with opened(fake) as cluster:
            watch = PodWatch(cluster, SELECTOR, changed, told.deleted)
            await watch.start()
            await made(cluster, "p")
            await made(cluster, "q")
            await until(lambda: told.phase("q") == "Succeeded")
            await watch.stop()

    asyncio.run(scenario())
    assert "handling the change of pod p failed" in caplog.text


@pytest.mark.parametrize("fault", [None, Fault.hang(), Fault.stall(), Fault.reset()], ids=str)
def test_stopping_at_any_moment(fake: FakeCluster, fault: Fault | None) -> None:
    """A watch stops at once in whatever it does, and tells nothing after that."""
    told = Told()
    if fault is not None:
        fake.faults.add(fault, verb="watch")

    async def scenario() -> int:
        async with opened(fake) as cluster:
            for delay in (0.0, 0.001, 0.01, random.random() / 10, 0.2):
                async with watching(cluster, told, every=0.05):
                    await asyncio.sleep(delay)
            count = len(told.changes)
            await made(cluster, "p")
            await asyncio.sleep(0.2)
            return len(told.changes) - count

    assert 0 == asyncio.run(scenario())
