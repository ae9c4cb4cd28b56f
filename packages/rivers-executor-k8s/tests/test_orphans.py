"""What dead controllers have left is removed, and nothing of those that live."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator
from typing import Any

import pytest
from plain_cluster import opened, plain_cluster, plain_pod

from rivers_executor_k8s.api.namespace import Cluster
from rivers_executor_k8s.pod.names import RUN_LABEL
from rivers_executor_k8s.run.lease import LEASE_SECONDS, lease_name
from rivers_executor_k8s.run.orphans import delete_orphans
from rivers_k8s_testing import FakeCluster

NOW = dt.datetime.now(dt.UTC)
OLD = NOW - dt.timedelta(seconds=LEASE_SECONDS + 1)


@pytest.fixture
def fake() -> Iterator[FakeCluster]:
    """A cluster of pods that are not started."""
    with plain_cluster() as cluster:
        yield cluster


def lease(run: str, renewed: dt.datetime, lasts: int = LEASE_SECONDS) -> dict[str, Any]:
    """The lease of a run that was renewed then."""
    return {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": lease_name(run), "labels": labels(run)},
        "spec": {"holderIdentity": "h/1", "leaseTransitions": 0, "renewTime": renewed.isoformat()}
        | {"leaseDurationSeconds": lasts},
    }


def labels(run: str) -> dict[str, str]:
    return {"app.kubernetes.io/managed-by": "rivers", RUN_LABEL: run}


async def pod(cluster: Cluster, run: str) -> None:
    """A pod of a run, made now."""
    manifest = plain_pod(f"{run}-pod")
    manifest["metadata"]["labels"] = labels(run)
    await cluster.create_pod(manifest, deadline=float("inf"), on_wait=print)


async def runs_left(cluster: Cluster) -> tuple[list[str], list[str]]:
    """The runs that have pods, and those that have leases."""
    pods, _ = await cluster.list_pods(RUN_LABEL)
    leases = await cluster.list_leases(RUN_LABEL)
    return [p.metadata.labels[RUN_LABEL] for p in pods], [one["metadata"]["labels"][RUN_LABEL] for one in leases]


def test_dead_and_alive(fake: FakeCluster) -> None:
    """Pods and leases of runs that do not renew go, also a lease without a pod; those of others stay."""

    async def scenario() -> tuple[int, tuple[list[str], list[str]]]:
        async with opened(fake) as cluster:
            for run, renewed in (("dead", OLD), ("alone", OLD), ("alive", NOW), ("own", OLD)):
                await cluster.create_lease(lease(run, renewed))
            for run in ("dead", "alive", "own"):
                await pod(cluster, run)
            return await delete_orphans(cluster, "own", NOW, look_again=0.1), await runs_left(cluster)

    count, (pods, leases) = asyncio.run(scenario())

    assert 1 == count
    assert ["alive", "own"] == sorted(pods)
    assert "alive" in leases
    assert not {"dead", "alone"} & set(leases)


def test_after_an_outage(fake: FakeCluster) -> None:
    """A lease that is renewed as soon as the API server is back is alive, however old it looked."""

    async def scenario() -> tuple[int, tuple[list[str], list[str]]]:
        async with opened(fake) as cluster:
            made = await cluster.create_lease(lease("alive", OLD))
            await pod(cluster, "alive")
            sweeping = asyncio.ensure_future(delete_orphans(cluster, "own", NOW, look_again=1.0))
            await asyncio.sleep(0.3)
            renewed = lease("alive", NOW)
            renewed["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"]
            await cluster.update_lease(lease_name("alive"), renewed)
            return await sweeping, await runs_left(cluster)

    assert (0, (["alive"], ["alive"])) == asyncio.run(scenario())


def test_durable_run_waits_for_its_controller(fake: FakeCluster) -> None:
    """The pods of a durable run stay for as long as its lease says, beyond the time of others, and go then."""

    async def scenario() -> list[int]:
        async with opened(fake) as cluster:
            await cluster.create_lease(lease("durable", OLD, LEASE_SECONDS + 600))
            await pod(cluster, "durable")
            later = NOW + dt.timedelta(seconds=600)
            return [await delete_orphans(cluster, "own", now, look_again=0.1) for now in (NOW, later)]

    assert [0, 1] == asyncio.run(scenario())
