"""Delete the pods and leases of runs whose controller is gone."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

from rivers_executor_k8s.api.namespace import Cluster
from rivers_executor_k8s.pod.names import MANAGED, RUN_LABEL, is_kept_after_failure, label_value
from rivers_executor_k8s.pod.objects import Pod
from rivers_executor_k8s.run.lease import LEASE_SECONDS, RENEW_EVERY, last_update

__all__ = ["delete_orphans"]

SECOND_LOOK = 1.5 * RENEW_EVERY
"""Seconds in which a live controller renews its lease, also after the API server was away."""


async def delete_orphans(cluster: Cluster, own_run: str, now: dt.datetime, *, look_again: float = SECOND_LOOK) -> int:
    """Delete the pods and leases of runs whose controller is gone, and return the number of pods.

    `now` is the API server's time. Runs that renew their lease are left alone; each pod is deleted by its uid. A pod
    without a lease belongs to nobody once it is older than a lease may be: preflight has none. Failed pods that their
    user wanted to keep stay.
    """
    pods, _ = await cluster.list_pods(MANAGED)
    leases = await cluster.list_leases(MANAGED)
    dead = [lease for lease in leases if _seconds(last_update(lease), now) >= _duration(lease)]
    if dead:
        # After an outage of the API server every lease looks stale; live controllers renew theirs meanwhile.
        await asyncio.sleep(look_again)
        found = {lease["metadata"]["resourceVersion"] for lease in await cluster.list_leases(MANAGED)}
        dead = [lease for lease in dead if lease["metadata"]["resourceVersion"] in found]
    gone = {_run_of(lease) for lease in dead}
    alive = {_run_of(lease) for lease in leases} - gone | {label_value(own_run)}
    left = [pod for pod in pods if _is_left(pod, gone, alive, now)]
    for pod in left:
        await cluster.delete_pod(pod.metadata.name, pod.metadata.uid, grace=1)
    for lease in dead:
        await cluster.delete_lease(lease["metadata"]["name"], lease["metadata"]["uid"])
    return len(left)


def _is_left(pod: Pod, gone: set[str], alive: set[str], now: dt.datetime) -> bool:
    run = pod.metadata.labels.get(RUN_LABEL)
    if run is None or run in alive or pod.metadata.deletion_timestamp is not None:
        return False
    if is_kept_after_failure(pod) and pod.status.phase == "Failed":
        return False
    made = pod.metadata.creation_timestamp
    return run in gone or made is None or _seconds(dt.datetime.fromisoformat(made), now) >= LEASE_SECONDS


def _duration(lease: dict[str, Any]) -> float:
    """Return the seconds for which a lease keeps the pods of its run; those of a durable run wait for a controller."""
    return max(float(LEASE_SECONDS), float(lease["spec"].get("leaseDurationSeconds") or 0))


def _run_of(lease: dict[str, Any]) -> str:
    return str(lease["metadata"].get("labels", {}).get(RUN_LABEL, ""))


def _seconds(since: dt.datetime, now: dt.datetime) -> float:
    return (now - since).total_seconds()
