"""The lease of a run is one controller's at a time, and what dead controllers have left is swept, and nothing else."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest
from plain_cluster import opened, plain_cluster, until

from rivers_executor_k8s.api.client import ApiError
from rivers_executor_k8s.api.namespace import Cluster
from rivers_executor_k8s.pod.manifest import Owner
from rivers_executor_k8s.pod.names import DIGEST, RUN_LABEL, label_value
from rivers_executor_k8s.run.lease import RunLease, RunLeaseHeldError, last_update, lease_name
from rivers_executor_k8s.run.orphans import delete_orphans
from rivers_k8s_testing import FakeCluster, Fault

NOW = dt.datetime.now(dt.UTC)
QUICK = 0.2
"""Seconds between two renewals here."""


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    """A cluster of pods that are not started."""
    with plain_cluster() as cluster:
        yield cluster


def in_cluster(fake: FakeCluster, act: Callable[[Cluster], Awaitable[None]]) -> None:
    """Do something in the loop, with the cluster's client."""

    async def run() -> None:
        async with opened(fake) as cluster:
            await act(cluster)

    asyncio.run(run())


@contextlib.asynccontextmanager
async def taken(cluster: Cluster, run_id: str = "r", **more: Any) -> AsyncIterator[RunLease]:
    """The lock of a run, taken and given back."""
    lock = RunLease(cluster, run_id, None, QUICK, **more)
    await lock.take()
    try:
        yield lock
    finally:
        await lock.release()


async def lease(cluster: Cluster, run_id: str = "r") -> dict[str, Any]:
    found = await cluster.get_lease(lease_name(label_value(run_id)))
    assert found is not None
    return found


def held(
    run_id: str, *, age: float = 0.0, holder: str = "elsewhere/1", epoch: int = 0, told: float | None = None
) -> dict[str, Any]:
    """The lease of another controller, renewed `age` seconds ago by its clock, `told` ago by the API server's."""
    fields = [] if told is None else [{"manager": "x", "time": _text(told)}, {"manager": "y", "time": _text(told + 50)}]
    spec = {
        "holderIdentity": holder,
        "renewTime": (NOW - dt.timedelta(seconds=age)).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "leaseTransitions": epoch,
    }
    name = lease_name(label_value(run_id))
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {
            "name": name,
            "managedFields": fields,
            "labels": {"app.kubernetes.io/managed-by": "rivers", "rivers.io/run": label_value(run_id)},
        },
        "spec": spec,
    }


def build_labels(run: str) -> dict[str, str]:
    return {"app.kubernetes.io/managed-by": "rivers", RUN_LABEL: run}


def _text(age: float) -> str:
    return (NOW - dt.timedelta(seconds=age)).strftime("%Y-%m-%dT%H:%M:%SZ")


class TestTake:
    def test_free(self, fake: FakeCluster) -> None:
        """A run without a controller is taken at once, with epoch 0, and its lease is gone afterwards."""

        async def act(cluster: Cluster) -> None:
            async with taken(cluster) as lock:
                assert 0 == lock.epoch
                assert 0 == (await lease(cluster))["spec"]["leaseTransitions"]

            assert await cluster.get_lease("rivers-run-r") is None

        in_cluster(fake, act)

    def test_owner(self, fake: FakeCluster) -> None:
        """In the cluster the controller's pod owns the lease, which goes with it."""

        async def act(cluster: Cluster) -> None:
            lock = RunLease(cluster, "r", Owner("me", "uid-1"), QUICK)
            await lock.take()
            (owner,) = (await lease(cluster))["metadata"]["ownerReferences"]
            await lock.release()

            assert ("me", "uid-1") == (owner["name"], owner["uid"])

        in_cluster(fake, act)

    def test_renewed(self, fake: FakeCluster) -> None:
        """The lease is renewed for as long as it is held."""

        async def act(cluster: Cluster) -> None:
            async with taken(cluster):
                seen = {(await lease(cluster))["spec"]["renewTime"]}
                while len(seen) < 3:
                    await asyncio.sleep(QUICK / 4)
                    seen.add((await lease(cluster))["spec"]["renewTime"])

        in_cluster(fake, act)

    @pytest.mark.parametrize(
        "fault", [Fault.reset(after=True), Fault.status(500), Fault.html()], ids=["lost", "500", "html"]
    )
    def test_faults(self, fake: FakeCluster, fault: Fault) -> None:
        """A create or an update that fails, or whose answer is lost, is no second controller."""
        fake.faults.add(fault, verb="create", resource="leases", times=2)
        fake.faults.add(fault, verb="update", resource="leases", times=2)

        async def act(cluster: Cluster) -> None:
            async with taken(cluster) as lock:
                first = (await lease(cluster))["spec"]["renewTime"]
                renewed = 0
                while renewed < 3:
                    await asyncio.sleep(QUICK)
                    renewed += (await lease(cluster))["spec"]["renewTime"] != first

                assert 0 == lock.epoch
                assert not lock.lost

        in_cluster(fake, act)

    def test_refused(self, fake: FakeCluster) -> None:
        """A user who may not create leases gets the API server's own error."""
        fake.deny("create", "leases")

        async def act(cluster: Cluster) -> None:
            with pytest.raises(ApiError, match="403"):
                await RunLease(cluster, "r", None).take()

        in_cluster(fake, act)


class TestTakeOver:
    def test_alive(self, fake: FakeCluster) -> None:
        """A run whose controller renews its lease cannot be taken; the error names the holder."""

        async def act(cluster: Cluster) -> None:
            other = RunLease(cluster, "r", None, QUICK)
            async with taken(cluster) as first:
                first._holder = "elsewhere/1"
                await asyncio.sleep(2 * QUICK)
                with pytest.raises(RunLeaseHeldError, match="elsewhere/1"):
                    await other.take()
                await other.release()

                assert not first.lost
                assert 0 == (await lease(cluster))["spec"]["leaseTransitions"]

        in_cluster(fake, act)

    def test_dead(self, fake: FakeCluster) -> None:
        """A lease that is not renewed is taken over with a higher epoch."""

        async def act(cluster: Cluster) -> None:
            await cluster.create_lease(held("r", epoch=4))
            async with taken(cluster) as lock:
                assert 5 == lock.epoch
                assert 5 == (await lease(cluster))["spec"]["leaseTransitions"]

        in_cluster(fake, act)

    def test_given_back_meanwhile(self, fake: FakeCluster) -> None:
        """A holder that ends while somebody waits for its lease leaves it to that one."""

        async def act(cluster: Cluster) -> None:
            made = await cluster.create_lease(held("r"))
            taking = asyncio.ensure_future(RunLease(cluster, "r", None, QUICK).take())
            await asyncio.sleep(QUICK)
            await cluster.delete_lease("rivers-run-r", made["metadata"]["uid"])

            assert isinstance(await taking, dt.datetime)

        in_cluster(fake, act)

    def test_two_at_once(self, fake: FakeCluster) -> None:
        """Of two that take over a dead run's lease at once one gets it, and the other's error names it."""

        async def act(cluster: Cluster) -> None:
            await cluster.create_lease(held("r"))
            locks = [RunLease(cluster, "r", None, QUICK) for _ in range(2)]
            for number, lock in enumerate(locks):
                lock._holder = f"host/{number}"
            ends = await asyncio.gather(*(lock.take() for lock in locks), return_exceptions=True)
            for lock, end in zip(locks, ends, strict=True):
                if isinstance(end, dt.datetime):
                    await lock.release()

            assert {dt.datetime, RunLeaseHeldError} == {type(end) for end in ends}

        in_cluster(fake, act)

    def test_taken_from_us(self, fake: FakeCluster) -> None:
        """Whose lease was taken over knows it at the next renewal, and leaves it to the other."""

        async def act(cluster: Cluster) -> None:
            async with taken(cluster) as lock:
                other = held("r", epoch=1)
                other["metadata"]["resourceVersion"] = (await lease(cluster))["metadata"]["resourceVersion"]
                await cluster.update_lease("rivers-run-r", other)
                await until(lambda: lock.lost)

            assert "elsewhere/1" == (await lease(cluster))["spec"]["holderIdentity"]

        in_cluster(fake, act)

    def test_renewed_late(self, fake: FakeCluster) -> None:
        """A renewal that was given up, and that a hanging API server carries out later, takes nothing from us."""

        async def act(cluster: Cluster) -> None:
            async with taken(cluster) as lock:
                late = await lease(cluster)
                late["spec"]["renewTime"] = (NOW - dt.timedelta(seconds=5)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
                late = await cluster.update_lease("rivers-run-r", late)
                await asyncio.sleep(5 * QUICK)

                assert not lock.lost
                assert late["spec"]["renewTime"] < (await lease(cluster))["spec"]["renewTime"]
            assert await cluster.get_lease("rivers-run-r") is None

        in_cluster(fake, act)

    def test_deleted(self, fake: FakeCluster) -> None:
        """A lease that somebody has deleted is lost."""

        async def act(cluster: Cluster) -> None:
            async with taken(cluster) as lock:
                await cluster.delete_lease("rivers-run-r", (await lease(cluster))["metadata"]["uid"])
                await until(lambda: lock.lost)

        in_cluster(fake, act)


class TestLastUpdate:
    def test_by_the_api_server(self) -> None:
        """The API server's latest record counts, and not the holder's clock."""
        found = last_update(held("r", age=5000.0, told=3.0))

        assert 3 <= (NOW - found).total_seconds() < 5

    def test_by_the_holder(self) -> None:
        """Without such notes the holder's word counts."""
        assert 7 == round((NOW - last_update(held("r", age=7.0))).total_seconds())


def pod(name: str, run: str, *, keep: bool = False) -> dict[str, Any]:
    labels = {**build_labels(run), "rivers.io/keep-failed": str(keep).lower()}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": labels, "annotations": {DIGEST: "x"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "rivers-step", "image": "test:1"}]},
    }


class TestSweep:
    def swept(self, fake: FakeCluster, leases: list[dict[str, Any]], later: float = 100.0) -> tuple[int, list[str]]:
        """How many pods were swept `later` seconds from now, and the leases that are left."""
        left: list[str] = []
        count = [0]

        async def act(cluster: Cluster) -> None:
            for one in leases:
                await cluster.create_lease(one)
            count[0] = await delete_orphans(
                cluster, "own", dt.datetime.now(dt.UTC) + dt.timedelta(seconds=later), look_again=QUICK
            )
            for one in leases:
                if await cluster.get_lease(one["metadata"]["name"]) is not None:
                    left.append(one["metadata"]["name"])

        in_cluster(fake, act)
        return count[0], left

    def create(self, fake: FakeCluster, *pods: dict[str, Any]) -> None:
        async def act(cluster: Cluster) -> None:
            for one in pods:
                await cluster.create_pod(one, deadline=1e9, on_wait=print)

        in_cluster(fake, act)

    def names(self, fake: FakeCluster) -> list[str]:
        return sorted(found["metadata"]["name"] for found in fake.pods())

    def test_dead_run(self, fake: FakeCluster) -> None:
        """Pods and lease of a run whose controller is gone are deleted, each by its uid."""
        self.create(fake, pod("a", "dead"), pod("b", "dead"))

        assert (2, []) == self.swept(fake, [held("dead", age=100.0)])
        assert [] == self.names(fake)

    def test_no_lease(self, fake: FakeCluster) -> None:
        """Pods of a run without a lease are swept once they are older than a lease may be."""
        self.create(fake, pod("a", "dead"))
        since = (dt.datetime.now(dt.UTC) - NOW).total_seconds()

        assert (1, []) == self.swept(fake, [], later=since + 100.0)
        assert [] == self.names(fake)

    def test_preflight_of_another(self, fake: FakeCluster) -> None:
        """A young pod without a lease may be the one that another controller's preflight asks: it stays."""
        self.create(fake, pod("a", "other-preflight"))

        assert (0, []) == self.swept(fake, [], later=5.0)
        assert ["a"] == self.names(fake)

    @pytest.mark.parametrize(
        "lease", [held("live", age=-2000.0), held("live", age=5000.0, told=-2000.0)], ids=["by its word", "wrong clock"]
    )
    def test_live_run(self, fake: FakeCluster, lease: dict[str, Any]) -> None:
        """Nothing of a run that renews its lease is touched, however wrong its clock is."""
        self.create(fake, pod("a", "live"))

        assert (0, ["rivers-run-live"]) == self.swept(fake, [lease])
        assert ["a"] == self.names(fake)

    def test_clock_of_a_dead_run(self, fake: FakeCluster) -> None:
        """A dead controller whose clock ran ahead is swept all the same: the API server's notes count."""
        self.create(fake, pod("a", "dead"))

        assert (1, []) == self.swept(fake, [held("dead", age=-5000.0, told=100.0)])

    def test_own_run(self, fake: FakeCluster) -> None:
        """What is our own is no orphan."""
        self.create(fake, pod("a", "own"))

        assert (0, []) == self.swept(fake, [])
        assert ["a"] == self.names(fake)

    def test_not_ours(self, fake: FakeCluster) -> None:
        """A pod that rivers has not made is never touched."""
        stranger = pod("a", "dead")
        stranger["metadata"]["labels"]["app.kubernetes.io/managed-by"] = "somebody"
        self.create(fake, stranger)

        assert (0, []) == self.swept(fake, [])
        assert ["a"] == self.names(fake)

    def test_kept(self) -> None:
        """A failed pod that its user wanted to keep stays, and the others of its run go."""
        fails = [sys.executable, "-c", "raise SystemExit(10)"]
        with FakeCluster(command=fails) as fake:
            self.create(fake, pod("kept", "dead", keep=True), pod("b", "dead"))
            for name in ("kept", "b"):
                fake.wait_for(name, "Failed")

            assert (1, []) == self.swept(fake, [held("dead", age=100.0)])
            assert ["kept"] == self.names(fake)

    def test_namesake(self, fake: FakeCluster) -> None:
        """A pod that was made anew under the name of one that is to be swept is not that one."""
        self.create(fake, pod("a", "dead"))
        old = fake.pods()[0]["metadata"]["uid"]
        fake.delete("a", force=True)
        self.create(fake, pod("a", "live"))

        async def act(cluster: Cluster) -> None:
            await cluster.delete_pod("a", old, grace=1)

        in_cluster(fake, act)
        assert ["a"] == self.names(fake)


@pytest.mark.parametrize(("found", "given", "epoch"), [(None, 3, 3), (1, 3, 3), (5, 3, 6)])
def test_epoch_of_the_journal(fake: FakeCluster, found: int | None, given: int, epoch: int) -> None:
    """The epoch is above that of every earlier holder, and at least the one that the record says."""

    async def act(cluster: Cluster) -> None:
        if found is not None:
            await cluster.create_lease(held("r", epoch=found))
        async with taken(cluster, epoch=given, lasts=200.5) as lock:
            spec = (await lease(cluster))["spec"]
            assert (epoch, epoch, 201) == (lock.epoch, spec["leaseTransitions"], spec["leaseDurationSeconds"])
            assert "Lease" == lock.as_owner.reference()["kind"]

    in_cluster(fake, act)
